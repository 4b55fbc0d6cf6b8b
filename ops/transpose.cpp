// transpose: swaps two dims; a view.   gx = gy with the same two dims swapped
#include <utility>

#include "ops/rules.h"

namespace wattle {
namespace {

struct TransposeAttr {
  int64_t dim0 = 0, dim1 = 1;
  template <class V>
  void visit(V&& v) {
    v("dim0", dim0), v("dim1", dim1);
  }
};

Shape swapped(const Shape& sizes, const TransposeAttr& a) {
  const int i = normalize_axis("transpose", a.dim0, sizes.rank());
  const int j = normalize_axis("transpose", a.dim1, sizes.rank());
  Shape out = sizes;
  if (i != j) std::swap(out[i], out[j]);
  return out;
}

const Op<TransposeAttr> op{{
    .name = "transpose",
    .doc = "Swaps two dims",
    .equation = "y[.., i, .., j, ..] = x[.., j, .., i, ..]",
    .shape =
        [](Ins in, const TransposeAttr& a) {
          rules::arity("transpose", in, 1, 1);
          return Metas{{swapped(in[0].shape(), a), in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const TransposeAttr&) { return Cost{}; },
    .view =
        [](const Tensor& x, const TransposeAttr& a) {
          return ViewSpec{swapped(x.shape(), a), swapped(x.strides(), a), x.offset()};
        },
    .backward = [](const Saved<TransposeAttr>& s,
                   Ins gy) { return Tensors{transpose(gy[0], s.attr().dim0, s.attr().dim1)}; },
    .samples = {{{{{3, 5}}}, {}}, {{{{1, 37}}}, {0, -1}}, {{{{2, 3, 4}}}, {-2, 2}}},
}};

}  // namespace

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) { return op.one({x}, {dim0, dim1}); }

}  // namespace wattle
