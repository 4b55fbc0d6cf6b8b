// sort: values in order along dim, and where they came from.   gx[indices[i]] = gy[i]
#include "ops/order.h"

namespace wattle {
namespace {

struct SortAttr {
  int64_t dim = -1;
  bool descending = false;
  bool stable = true;  ///< equal numbers keep their order; they do either way
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("descending", descending), v("stable", stable);
  }
};

order::Job job_of(const Tensor& x, const SortAttr& a) {
  const indexing::Split s(x.shape(), normalize_axis("sort", a.dim, x.rank()));
  return {s, s.n, a.descending};
}

// x f32 [.., n, ..] -> values f32, indices i64 of the same shape. Cost, per column:
//   n*L - 2^L + 1 comparisons, L = ceil(log2 n): the worst case of merging and of binary insertion.
const Op<SortAttr> op{{
    .name = "sort",
    .doc = "Values in order along a dim, and their indices",
    .equation = "values[i] = x[indices[i]], values[i] <= values[i + 1]",
    .shape =
        [](Ins in, const SortAttr& a) {
          rules::arity("sort", in, 1, 1);
          normalize_axis("sort", a.dim, in[0].rank());
          return Metas{in[0].meta(), {in[0].shape(), DType::i64}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const SortAttr& a) {
          const order::Job j = job_of(in[0], a);
          return Cost{.cmp = j.split.outer * j.split.inner *
                             order::insertion_comparisons(j.split.n, j.k)};
        },
    .kernels = {{"keys",
                 [](Ins in, Outs out, const SortAttr& a) {
                   order::by_keys("sort", in[0], out, job_of(in[0], a));
                 },
                 [](Ins in, const SortAttr&) { return order::no_keys(in[0]); }},
                {"ref",
                 [](Ins in, Outs out, const SortAttr& a) {
                   order::by_insertion("sort", in[0], out, job_of(in[0], a));
                 }}},
    .saves_out = {1},
    .data_dependent = true,
    .backward =
        [](const Saved<SortAttr>& s, Ins gy) {
          return Tensors{indexing::scatter_zeros(gy[0], s.out(1), s.attr().dim, s.shape(0))};
        },
    .samples = {{{{{3, 5}, -1, 1, SampleIn::distinct}}, {}},
                {{{{37, 2}, -1, 1, SampleIn::distinct}}, {0, true}},
                {{{{1, 1}}}, {1, false, false}},
                {{{{2, 6, 3}, -1, 1, SampleIn::distinct}}, {-2, true, true}},
                {{{{4, 9}, -3, 4, SampleIn::integers}}, {}}},
}};

}  // namespace

Tensors sort(const Tensor& x, int64_t dim, bool descending, bool stable) {
  return op({x}, {dim, descending, stable});
}

}  // namespace wattle
