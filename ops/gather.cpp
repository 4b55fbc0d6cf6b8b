// gather: y[i, j] = x[i, index[i, j]] for dim 1.   gx[i, index[i, j]] += gy[i, j]
#include "ops/indexing.h"

namespace wattle {
namespace {

struct DimAttr {
  int64_t dim = 0;
  template <class V>
  void visit(V&& v) {
    v("dim", dim);
  }
};

int64_t stride_of(const Shape& x, int dim) { return x.numel(dim + 1, x.rank()); }

// ---- gather_grad: src spread over zeros ----

struct GatherGradAttr {
  int64_t dim = 0;
  Shape shape;  ///< of the result
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("shape", shape);
  }
};

void gather_grad_ref(Ins in, Outs out, const GatherGradAttr& a) {
  const Tensor &gy = in[0], &index = in[1];
  const int dim = normalize_axis("gather_grad", a.dim, a.shape.rank());
  const int64_t step = stride_of(a.shape, dim);
  indexing::check_range("gather_grad", index, indexing::Split(a.shape, dim).n);
  dispatch_floating("gather_grad", gy.dtype(), [&]<class T>() {
    const T* const g = gy.data<T>();
    T* const gx = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gx[i] = T(0);
    indexing::for_each_element<T>(
        index.shape(), a.shape, index.shape(), dim,
        [&](int64_t i, int64_t o, int64_t) { gx[o + rules::index_at(index, i) * step] += g[i]; });
  });
}

Metas gather_grad_shape(Ins in, const GatherGradAttr& a) {
  rules::arity("gather_grad", in, 2, 2);
  rules::floating("gather_grad", in, 0);
  rules::index_dtype("gather_grad", in, 1);
  if (in[0].shape() != in[1].shape())
    throw shape_error(str("gather_grad: gradient ", in[0], " and index ", in[1], " differ"));
  return {{a.shape, in[0].dtype()}};
}

const Op<GatherGradAttr> gather_grad_op{{
    .name = "gather_grad",
    .doc = "Gradient of gather",
    .equation = "gx[.., index[i], ..] += gy[i], over zeros",
    .shape = gather_grad_shape,
    .cost = [](Ins in, std::span<const Meta>,
               const GatherGradAttr&) { return Cost{.add = in[0].numel()}; },
    .kernels = {{"ref", gather_grad_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<GatherGradAttr>& s, Ins g) {
          return Tensors{gather(g[0], s.attr().dim, s.in(1)), {}};
        },
    .samples = {{{{{3, 4}}, {{3, 4}, 0, 5, SampleIn::integers}}, {1, {3, 5}}},
                {{{{1}}, {{1}, 0, 1, SampleIn::integers}}, {0, {1}}},
                {{{{37, 2}}, {{37, 2}, 0, 4, SampleIn::integers}}, {-2, {4, 3}}}},
}};

// ---- gather ----

void gather_ref(Ins in, Outs out, const DimAttr& a) {
  const Tensor &x = in[0], &index = in[1];
  const int dim = normalize_axis("gather", a.dim, x.rank());
  const int64_t step = stride_of(x.shape(), dim);
  indexing::check_range("gather", index, indexing::Split(x.shape(), dim).n);
  dispatch_all("gather", x.dtype(), [&]<class T>() {
    const T* const src = x.data<T>();
    T* const y = out[0].data<T>();
    indexing::for_each_element<T>(
        index.shape(), x.shape(), index.shape(), dim,
        [&](int64_t i, int64_t o, int64_t) { y[i] = src[o + rules::index_at(index, i) * step]; });
  });
  // Finding repeats costs as much as the op itself, so only the counting run reports them; the
  // others stand on the bound.
  if (x.dtype() == DType::counted)
    report_executed({.read = index.nbytes() + indexing::distinct_elements(x.shape(), dim, index) *
                                                  info(x.dtype()).bytes,
                     .written = out[0].nbytes()});
}

Metas gather_shape(Ins in, const DimAttr& a) {
  rules::arity("gather", in, 2, 2);
  rules::index_dtype("gather", in, 1);
  indexing::check_elementwise("gather", in[0], a.dim, in[1]);
  return {{in[1].shape(), in[0].dtype()}};
}

const Op<DimAttr> op{{
    .name = "gather",
    .doc = "Elements picked along a dim by an index of the result's shape",
    .equation = "y[i, j] = x[i, index[i, j]] for dim 1",
    .shape = gather_shape,
    .cost = [](Ins, std::span<const Meta>, const DimAttr&) { return Cost{}; },
    .bytes =
        [](Ins in, std::span<const Meta> out, const DimAttr&) {
          const int64_t most = std::min(in[0].numel(), in[1].numel()) * info(in[0].dtype()).bytes;
          return Bytes{in[1].nbytes() + most, storage_bytes(out[0].shape, out[0].dtype)};
        },
    .kernels = {{"ref", gather_ref}},
    .saves_in = {1},
    .data_dependent = true,
    .backward =
        [](const Saved<DimAttr>& s, Ins gy) {
          return Tensors{gather_grad_op.one({gy[0], s.in(1)}, {s.attr().dim, s.shape(0)}), {}};
        },
    .samples = {{{{{3, 5}}, {{3, 4}, 0, 5, SampleIn::integers}}, {1}},
                {{{{1}}, {{3}, 0, 1, SampleIn::integers}}, {0}},
                {{{{4, 3, 2}}, {{37, 2, 1}, 0, 4, SampleIn::integers, {}, DType::i32}}, {-3}},
                {{{{2, 3, 4}}, {{2, 5, 4}, 0, 3, SampleIn::integers}}, {1}}},
}};

}  // namespace

Tensor indexing::scatter_zeros(const Tensor& src, const Tensor& index, int64_t dim,
                               const Shape& shape) {
  return gather_grad_op.one({src, index}, {dim, shape});
}

Tensor gather(const Tensor& x, int64_t dim, const Tensor& index) {
  return op.one({x, index}, {dim});
}

}  // namespace wattle
