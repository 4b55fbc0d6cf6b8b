// concat: tensors end to end along dim.   gx_i = the part of gy that came from x_i
#include <algorithm>

#include "ops/rules.h"

namespace wattle {
namespace {

struct ConcatAttr {
  int64_t dim = 0;
  template <class V>
  void visit(V&& v) {
    v("dim", dim);
  }
};

// xs[i] [outer, n_i, inner]  y [outer, sum n_i, inner]: a row of y is one run of each operand.
void concat_ref(Ins in, Outs out, const ConcatAttr& a) {
  const Shape& s = out[0].shape();
  const int dim = normalize_axis("concat", a.dim, s.rank());
  const int64_t outer = s.numel(0, dim), inner = s.numel(dim + 1, s.rank()), row = s[dim] * inner;
  dispatch_all("concat", out[0].dtype(), [&]<class T>() {
    T* const y = out[0].data<T>();
    int64_t at = 0;
    for (const Tensor& x : in) {
      const int64_t run = x.size(dim) * inner;
      const T* const src = x.data<T>();
      parallel_for(outer, 1 + (1 << 15) / (run + 1), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o)
          std::copy(src + o * run, src + (o + 1) * run, y + o * row + at);
      });
      at += run;
    }
  });
}

Metas concat_shape(Ins in, const ConcatAttr& a) {
  if (in.empty()) throw shape_error("concat: no operands found, expected at least 1");
  rules::arity("concat", in, static_cast<int>(in.size()), static_cast<int>(in.size()));
  rules::same_dtype("concat", in);
  Shape s = in[0].shape();
  if (s.rank() == 0) throw shape_error("concat: found tensors of 0 dims, expected at least 1");
  const int dim = normalize_axis("concat", a.dim, s.rank());
  for (size_t i = 1; i < in.size(); ++i) {
    const Shape& t = in[i].shape();
    if (t.rank() != s.rank())
      throw shape_error(
          str("concat: operands 0 and ", i, " have shapes ", in[0].shape(), " and ", t));
    for (int d = 0; d < s.rank(); ++d)
      if (d != dim && t[d] != s[d])
        throw shape_error(str("concat: operands 0 and ", i, " have shapes ", in[0].shape(), " and ",
                              t, ": sizes ", s[d], " and ", t[d], " at dimension ", d));
    s[dim] += t[dim];
  }
  return {{s, in[0].dtype()}};
}

Tensors concat_backward(const Saved<ConcatAttr>& s, Ins gy) {
  Tensors gx(static_cast<size_t>(s.in_count()));
  const int dim = normalize_axis("concat", s.attr().dim, s.shape(0).rank());
  int64_t at = 0;
  for (int i = 0; i < s.in_count(); ++i) {
    const int64_t n = s.shape(i)[dim];
    if (s.needs(i)) gx[static_cast<size_t>(i)] = slice(gy[0], dim, at, at + n);
    at += n;
  }
  return gx;
}

const Op<ConcatAttr> op{{
    .name = "concat",
    .doc = "Tensors end to end along a dim",
    .equation = "y = [x_0, x_1, ..] along dim",
    .shape = concat_shape,
    .cost = [](Ins, std::span<const Meta>, const ConcatAttr&) { return Cost{}; },
    .kernels = {{"ref", concat_ref}},
    .backward = concat_backward,
    .samples = {{{{{2, 3}}, {{4, 3}}}, {}},
                {{{{1, 37, 2}}, {{1, 1, 2}}, {{1, 5, 2}}}, {-2}},
                {{{{3, 2}}}, {1}},
                {{{{2}, 0, 9, SampleIn::integers}, {{3}, 0, 9, SampleIn::integers}}, {}}},
    .aliases = {"cat"},
}};

}  // namespace

Tensor concat(const Tensors& xs, int64_t dim) { return std::move(op(xs, {dim})[0]); }

}  // namespace wattle
