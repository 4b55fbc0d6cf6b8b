// expand: repeats size-1 dims, and adds leading ones, without a copy: their stride is 0.
//   gx = sum of gy over the repeats
#include "ops/rules.h"

namespace wattle {
namespace {

struct ExpandAttr {
  Shape shape;  ///< -1 keeps a size
  template <class V>
  void visit(V&& v) {
    v("shape", shape);
  }
};

Shape expanded(const Shape& from, const Shape& wanted) {
  const int extra = wanted.rank() - from.rank();
  if (extra < 0)
    throw shape_error(str("expand: shape ", wanted, " has ", wanted.rank(), " dims, ", from,
                          " has ", from.rank()));
  Shape out = wanted;
  for (int i = 0; i < out.rank(); ++i) {
    if (out[i] == -1 && i >= extra) out[i] = from[i - extra];
    if (out[i] < 0) throw shape_error(str("expand: size ", out[i], " in ", wanted, " for ", from));
    if (i >= extra && from[i - extra] != 1 && from[i - extra] != out[i])
      throw shape_error(str("expand: shape ", from, " to ", wanted, ": size ", from[i - extra],
                            " cannot become ", out[i], " at dimension ", i));
  }
  return out;
}

const Op<ExpandAttr> op{{
    .name = "expand",
    .doc = "Repeats size-1 dims without a copy",
    .equation = "y[i, j] = x[0, j]",
    .shape =
        [](Ins in, const ExpandAttr& a) {
          rules::arity("expand", in, 1, 1);
          return Metas{{expanded(in[0].shape(), a.shape), in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const ExpandAttr&) { return Cost{}; },
    .view =
        [](const Tensor& x, const ExpandAttr& a) {
          const Shape shape = expanded(x.shape(), a.shape);
          const int extra = shape.rank() - x.rank();
          Shape strides = Shape::filled(shape.rank(), 0);
          for (int i = extra; i < shape.rank(); ++i)
            if (x.shape()[i - extra] == shape[i]) strides[i] = x.strides()[i - extra];
          return ViewSpec{shape, strides, x.offset()};
        },
    .backward = [](const Saved<ExpandAttr>& s,
                   Ins gy) { return Tensors{sum_to(gy[0], s.shape(0))}; },
    .samples = {{{{{3, 1}}}, {{3, 4}}},
                {{{{1}}}, {{2, 3, 1}}},
                {{{{1, 37}}}, {{2, 5, -1}}},
                {{{{}}}, {{4}}}},
}};

}  // namespace

Tensor expand(const Tensor& x, const Shape& shape) { return op.one({x}, {shape}); }

}  // namespace wattle
