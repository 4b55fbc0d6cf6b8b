// index_select: y[.., i, ..] = x[.., index[i], ..] along dim.   gx[.., index[i], ..] += gy[.., i,
// ..]
#include "ops/indexing.h"

namespace wattle {
namespace {

// ---- index_select_grad ----

struct SelectGradAttr {
  int64_t dim = 0, size = 0;
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("size", size);
  }
};

void index_select_grad_ref(Ins in, Outs out, const SelectGradAttr& a) {
  const int dim = normalize_axis("index_select_grad", a.dim, in[0].rank());
  const indexing::Split s(out[0].shape(), dim);
  indexing::check_range("index_select_grad", in[1], a.size);
  dispatch_floating("index_select_grad", in[0].dtype(), [&]<class T>() {
    indexing::add_rows(in[0].data<T>(), in[1], out[0].data<T>(), s.outer, s.n, s.inner);
  });
}

Metas index_select_grad_shape(Ins in, const SelectGradAttr& a) {
  rules::arity("index_select_grad", in, 2, 2);
  rules::floating("index_select_grad", in, 0);
  rules::index_dtype("index_select_grad", in, 1);
  Shape s = in[0].shape();
  const int dim = normalize_axis("index_select_grad", a.dim, s.rank());
  if (s.rank() == 0) return {in[0].meta()};
  if (s[dim] != in[1].numel())
    throw shape_error(str("index_select_grad: gradient ", in[0], " and index ", in[1], ": sizes ",
                          s[dim], " and ", in[1].numel(), " at dimension ", dim));
  s[dim] = a.size;
  return {{s, in[0].dtype()}};
}

const Op<SelectGradAttr> grad_op{{
    .name = "index_select_grad",
    .doc = "Gradient of index_select",
    .equation = "gx[.., index[i], ..] += gy[.., i, ..], over zeros",
    .shape = index_select_grad_shape,
    .cost = [](Ins in, std::span<const Meta>,
               const SelectGradAttr&) { return Cost{.add = in[0].numel()}; },
    .kernels = {{"ref", index_select_grad_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<SelectGradAttr>& s, Ins g) {
          return Tensors{index_select(g[0], s.attr().dim, s.in(1)), {}};
        },
    .samples = {{{{{3, 4}}, {{4}, 0, 6, SampleIn::integers}}, {1, 6}},
                {{{{1}}, {{1}, 0, 1, SampleIn::integers}}, {0, 1}},
                {{{{5, 37}}, {{5}, 0, 3, SampleIn::integers}}, {-2, 3}}},
}};

// ---- index_select ----

struct SelectAttr {
  int64_t dim = 0;
  template <class V>
  void visit(V&& v) {
    v("dim", dim);
  }
};

void index_select_ref(Ins in, Outs out, const SelectAttr& a) {
  const Tensor &x = in[0], &index = in[1];
  const indexing::Split s(x.shape(), normalize_axis("index_select", a.dim, x.rank()));
  indexing::check_range("index_select", index, s.n);
  dispatch_all("index_select", x.dtype(), [&]<class T>() {
    indexing::copy_rows(x.data<T>(), index, out[0].data<T>(), s.outer, s.n, s.inner);
  });
  const int64_t slices = indexing::distinct(index, s.n);
  report_executed({.read = index.nbytes() + slices * s.outer * s.inner * info(x.dtype()).bytes,
                   .written = out[0].nbytes()});
}

Metas index_select_shape(Ins in, const SelectAttr& a) {
  rules::arity("index_select", in, 2, 2);
  rules::index_dtype("index_select", in, 1);
  Shape s = in[0].shape();
  const int dim = normalize_axis("index_select", a.dim, s.rank());
  if (in[1].rank() > 1)
    throw shape_error(str("index_select: index ", in[1], " found, expected at most 1 dim"));
  if (s.rank() > 0) s[dim] = in[1].numel();
  else if (in[1].numel() != 1)
    throw shape_error(str("index_select: index ", in[1], " for a scalar, expected 1 element"));
  return {{s, in[0].dtype()}};
}

const Op<SelectAttr> op{{
    .name = "index_select",
    .doc = "Whole slices along a dim, in the order of an index",
    .equation = "y[.., i, ..] = x[.., index[i], ..]",
    .shape = index_select_shape,
    .cost = [](Ins, std::span<const Meta>, const SelectAttr&) { return Cost{}; },
    .bytes =
        [](Ins in, std::span<const Meta> out, const SelectAttr& a) {
          const indexing::Split s(in[0].shape(),
                                  normalize_axis("index_select", a.dim, in[0].rank()));
          const int64_t most = std::min(s.n, in[1].numel()) * s.outer * s.inner;
          return Bytes{in[1].nbytes() + most * info(in[0].dtype()).bytes,
                       storage_bytes(out[0].shape, out[0].dtype)};
        },
    .kernels = {{"ref", index_select_ref}},
    .saves_in = {1},
    .data_dependent = true,
    .backward =
        [](const Saved<SelectAttr>& s, Ins gy) {
          const Shape x = s.shape(0);
          const int dim = normalize_axis("index_select", s.attr().dim, x.rank());
          return Tensors{grad_op.one({gy[0], s.in(1)}, {dim, indexing::Split(x, dim).n}), {}};
        },
    .samples = {{{{{3, 5}}, {{4}, 0, 5, SampleIn::integers}}, {1}},
                {{{{1}}, {{3}, 0, 1, SampleIn::integers}}, {0}},
                {{{{4, 37}}, {{6}, 0, 4, SampleIn::integers, {}, DType::i32}}, {-2}},
                {{{{2, 3, 4}}, {{2}, 0, 3, SampleIn::integers}}, {1}}},
}};

}  // namespace

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index) {
  return op.one({x, index}, {dim});
}

}  // namespace wattle
