// contiguous(x) = x with row-major storage. The gradient passes through unchanged.
#include <cstring>

#include "core/codec.h"
#include "ops/rules.h"

namespace wattle {
namespace {

// x any strides, y row-major. Rows of the last dimension are copied at once when they are dense.
template <class T>
void copy(const Tensor& x, const T* src, T* dst) {
  const int last = x.rank() - 1;
  const bool dense = last >= 0 && x.strides()[last] == 1;
  const int64_t row = dense ? x.size(last) : 1;
  if (row == 0) return;
  Shape outer = x.shape();
  if (dense) outer[last] = 1;
  for_each_offset(outer, x.strides(), [&](int64_t i, int64_t offset) {
    for (int64_t k = 0; k < row; ++k) dst[i * row + k] = src[offset + k];
  });
}

// Codes are moved as they are; rows of a packed dtype, whole.
void copy_codes(const Tensor& x, const Tensor& y) {
  const DTypeInfo& d = info(x.dtype());
  if (d.block == 1 && d.bytes == 1)
    return copy(x, static_cast<uint8_t*>(x.raw()), static_cast<uint8_t*>(y.raw()));
  if (d.block == 1 && d.bytes == 2)
    return copy(x, static_cast<uint16_t*>(x.raw()), static_cast<uint16_t*>(y.raw()));
  if (d.block == 1)
    return copy(x, static_cast<uint32_t*>(x.raw()), static_cast<uint32_t*>(y.raw()));
  const int64_t row = code_bytes(d.id, x.size(-1));
  Shape outer = x.shape();
  outer[outer.rank() - 1] = 1;
  const auto* src = static_cast<uint8_t*>(x.raw());
  auto* dst = static_cast<uint8_t*>(y.raw());
  for_each_offset(outer, x.strides(), [&](int64_t i, int64_t offset) {
    std::memcpy(dst + i * row, src + code_bytes(d.id, offset), static_cast<size_t>(row));
  });
}

void copy_ref(Ins in, Outs out, const NoAttr&) {
  const Tensor &x = in[0], &y = out[0];
  if (is_coded(x.dtype())) return copy_codes(x, y);
  dispatch_all("contiguous", x.dtype(),
               [&]<class T>() { copy(x, static_cast<const T*>(x.data<T>()), y.data<T>()); });
}

const Op<> op{{
    .name = "contiguous",
    .doc = "Row-major copy of a strided view",
    .equation = "y = x",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("contiguous", in, 1, 1);
          return Metas{in[0].meta()};
        },
    .cost = [](Ins, std::span<const Meta>, const NoAttr&) { return Cost{}; },
    .kernels = {{.name = "ref", .run = copy_ref, .codes = true}},
    .layout = Layout::strided,
    .backward = [](const Saved<NoAttr>&, Ins gy) { return Tensors{gy[0]}; },
    .samples = {{{{{5, 7}}}}, {{{{1}}}}, {{{{2, 3, 4}}}}},
}};

}  // namespace

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : op.one({x}); }

}  // namespace wattle
