// scatter_add: y = x, then y[i, index[i, j]] += src[i, j] for dim 1.
//   gx = gy   gsrc[i, j] = gy[i, index[i, j]]
// Elements that several src elements meet are summed in row-major order of src, by one thread.
#include "ops/indexing.h"

namespace wattle {
namespace {

struct ScatterAttr {
  int64_t dim = 0;
  template <class V>
  void visit(V&& v) {
    v("dim", dim);
  }
};

void scatter_add_ref(Ins in, Outs out, const ScatterAttr& a) {
  const Tensor &x = in[0], &index = in[1], &src = in[2];
  const int dim = normalize_axis("scatter_add", a.dim, x.rank());
  const int64_t step = x.shape().numel(dim + 1, x.rank());
  indexing::check_range("scatter_add", index, indexing::Split(x.shape(), dim).n);
  dispatch_all("scatter_add", x.dtype(), [&]<class T>() {
    const T *const from = x.data<T>(), *const s = src.data<T>();
    T* const y = out[0].data<T>();
    parallel_for(x.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      std::copy(from + begin, from + end, y + begin);
    });
    indexing::for_each_element<T>(index.shape(), x.shape(), src.shape(), dim,
                                  [&](int64_t i, int64_t o, int64_t at) {
                                    T& sum = y[o + rules::index_at(index, i) * step];
                                    sum = static_cast<T>(sum + s[at]);
                                  });
  });
}

Metas scatter_add_shape(Ins in, const ScatterAttr& a) {
  rules::arity("scatter_add", in, 3, 3);
  rules::index_dtype("scatter_add", in, 1);
  indexing::check_elementwise("scatter_add", in[0], a.dim, in[1]);
  if (in[2].dtype() != in[0].dtype())
    throw dtype_error(
        str("scatter_add: operands ", in[0], " and ", in[2], " have different dtypes"));
  if (in[2].rank() != in[1].rank())
    throw shape_error(str("scatter_add: index ", in[1], " and src ", in[2], " have ", in[1].rank(),
                          " and ", in[2].rank(), " dims"));
  for (int d = 0; d < in[1].rank(); ++d)
    if (in[1].size(d) > in[2].size(d))
      throw shape_error(str("scatter_add: index ", in[1], " is larger than src ", in[2],
                            " at dimension ", d, ": ", in[1].size(d), " and ", in[2].size(d)));
  return {in[0].meta()};
}

// A src that is larger than the index has no part in y beyond it: zeros there.
Tensor src_gradient(const Saved<ScatterAttr>& s, const Tensor& gy) {
  const Tensor g = gather(gy, s.attr().dim, s.in(1));
  const Shape whole = s.shape(2);
  if (g.shape() == whole) return g;
  if (whole.rank() > 4)
    throw autograd_error(str("scatter_add: gradient of a src ", whole, " larger than its index ",
                             g.shape(), " is available for at most 4 dims"));
  Shape amounts;
  for (int d = whole.rank() - 1; d >= 0; --d) {
    amounts.push_back(0);
    amounts.push_back(whole[d] - g.shape()[d]);
  }
  return pad(g, amounts);
}

const Op<ScatterAttr> op{{
    .name = "scatter_add",
    .doc = "A copy of x with src added at index along a dim",
    .equation = "y = x; y[i, index[i, j]] += src[i, j] for dim 1",
    .shape = scatter_add_shape,
    .cost = [](Ins in, std::span<const Meta>,
               const ScatterAttr&) { return Cost{.add = in[1].numel()}; },
    .bytes =
        [](Ins in, std::span<const Meta> out, const ScatterAttr&) {
          const int64_t src = in[1].numel() * info(in[2].dtype()).bytes;
          return Bytes{in[0].nbytes() + in[1].nbytes() + src,
                       storage_bytes(out[0].shape, out[0].dtype)};
        },
    .kernels = {{"ref", scatter_add_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<ScatterAttr>& s, Ins gy) {
          return Tensors{
              s.needs(0) ? gy[0] : Tensor{}, {}, s.needs(2) ? src_gradient(s, gy[0]) : Tensor{}};
        },
    .samples = {{{{{3, 5}}, {{3, 4}, 0, 5, SampleIn::integers}, {{3, 4}}}, {1}},
                {{{{1}}, {{3}, 0, 1, SampleIn::integers}, {{3}}}, {0}},
                {{{{4, 3}}, {{37, 2}, 0, 4, SampleIn::integers, {}, DType::i32}, {{37, 2}}}, {-2}},
                {{{{2, 3, 4}}, {{2, 3, 2}, 0, 3, SampleIn::integers}, {{3, 3, 4}}}, {1}}},
}};

}  // namespace

Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  return op.one({x, index, src}, {dim});
}

}  // namespace wattle
