#include "core/tensor.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/codec.h"
#include "core/parallel.h"

namespace wattle {
namespace {
std::atomic<uint64_t> next_uid{1};
}

std::string Meta::str() const { return wattle::str(name(dtype), " ", shape); }

int64_t storage_bytes(const Shape& shape, DType dtype) {
  const DTypeInfo& d = info(dtype);
  if (d.block == 1) return shape.numel() * d.bytes;
  const int64_t last = shape.empty() ? 1 : shape.back();
  const int64_t rows = shape.empty() ? 1 : shape.numel(0, shape.rank() - 1);
  return rows * ((last + d.block - 1) / d.block) * d.bytes;
}

Shape row_major_strides(const Shape& shape, DType dtype) {
  Shape s = contiguous_strides(shape);
  const int64_t block = info(dtype).block;
  if (block == 1 || shape.rank() < 2) return s;
  int64_t step = (shape.back() + block - 1) / block * block;
  for (int i = shape.rank() - 2; i >= 0; --i) {
    s[i] = step;
    step *= shape[i];
  }
  return s;
}

Storage::Storage(int64_t n, Device d) : nbytes(n), device(d) {
  if (d.kind != DeviceKind::meta) data = allocator(d).allocate(n);
}

Storage::~Storage() {
  if (data) allocator(device).deallocate(data, nbytes);
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  checked_numel("Tensor::empty", shape);
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = std::make_shared<Storage>(storage_bytes(shape, dtype), device);
  impl->shape = shape;
  impl->strides = row_major_strides(shape, dtype);
  impl->dtype = dtype;
  impl->uid = next_uid.fetch_add(1, std::memory_order_relaxed);
  if (dtype == DType::counted && device.kind == DeviceKind::cpu)
    for (int64_t i = 0; i < shape.numel(); ++i)
      new (static_cast<Counted*>(impl->storage->data) + i) Counted();
  return Tensor(std::move(impl));
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  if (t.is_meta()) return t;
  if (device.kind != DeviceKind::cpu) {
    if (!is_coded(dtype)) allocator(device).fill(t.raw(), t.numel(), dtype, value);
    else t.copy_from(full(shape, value, dtype, cpu));
    return t;
  }
  if (value == 0 && dtype != DType::counted && dtype != DType::e8m0) {
    std::memset(t.storage().data, 0, static_cast<size_t>(t.storage().nbytes));
    return t;
  }
  if (is_coded(dtype)) {
    const std::vector<double> x(static_cast<size_t>(t.numel()), value);
    encode(x.data(), t);
    return t;
  }
  dispatch_all("full", dtype, [&]<class T>() {
    T* const p = t.data<T>();
    const T x = static_cast<T>(value);
    parallel_for(t.numel(), 1 << 18,
                 [&](int64_t begin, int64_t end) { std::fill(p + begin, p + end, x); });
  });
  return t;
}

bool Tensor::is_contiguous() const {
  const int64_t block = info(dtype()).block;
  int64_t step = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape()[i] != 1 && strides()[i] != step) return shape().numel() == 0;
    step *= shape()[i];
    if (i == rank() - 1) step = (step + block - 1) / block * block;
  }
  return true;
}

void Tensor::set_data(const Tensor& t) {
  if (t.shape() != shape())
    throw shape_error(wattle::str("set_data: found ", t, ", expected the shape of ", *this));
  impl_->storage = t.impl_->storage;
  impl_->strides = t.impl_->strides;
  impl_->offset = t.impl_->offset;
  impl_->dtype = t.impl_->dtype;
  impl_->uid = next_uid.fetch_add(1, std::memory_order_relaxed);
  impl_->grad.reset();
}

std::string Tensor::str() const { return defined() ? meta().str() : std::string("undefined"); }

void* Tensor::raw() const {
  if (is_meta()) throw device_error(wattle::str("tensor ", *this, " is on meta and has no data"));
  const DTypeInfo& d = info(dtype());
  return static_cast<char*>(storage().data) + offset() / d.block * d.bytes;
}

void* Tensor::host_data(DType expected) const {
  if (dtype() != expected)
    throw dtype_error(wattle::str("tensor ", *this, " read as ", name(expected)));
  if (device().kind != DeviceKind::cpu)
    throw device_error(
        wattle::str("tensor ", *this, " is on ", device(), ", expected host memory"));
  return raw();
}

double Tensor::item() const {
  if (numel() != 1)
    throw shape_error(wattle::str("item: found ", *this, ", expected a single element"));
  return values<double>()[0];
}

Tensor& Tensor::set_requires_grad(bool on) {
  if (on && !is_floating(dtype()))
    throw dtype_error(wattle::str("requires_grad: found ", *this, ", expected a floating dtype"));
  impl_->requires_grad = on;
  return *this;
}

Tensor Tensor::to(Device to) const {
  if (to == device()) return *this;
  const Storage& from = storage();
  auto made = std::make_shared<Storage>(from.nbytes, to);
  if (to.kind != DeviceKind::meta && from.nbytes > 0) {
    if (is_meta())
      throw device_error(wattle::str("to: tensor ", *this, " is on meta, has no data"));
    if (to.kind == DeviceKind::cpu)
      allocator(device()).copy_to_host(made->data, from.data, from.nbytes);
    else allocator(to).copy_from_host(made->data, from.data, from.nbytes);
  }
  Tensor t = alias(shape(), strides(), offset());
  t.impl_->storage = std::move(made);
  return t;
}

void Tensor::copy_from(const Tensor& t) {
  if (t.shape() != shape() || t.dtype() != dtype())
    throw shape_error(wattle::str("copy_from: found ", t, ", expected ", *this));
  if (!is_contiguous() || !t.is_contiguous())
    throw shape_error("copy_from: both tensors must be contiguous");
  if (nbytes() == 0) return;
  if (device().kind == DeviceKind::cpu)
    allocator(t.device()).copy_to_host(raw(), t.raw(), nbytes());
  else if (t.device().kind == DeviceKind::cpu)
    allocator(device()).copy_from_host(raw(), t.raw(), nbytes());
  else copy_from(t.to(cpu));
  ++storage().version;
  storage().last_writer = "copy_from";
}

Tensor Tensor::detach() const { return alias(shape(), strides(), offset()); }

Tensor Tensor::alias(const Shape& shape, const Shape& strides, int64_t offset) const {
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = impl_->storage;
  impl->shape = shape;
  impl->strides = strides;
  impl->offset = offset;
  impl->dtype = impl_->dtype;
  impl->uid = next_uid.fetch_add(1, std::memory_order_relaxed);
  return Tensor(std::move(impl));
}

void throw_no_dtype(const char* what, DType t, const char* expected) {
  throw dtype_error(str(what, ": found dtype ", name(t), ", expected ", expected));
}

}  // namespace wattle
