// Gradients of max and min: to the chosen element over a single dim; in equal parts to all equal
// elements over several or all dims, as in PyTorch.
#include "ops/extremum.h"

namespace wattle::extremum {
namespace {

struct PutAttr {
  Shape shape;
  int64_t dim = 0;
  template <class V>
  void visit(V&& v) {
    v("shape", shape), v("dim", dim);
  }
};

// gy, index: `shape` with size 1 at dim.
void put_ref(Ins in, Outs out, const PutAttr& a) {
  const int64_t d = a.shape.empty() ? 1 : a.shape[static_cast<int>(a.dim)];
  const int64_t inner =
      a.shape.empty() ? 1 : a.shape.numel(static_cast<int>(a.dim) + 1, a.shape.rank());
  const int64_t* index = in[1].data<int64_t>();
  dispatch_floating("max_grad", in[0].dtype(), [&]<class T>() {
    const T* gy = in[0].data<T>();
    T* gx = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gx[i] = T(0);
    for (int64_t c = 0; c < in[0].numel(); ++c)
      gx[(c / inner * d + index[c]) * inner + c % inner] = gy[c];
  });
}

Metas put_shape(Ins in, const PutAttr& a) {
  rules::arity("max_grad", in, 2, 2);
  rules::floating("max_grad", in, 0);
  Shape want = a.shape;
  if (!want.empty()) want[static_cast<int>(a.dim)] = 1;
  if (in[1].dtype() != DType::i64 || in[0].shape() != in[1].shape() || in[0].shape() != want)
    throw shape_error(str("max_grad: gradient ", in[0], " and indices ", in[1], ", expected ", want,
                          " and i64 of the same shape"));
  return {{a.shape, in[0].dtype()}};
}

const Op<PutAttr> put_op{{
    .name = "max_grad",
    .doc = "Gradient of max and min over one dim",
    .equation = "gx = gy at the chosen element, else 0",
    .shape = put_shape,
    .cost = [](Ins, std::span<const Meta>, const PutAttr&) { return Cost{}; },
    .kernels = {{"ref", put_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<PutAttr>& s, Ins g) {
          return Tensors{gather(g[0], s.attr().dim, s.in(1)), {}};
        },
    .samples = {{{{{3, 1}}, {{3, 1}, 0, 5, SampleIn::integers}}, {{3, 5}, 1}},
                {{{{1}}, {{1}, 0, 1, SampleIn::integers}}, {{1}, 0}},
                {{{{2, 1, 37}}, {{2, 1, 37}, 0, 4, SampleIn::integers}}, {{2, 4, 37}, 1}}},
}};

}  // namespace

Tensor put(const Tensor& gy, const Tensor& index, const Shape& x, int64_t dim, bool keepdim) {
  if (keepdim || x.empty()) return put_op.one({gy, index}, {x, dim});
  Shape kept = x;
  kept[static_cast<int>(dim)] = 1;
  return put_op.one({reshape(gy, kept), reshape(index, kept)}, {x, dim});
}

Tensors backward(const char* op, const Saved<DimAttr>& s, Ins gy) {
  const DimAttr& a = s.attr();
  const Shape x = s.shape(0);
  if (with_indices(a))
    return {put(gy[0], s.out(1), x, normalize_axis(op, a.dim[0], x.rank()), a.keepdim)};
  const Shape kept = rules::reduced_shape(x, rules::axis_mask(op, a.dim, x.rank()), true);
  const Tensor chosen = cast(eq(s.in(0), reshape(s.out(0), kept)), gy[0].dtype());
  return {mul(chosen, div(reshape(gy[0], kept), sum(chosen, a.dim, true)))};
}

std::vector<Sample<DimAttr>> samples() {
  using S = SampleIn;
  return {{{{{3, 5}, -1, 1, S::distinct}}},
          {{{{1}, -1, 1, S::distinct}}, {.dim = {0}, .keepdim = true}},
          {{{{2, 37}, -1, 1, S::distinct}}, {.dim = {-1}}},
          {{{{3, 5, 2}, -1, 1, S::distinct}}, {.dim = {1}, .keepdim = true}},
          {{{{4, 3, 2, 7}, -1, 1, S::distinct}}, {.dim = {0, 2, 3}}},
          {{{{3, 5, 7}, -1, 1, S::distinct}}, {.dim = {1, 2}, .keepdim = true}},
          {{{{5, 8}, -9, 9, S::integers}}, {.dim = {0}}},
          {{{{5, 8}, -9, 9, S::integers}}}};
}

}  // namespace wattle::extremum
