// contiguous(x) = x with row-major storage. The gradient passes through unchanged.
#include <cstring>

#include "ops/rules.h"

namespace wattle {
namespace {

// x any strides, y row-major. Rows of the last dimension are copied at once when they are dense.
void copy_ref(Ins in, Outs out, const NoAttr&) {
  const Tensor &x = in[0], &y = out[0];
  dispatch_all("contiguous", x.dtype(), [&]<class T>() {
    const T* src = x.data<T>();
    T* dst = y.data<T>();
    const int last = x.rank() - 1;
    const bool dense = last >= 0 && x.strides()[last] == 1;
    const int64_t row = dense ? x.size(last) : 1;
    if (row == 0) return;
    Shape outer = x.shape();
    if (dense) outer[last] = 1;
    for_each_offset(outer, x.strides(), [&](int64_t i, int64_t offset) {
      for (int64_t k = 0; k < row; ++k) dst[i * row + k] = src[offset + k];
    });
  });
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
    .kernels = {{"ref", copy_ref}},
    .layout = Layout::strided,
    .backward = [](const Saved<NoAttr>&, Ins gy) { return Tensors{gy[0]}; },
    .samples = {{{{{5, 7}}}}, {{{{1}}}}, {{{{2, 3, 4}}}}},
}};

}  // namespace

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : op.one({x}); }

}  // namespace wattle
