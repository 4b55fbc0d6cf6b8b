// reshape: the same elements in row-major order under another shape. One size may be -1.
//   gx = gy reshaped to the shape of x
#include <optional>

#include "ops/rules.h"

namespace wattle {
namespace {

struct ReshapeAttr {
  Shape shape;
  template <class V>
  void visit(V&& v) {
    v("shape", shape);
  }
};

// Puts the size in for -1.
Shape resolved(const Shape& from, const Shape& wanted) {
  Shape out = wanted;
  int open = -1;
  for (int i = 0; i < out.rank(); ++i) {
    if (out[i] == -1 && open >= 0)
      throw shape_error(str("reshape: shape ", wanted, " has more than one -1"));
    if (out[i] < -1)
      throw shape_error(str("reshape: shape ", wanted, " has the negative size ", out[i]));
    if (out[i] == -1) out[open = i] = 1;
  }
  const int64_t n = from.numel(), known = checked_numel("reshape", out);
  if (open >= 0 && known > 0 && n % known == 0) out[open] = n / known;
  else if (open >= 0 || known != n)
    throw shape_error(
        str("reshape: shape ", from, " has ", n, " elements and does not fit into ", wanted,
            (open >= 0 ? str(", whose known sizes make ", known) : str(" with ", known))));
  return out;
}

// Strides that show x under `shape` without moving data; none when x would have to be copied.
// Neighbouring dims of x that lie evenly spaced act as one run of elements, and a run may be cut at
// will; a new dim may not reach over the end of a run.
std::optional<Shape> view_strides(const Tensor& x, const Shape& shape) {
  Shape strides = contiguous_strides(shape);
  if (x.numel() == 0) return strides;
  int64_t run = 1, step = 1;  // elements left in the current run, and their distance
  int d = x.rank() - 1;
  const auto next_run = [&] {
    while (d >= 0 && x.shape()[d] == 1) --d;
    if (d < 0) return;
    step = x.strides()[d];
    run = x.shape()[d--];
    for (; d >= 0 && (x.shape()[d] == 1 || x.strides()[d] == step * run); --d) run *= x.shape()[d];
  };
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 1) continue;
    if (run == 1) next_run();
    if (run % shape[i] != 0) return {};
    strides[i] = step;
    step *= shape[i];
    run /= shape[i];
  }
  return strides;
}

const Op<ReshapeAttr> op{{
    .name = "reshape",
    .doc = "The same elements under another shape",
    .equation = "y.flat[i] = x.flat[i]",
    .shape =
        [](Ins in, const ReshapeAttr& a) {
          rules::arity("reshape", in, 1, 1);
          return Metas{{resolved(in[0].shape(), a.shape), in[0].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const ReshapeAttr&) { return Cost{}; },
    .view =
        [](const Tensor& x, const ReshapeAttr& a) {
          const Shape shape = resolved(x.shape(), a.shape);
          const std::optional<Shape> strides = view_strides(x, shape);
          // Rows of a packed dtype cannot be cut: apply says so.
          if (!strides && info(x.dtype()).block > 1)
            return ViewSpec{shape, contiguous_strides(shape), x.offset()};
          if (!strides)
            throw shape_error(str("reshape: ", x, " with strides ", x.strides(),
                                  " cannot be shown as ", shape,
                                  " without a copy; call contiguous first"));
          return ViewSpec{shape, *strides, x.offset()};
        },
    .backward = [](const Saved<ReshapeAttr>& s,
                   Ins gy) { return Tensors{reshape(gy[0], s.shape(0))}; },
    .samples = {{{{{2, 6}}}, {{3, 4}}},
                {{{{1, 37}}}, {{-1}}},
                {{{{1}}}, {{}}},
                {{{{2, 3, 5}}}, {{6, -1, 1}}}},
    .aliases = {"view"},
}};

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  return op.one({view_strides(x, resolved(x.shape(), shape)) ? x : contiguous(x)}, {shape});
}

}  // namespace wattle
