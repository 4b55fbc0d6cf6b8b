// silu(x) = x s, s = sigmoid(x).   dx = gy s (1 + x (1 - s)).
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "silu";
  static constexpr Cost cost{.add = 1, .cmp = 1, .special = 2};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  template <class T>
  T operator()(const T& x) const {
    return x / (T(1) + num::exp(-x));
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return x / (1.0f + simd::exp<N>(-x));
  }
};

// ---- silu_grad: gy s (1 + x (1 - s)).   dx = g gy s (1 - s) (2 + x (1 - 2 s)) ----

struct GradFn : Map2 {
  static constexpr const char* name = "silu_grad";
  static constexpr Cost cost{.add = 3, .mul = 3, .cmp = 1, .special = 2};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  template <class T>
  T operator()(const T& gy, const T& x) const {
    const T s = T(1) / (T(1) + num::exp(-x));
    return gy * s * (T(1) + x * (T(1) - s));
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> gy, simd::f32<N> x) const {
    const simd::f32<N> s = simd::sigmoid<N>(x);
    return gy * s * (1.0f + x * (1.0f - s));
  }
};

Tensors grad_backward(const Saved<NoAttr>& s, Ins g);

const Op<> grad_op{{
    .name = "silu_grad",
    .doc = "Gradient of silu",
    .equation = "gx = gy s (1 + x (1 - s)), s = sigmoid(x)",
    .shape = map_shape<GradFn, 2>,
    .cost = map_cost<GradFn>,
    .kernels = kernels<GradFn>(),
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}, -3, 3}}},
                {{{{1}}, {{1}, -3, 3}}},
                {{{{2, 37}}, {{2, 37}, -3, 3}}}},
}};

Tensors grad_backward(const Saved<NoAttr>& s, Ins g) {
  Tensors d(2);
  if (s.needs(0)) d[0] = grad_op.one({g[0], s.in(1)});
  if (s.needs(1)) {
    const Tensor x = s.in(1), p = sigmoid(x);
    const Tensor second = mul(mul(p, scale(p, -1, 1)), scale(mul(x, scale(p, -2, 1)), 1, 2));
    d[1] = mul(mul(g[0], s.in(0)), second);
  }
  return d;
}

const Op<> op{{
    .name = "silu",
    .doc = "Sigmoid-weighted linear unit",
    .equation = "y = x / (1 + e^-x)",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {0},
    .backward =
        [](const Saved<NoAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.in(0)})};
        },
    .samples = {{{{{3, 5}, -3, 3}}}, {{{{1}, -3, 3}}}, {{{{2, 37}, -3, 3}}}},
}};

}  // namespace

Tensor silu(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
