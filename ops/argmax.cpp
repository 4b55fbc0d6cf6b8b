// argmax(x): index of the largest element along dim; without dim, in the flattened tensor. Of equal
// elements the first one; not-a-number wins. No gradient.
#include "ops/extremum.h"

namespace wattle {
namespace {

struct ArgmaxAttr {
  std::optional<int64_t> dim;
  bool keepdim = false;
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("keepdim", keepdim);
  }
};

Shape dims(const ArgmaxAttr& a) { return a.dim ? Shape{*a.dim} : Shape{}; }

Metas argmax_shape(Ins in, const ArgmaxAttr& a) {
  rules::arity("argmax", in, 1, 1);
  const Shape& x = in[0].shape();
  const uint32_t mask = rules::axis_mask("argmax", dims(a), x.rank());
  if (reduce::reduced_count(x, mask) == 0)
    throw shape_error(str("argmax: nothing to choose from in ", x, " over dim ",
                          a.dim ? str(*a.dim) : std::string("all")));
  return {{rules::reduced_shape(x, mask, a.keepdim), DType::i64}};
}

void argmax_ref(Ins in, Outs out, const ArgmaxAttr& a) {
  const Shape& x = in[0].shape();
  int64_t d = in[0].numel(), inner = 1;
  if (a.dim && !x.empty()) {
    const int dim = normalize_axis("argmax", *a.dim, x.rank());
    d = x[dim];
    inner = x.numel(dim + 1, x.rank());
  }
  int64_t* y = out[0].data<int64_t>();
  dispatch_all("argmax", in[0].dtype(), [&]<class T>() {
    const T* p = in[0].data<T>();
    const auto columns = [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        y[c] = extremum::best_of<true>(p + c / inner * d * inner + c % inner, d, inner);
    };
    if (std::is_same_v<T, Counted>) columns(0, out[0].numel());
    else parallel_for(out[0].numel(), d < (1 << 14) ? (1 << 14) / d : 1, columns);
  });
}

const Op<ArgmaxAttr> op{{
    .name = "argmax",
    .doc = "Index of the largest element",
    .equation = "y = first i with x_i = max x",
    .shape = argmax_shape,
    .cost = [](Ins in, std::span<const Meta> out,
               const ArgmaxAttr&) { return Cost{.cmp = in[0].numel() - out[0].shape.numel()}; },
    .kernels = {{"ref", argmax_ref}},
    .samples = {{{{{3, 5}, -1, 1, SampleIn::distinct}}},
                {{{{1}, -1, 1, SampleIn::distinct}}, {.dim = 0, .keepdim = true}},
                {{{{2, 37}, -1, 1, SampleIn::distinct}}, {.dim = -1}},
                {{{{3, 5, 2}, -1, 1, SampleIn::distinct}}, {.dim = 1, .keepdim = true}},
                {{{{4, 9}, -3, 3, SampleIn::integers}}, {.dim = 1}}},
}};

}  // namespace

Tensor argmax(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  return op.one({x}, {.dim = dim, .keepdim = keepdim});
}

}  // namespace wattle
