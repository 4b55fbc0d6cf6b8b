// topk: the k largest (or smallest) numbers along dim, and where they came from.
//   gx[indices[i]] = gy[i], 0 elsewhere
#include "ops/order.h"

namespace wattle {
namespace {

struct TopkAttr {
  int64_t k = 1, dim = -1;
  bool largest = true;
  bool sorted = true;  ///< the results are in order either way
  template <class V>
  void visit(V&& v) {
    v("k", k), v("dim", dim), v("largest", largest), v("sorted", sorted);
  }
};

order::Job job_of(const Tensor& x, const TopkAttr& a) {
  return {indexing::Split(x.shape(), normalize_axis("topk", a.dim, x.rank())), a.k, a.largest};
}

Metas topk_shape(Ins in, const TopkAttr& a) {
  rules::arity("topk", in, 1, 1);
  const int dim = normalize_axis("topk", a.dim, in[0].rank());
  const int64_t n = in[0].rank() ? in[0].size(dim) : 1;
  if (a.k < 0 || a.k > n)
    throw value_error(str("topk: k ", a.k, " found for ", in[0], ", expected at most ", n,
                          ", the size at dimension ", dim));
  Shape s = in[0].shape();
  if (s.rank() > 0) s[dim] = a.k;
  else if (a.k == 0) s = {0};
  return {{s, in[0].dtype()}, {s, DType::i64}};
}

// Cost, per column of n numbers: binary insertion into a list of the k best (ops/order.h).
const Op<TopkAttr> op{{
    .name = "topk",
    .doc = "The k largest or smallest numbers along a dim, and their indices",
    .equation = "values[i] = x[indices[i]], values[0] >= values[1] >= ..",
    .shape = topk_shape,
    .cost =
        [](Ins in, std::span<const Meta>, const TopkAttr& a) {
          const order::Job j = job_of(in[0], a);
          return Cost{.cmp = j.split.outer * j.split.inner *
                             order::insertion_comparisons(j.split.n, j.k)};
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const TopkAttr& a) {
          return Bytes{a.k > 0 ? in[0].nbytes() : 0, storage_bytes(out[0].shape, out[0].dtype) +
                                                         storage_bytes(out[1].shape, out[1].dtype)};
        },
    .kernels = {{"keys",
                 [](Ins in, Outs out, const TopkAttr& a) {
                   order::by_keys("topk", in[0], out, job_of(in[0], a));
                 },
                 [](Ins in, const TopkAttr&) { return order::no_keys(in[0]); }},
                {"ref",
                 [](Ins in, Outs out, const TopkAttr& a) {
                   order::by_insertion("topk", in[0], out, job_of(in[0], a));
                 }}},
    .saves_out = {1},
    .data_dependent = true,
    .backward =
        [](const Saved<TopkAttr>& s, Ins gy) {
          return Tensors{indexing::scatter_zeros(gy[0], s.out(1), s.attr().dim, s.shape(0))};
        },
    .samples = {{{{{3, 5}, -1, 1, SampleIn::distinct}}, {2}},
                {{{{37, 2}, -1, 1, SampleIn::distinct}}, {3, 0, false}},
                {{{{1, 1}}}, {1, 1, true, false}},
                {{{{2, 6, 3}, -1, 1, SampleIn::distinct}}, {6, -2}},
                {{{{4, 9}, -3, 4, SampleIn::integers}}, {4}}},
}};

}  // namespace

Tensors topk(const Tensor& x, int64_t k, int64_t dim, bool largest, bool sorted) {
  return op({x}, {k, dim, largest, sorted});
}

}  // namespace wattle
