// div(a, b) = a / b.   da = gy / b, db = -gy y / b, summed over the broadcast dims.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map2 {
  static constexpr const char* name = "div";
  static constexpr Cost cost{.special = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& a, const T& b) const {
    return a / b;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> a, simd::f32<N> b) const {
    return a / b;
  }
};

Tensors div_backward(const Saved<NoAttr>& s, Ins gy) {
  Tensors g(2);
  const Tensor da = div(gy[0], s.in(1));
  if (s.needs(0)) g[0] = sum_to(da, s.shape(0));
  if (s.needs(1)) g[1] = neg(sum_to(mul(da, s.out(0)), s.shape(1)));
  return g;
}

const Op<> op{{
    .name = "div",
    .doc = "Quotient of two tensors",
    .equation = "y = a / b",
    .shape = map_shape<Fn, 2>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {1},
    .saves_out = {0},
    .backward = div_backward,
    .samples = {{{{{3, 5}}, {{3, 5}, 0.5, 2}}},
                {{{{1}}, {{1}, -2, -0.5}}},
                {{{{2, 37}}, {{37}, 0.5, 2}}},
                {{{{4, 3}}, {{4, 1}, 0.5, 2}}},
                {{{{}}, {{2, 1, 7}, 0.5, 2}}}},
}};

}  // namespace

Tensor div(const Tensor& a, const Tensor& b) { return op.one({a, b}); }

}  // namespace wattle
