// stack: tensors of one shape along a new dim.   gx_i = gy[.., i, ..]
#include <algorithm>

#include "ops/rules.h"

namespace wattle {
namespace {

struct StackAttr {
  int64_t dim = 0;
  template <class V>
  void visit(V&& v) {
    v("dim", dim);
  }
};

// xs[i] [outer, inner]  y [outer, count, inner]
void stack_ref(Ins in, Outs out, const StackAttr& a) {
  const Shape& s = out[0].shape();
  const int dim = normalize_axis("stack", a.dim, s.rank());
  const int64_t outer = s.numel(0, dim), inner = s.numel(dim + 1, s.rank());
  const int64_t count = static_cast<int64_t>(in.size());
  dispatch_all("stack", out[0].dtype(), [&]<class T>() {
    T* const y = out[0].data<T>();
    parallel_for(outer * count, 1 + (1 << 15) / (inner + 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* const src = in[static_cast<size_t>(r % count)].data<T>() + r / count * inner;
        std::copy(src, src + inner, y + r * inner);
      }
    });
  });
}

Metas stack_shape(Ins in, const StackAttr& a) {
  if (in.empty()) throw shape_error("stack: no operands found, expected at least 1");
  rules::arity("stack", in, static_cast<int>(in.size()), static_cast<int>(in.size()));
  rules::same_dtype("stack", in);
  Shape s = in[0].shape();
  for (size_t i = 1; i < in.size(); ++i)
    if (in[i].shape() != s)
      throw shape_error(str("stack: operands 0 and ", i, " have shapes ", s, " and ", in[i].shape(),
                            ", expected equal ones"));
  rules::room_for_one_more("stack", in, 0);
  s.insert(normalize_axis("stack", a.dim, s.rank() + 1), static_cast<int64_t>(in.size()));
  return {{s, in[0].dtype()}};
}

Tensors stack_backward(const Saved<StackAttr>& s, Ins gy) {
  Tensors gx(static_cast<size_t>(s.in_count()));
  for (int i = 0; i < s.in_count(); ++i)
    if (s.needs(i))
      gx[static_cast<size_t>(i)] = reshape(slice(gy[0], s.attr().dim, i, i + 1), s.shape(i));
  return gx;
}

const Op<StackAttr> op{{
    .name = "stack",
    .doc = "Tensors of one shape along a new dim",
    .equation = "y[.., i, ..] = x_i",
    .shape = stack_shape,
    .cost = [](Ins, std::span<const Meta>, const StackAttr&) { return Cost{}; },
    .kernels = {{"ref", stack_ref}},
    .backward = stack_backward,
    .samples = {{{{{2, 3}}, {{2, 3}}}, {}},
                {{{{1, 37}}, {{1, 37}}, {{1, 37}}}, {-1}},
                {{{{}}, {{}}}, {}},
                {{{{5, 2}}, {{5, 2}}}, {1}}},
}};

}  // namespace

Tensor stack(const Tensors& xs, int64_t dim) { return std::move(op(xs, {dim})[0]); }

}  // namespace wattle
