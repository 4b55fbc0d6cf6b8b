// abs(x) = |x|.   dx = gy sign(x), 0 at 0.
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "abs";
  static constexpr Cost cost{.cmp = 1};
  static constexpr Dtypes dtypes = Dtypes::numeric;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& x) const {
    if constexpr (std::is_integral_v<T>)
      return x < T(0) ? static_cast<T>(wrap<T>(0) - static_cast<wrap<T>>(x)) : x;
    else return num::abs(x);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return simd::abs<N>(x);
  }
};

// ---- abs_grad: gy sign(x) ----

struct GradFn : Map2 {
  static constexpr const char* name = "abs_grad";
  static constexpr Cost cost{.cmp = 3};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& gy, const T& x) const {
    const bool up = x > T(0), down = x < T(0);
    const T plus = gy, minus = -plus;
    return up ? plus : down ? minus : T(0);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> gy, simd::f32<N> x) const {
    const simd::f32<N> zero{};
    return x > zero ? gy : x < zero ? -gy : zero;
  }
};

Tensors grad_backward(const Saved<NoAttr>& s, Ins g);

const Op<> grad_op{{
    .name = "abs_grad",
    .doc = "Gradient of abs",
    .equation = "gx = gy sign(x)",
    .shape = map_shape<GradFn, 2>,
    .cost = map_cost<GradFn>,
    .kernels = kernels<GradFn>(),
    .layout = Layout::strided,
    .saves_in = {1},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{1}}, {{1}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{2, 37}}, {{2, 37}, -1, 1, SampleIn::uniform, {0}}}}},
}};

Tensors grad_backward(const Saved<NoAttr>& s, Ins g) { return {grad_op.one({g[0], s.in(1)}), {}}; }

const Op<> op{{
    .name = "abs",
    .doc = "Absolute value",
    .equation = "y = |x|",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {0},
    .backward =
        [](const Saved<NoAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.in(0)})};
        },
    .samples = {{{{{3, 5}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{1}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{2, 37}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{2, 3}, -9, 9, SampleIn::integers}}}},
}};

}  // namespace

Tensor abs(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
