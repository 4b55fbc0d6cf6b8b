// scale(x) = factor * x + shift.   dx = factor * gy.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct ScaleAttr {
  double factor = 1, shift = 0;
  template <class V>
  void visit(V&& v) {
    v("factor", factor), v("shift", shift);
  }
};

struct Fn : Map1 {
  static constexpr const char* name = "scale";
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  explicit Fn(const ScaleAttr& a) : factor(a.factor), shift(a.shift) {}
  template <class T>
  T operator()(const T& x) const {
    const T y = T(factor) * x;
    return shift == 0 ? y : y + T(shift);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    const simd::f32<N> y = static_cast<float>(factor) * x;
    return shift == 0 ? y : y + static_cast<float>(shift);
  }
  double factor, shift;
};

const Op<ScaleAttr> op{{
    .name = "scale",
    .doc = "Multiplies by a number and adds another",
    .equation = "y = factor * x + shift",
    .shape = map_shape<Fn, 1, ScaleAttr>,
    .cost =
        [](Ins in, std::span<const Meta>, const ScaleAttr& a) {
          const int64_t n = in[0].numel();
          return Cost{.add = a.shift == 0 ? 0 : n, .mul = n};
        },
    .kernels = kernels<Fn, ScaleAttr>(),
    .layout = Layout::strided,
    .backward = [](const Saved<ScaleAttr>& s,
                   Ins gy) { return Tensors{scale(gy[0], s.attr().factor)}; },
    .samples = {{{{{3, 5}}}, {.factor = 2.5}},
                {{{{1}}}, {.factor = -1, .shift = 0.5}},
                {{{{2, 37}}}, {.factor = 0.125, .shift = -3}}},
}};

}  // namespace

Tensor scale(const Tensor& x, double factor, double shift) {
  return op.one({x}, {.factor = factor, .shift = shift});
}

}  // namespace wattle
