// Tensor: a view of typed storage on a device.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace wattle {

/// Shape and dtype of a result that does not exist yet.
struct Meta {
  Shape shape;
  DType dtype = DType::f32;
  std::string str() const;  ///< "f32 [2, 3]"
};

/// Bytes that a tensor of this shape takes: rows * ceil(last / block) * bytes per block.
int64_t storage_bytes(const Shape& shape, DType dtype);
/// Strides of a row-major tensor; a row of a packed dtype is followed by the rest of its last
/// block.
Shape row_major_strides(const Shape& shape, DType dtype);

/// A block of memory, shared by all views of it.
struct Storage {
  Storage(int64_t nbytes, Device device);  ///< allocates, except on meta
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data = nullptr;
  int64_t nbytes = 0;
  Device device;
  /// Grows with every write in place; a tape compares it with what it saw when it saved a tensor.
  uint64_t version = 0;
  const char* last_writer = "nothing";  ///< name of the op that wrote last
};

class Tensor;

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  Shape shape;
  Shape strides;  ///< in elements
  int64_t offset = 0;
  DType dtype = DType::f32;
  bool requires_grad = false;
  uint64_t uid = 0;  ///< never used twice in a process
  std::shared_ptr<TensorImpl> grad;
};

/// A shared handle; copying it does not copy data. A default-constructed Tensor is undefined and
/// stands for an optional operand that is not given.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}

  /// Uninitialised. Throws shape_error for negative sizes.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = cpu);
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32,
                     Device device = cpu);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = cpu) {
    return full(shape, 0, dtype, device);
  }
  static Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = cpu) {
    return full(shape, 1, dtype, device);
  }
  /// Copies `values` (row-major) into a new tensor; throws shape_error when their number differs.
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);
  /// A 0-dimensional tensor.
  static Tensor scalar(double value, DType dtype = DType::f32) { return full({}, value, dtype); }

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return impl_->shape; }
  const Shape& strides() const { return impl_->strides; }
  int rank() const { return impl_->shape.rank(); }
  /// Size of dimension i; negative i counts from the end.
  int64_t size(int i) const { return impl_->shape[i < 0 ? i + rank() : i]; }
  int64_t numel() const { return impl_->shape.numel(); }
  int64_t nbytes() const { return storage_bytes(impl_->shape, impl_->dtype); }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->storage->device; }
  bool is_meta() const { return device().kind == DeviceKind::meta; }
  uint64_t uid() const { return impl_->uid; }
  Storage& storage() const { return *impl_->storage; }
  int64_t offset() const { return impl_->offset; }
  bool is_contiguous() const;
  Meta meta() const { return {impl_->shape, impl_->dtype}; }
  std::string str() const;  ///< "f32 [2, 3]" or "undefined"

  /// Pointer to the first element. Throws dtype_error when T is not the element type, device_error
  /// when the data is not in host memory.
  template <class T>
  T* data() const {
    return static_cast<T*>(host_data(dtype_of<T>()));
  }
  /// The same without a type, for code that moves bytes; not for meta tensors.
  void* raw() const;
  /// The single element as a double; throws shape_error when numel() != 1.
  double item() const;
  /// All elements, row-major, converted to T. For tests, printing and files; not counted.
  template <class T>
  std::vector<T> values() const;

  bool requires_grad() const { return impl_->requires_grad; }
  /// Marks a leaf whose gradient Tape::backward accumulates into grad(). Only floating tensors.
  Tensor& set_requires_grad(bool on = true);
  /// The accumulated gradient, undefined before the first backward.
  Tensor grad() const { return Tensor(impl_->grad); }
  void set_grad(const Tensor& g) { impl_->grad = g.impl_; }
  void zero_grad() { impl_->grad.reset(); }
  /// Takes over the storage and dtype of `t`, for every handle of this tensor; its gradient is
  /// dropped. Throws shape_error when the shapes differ. For converting parameters in place.
  void set_data(const Tensor& t);
  /// The same data under a new identity that no tape knows.
  Tensor detach() const;

  /// The same elements on another device (this tensor itself when it is there already); a copy of
  /// the storage that it views, so that its strides stay. Not counted as work.
  Tensor to(Device device) const;
  /// Overwrites the elements with those of a tensor of the same shape and dtype on any device; both
  /// contiguous. Throws shape_error or dtype_error otherwise.
  void copy_from(const Tensor& t);

  /// A view of the same storage; `offset` and `strides` in elements. Used by the view ops.
  Tensor alias(const Shape& shape, const Shape& strides, int64_t offset) const;

 private:
  void* host_data(DType expected) const;
  std::shared_ptr<TensorImpl> impl_;
};

/// Calls fn(linear, offset) for every element of `t` in row-major order; offset in elements from
/// the first.
template <class F>
void for_each_offset(const Shape& shape, const Shape& strides, F&& fn) {
  const int64_t n = shape.numel();
  int64_t index[Shape::max_rank] = {};
  int64_t offset = 0;
  for (int64_t i = 0; i < n; ++i) {
    fn(i, offset);
    for (int d = shape.rank() - 1; d >= 0; --d) {
      offset += strides[d];
      if (++index[d] < shape[d]) break;
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
}

/// Calls fn.template operator()<T>() with the C++ type of `t`; throws dtype_error naming `what` for
/// a packed type, which has none.
template <class F>
decltype(auto) dispatch_all(const char* what, DType t, F&& fn);
/// The same for f32, f64 and the counting scalar only.
template <class F>
decltype(auto) dispatch_floating(const char* what, DType t, F&& fn);

}  // namespace wattle

#include "core/tensor_inl.h"
