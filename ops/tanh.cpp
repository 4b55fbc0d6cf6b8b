// tanh(x).   dx = gy (1 - y^2).
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "tanh";
  static constexpr Cost cost{.special = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  template <class T>
  T operator()(const T& x) const {
    return num::tanh(x);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return simd::tanh<N>(x);
  }
};

// ---- tanh_grad: gy (1 - y^2).   dgy = g (1 - y^2), dy = -2 g gy y ----

struct GradFn : Map2 {
  static constexpr const char* name = "tanh_grad";
  static constexpr Cost cost{.add = 1, .mul = 2};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& gy, const T& y) const {
    return gy * (T(1) - y * y);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> gy, simd::f32<N> y) const {
    return gy * (1.0f - y * y);
  }
};

Tensors grad_backward(const Saved<NoAttr>& s, Ins g);

const Op<> grad_op{{
    .name = "tanh_grad",
    .doc = "Gradient of tanh",
    .equation = "gx = gy (1 - y^2)",
    .shape = map_shape<GradFn, 2>,
    .cost = map_cost<GradFn>,
    .kernels = kernels<GradFn>(),
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}}}}, {{{{1}}, {{1}}}}, {{{{2, 37}}, {{2, 37}}}}},
}};

Tensors grad_backward(const Saved<NoAttr>& s, Ins g) {
  Tensors d(2);
  if (s.needs(0)) d[0] = grad_op.one({g[0], s.in(1)});
  if (s.needs(1)) d[1] = scale(mul(mul(g[0], s.in(0)), s.in(1)), -2);
  return d;
}

const Op<> op{{
    .name = "tanh",
    .doc = "Hyperbolic tangent",
    .equation = "y = tanh(x)",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_out = {0},
    .backward =
        [](const Saved<NoAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.out(0)})};
        },
    .samples = {{{{{3, 5}, -3, 3}}}, {{{{1}, -3, 3}}}, {{{{2, 37}, -3, 3}}}},
}};

}  // namespace

Tensor tanh(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
