// permute: dim i of y is dim dims[i] of x; a view.   gx = gy permuted by the inverse
#include "ops/rules.h"

namespace wattle {
namespace {

struct PermuteAttr {
  Shape dims;
  template <class V>
  void visit(V&& v) {
    v("dims", dims);
  }
};

// `dims` as numbers in [0, rank), each exactly once.
Shape checked(const Shape& dims, int rank) {
  if (dims.size() != rank)
    throw shape_error(
        str("permute: dims ", dims, " names ", dims.size(), " dims of a tensor with ", rank));
  Shape out;
  uint32_t seen = 0;
  for (int64_t d : dims) {
    const int axis = normalize_axis("permute", d, rank);
    if (seen >> axis & 1u) throw shape_error(str("permute: dim ", d, " appears twice in ", dims));
    seen |= 1u << axis;
    out.push_back(axis);
  }
  return out;
}

Shape picked(const Shape& sizes, const Shape& dims) {
  Shape out;
  for (int64_t d : dims) out.push_back(sizes[static_cast<int>(d)]);
  return out;
}

Shape inverse(const Shape& dims) {
  Shape out = dims;
  for (int i = 0; i < dims.size(); ++i) out[static_cast<int>(dims[i])] = i;
  return out;
}

const Op<PermuteAttr> op{{
    .name = "permute",
    .doc = "Reorders the dims",
    .equation = "y.shape[i] = x.shape[dims[i]]",
    .shape =
        [](Ins in, const PermuteAttr& a) {
          rules::arity("permute", in, 1, 1);
          const Shape dims = checked(a.dims, in[0].rank());
          return Metas{{picked(in[0].shape(), dims), in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const PermuteAttr&) { return Cost{}; },
    .view =
        [](const Tensor& x, const PermuteAttr& a) {
          const Shape dims = checked(a.dims, x.rank());
          return ViewSpec{picked(x.shape(), dims), picked(x.strides(), dims), x.offset()};
        },
    .backward =
        [](const Saved<PermuteAttr>& s, Ins gy) {
          return Tensors{permute(gy[0], inverse(checked(s.attr().dims, s.shape(0).rank())))};
        },
    .samples = {{{{{2, 3, 4}}}, {{2, 0, 1}}},
                {{{{1, 37}}}, {{-1, 0}}},
                {{{{2, 1, 3, 5}}}, {{0, 2, 3, 1}}}},
}};

}  // namespace

Tensor permute(const Tensor& x, const Shape& dims) { return op.one({x}, {dims}); }

}  // namespace wattle
