// pow(a, b) = a^b.   da = gy b a^(b-1), 0 where b = 0;   db = gy y ln a, 0 where a = 0 and b >= 0.
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map2 {
  static constexpr const char* name = "pow";
  static constexpr Cost cost{.special = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  template <class T>
  T operator()(const T& a, const T& b) const {
    return num::pow(a, b);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> a, simd::f32<N> b) const {
    return simd::pow<N>(a, b);
  }
};

Tensors pow_backward(const Saved<NoAttr>& s, Ins gy) {
  Tensors g(2);
  const Tensor a = s.in(0), b = s.in(1);
  const Tensor zero = Tensor::full({}, 0, b.dtype(), b.device());
  if (s.needs(0)) {
    const Tensor da = mul(gy[0], mul(b, pow(a, scale(b, 1, -1))));
    g[0] = sum_to(where(eq(b, zero), zero, da), s.shape(0));
  }
  if (s.needs(1)) {
    const Tensor db = mul(gy[0], mul(pow(a, b), log(a)));
    g[1] = sum_to(where(mul(eq(a, zero), ge(b, zero)), zero, db), s.shape(1));
  }
  return g;
}

const Op<> op{{
    .name = "pow",
    .doc = "Power of two tensors",
    .equation = "y = a ^ b",
    .shape = map_shape<Fn, 2>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .backward = pow_backward,
    .samples = {{{{{3, 5}, 0.2, 3}, {{3, 5}, -2, 3}}},
                {{{{1}, 0.2, 3}, {{1}}}},
                {{{{2, 37}, 0.2, 3}, {{37}, -2, 3}}},
                {{{{4, 3}, 0.2, 3}, {{4, 1}}}},
                {{{{5, 9}, 1e-3, 1e3}, {{}, 2, 3}}}},
}};

}  // namespace

Tensor pow(const Tensor& a, const Tensor& b) { return op.one({a, b}); }

}  // namespace wattle
