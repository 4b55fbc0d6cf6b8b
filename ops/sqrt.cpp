// sqrt(x).   dx = gy / (2 y).
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "sqrt";
  static constexpr Cost cost{.special = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& x) const {
    return num::sqrt(x);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return simd::sqrt<N>(x);
  }
};

const Op<> op{{
    .name = "sqrt",
    .doc = "Square root",
    .equation = "y = sqrt(x)",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_out = {0},
    .backward = [](const Saved<NoAttr>& s,
                   Ins gy) { return Tensors{div(gy[0], scale(s.out(0), 2))}; },
    .samples = {{{{{3, 5}, 0.2, 9}}}, {{{{1}, 0.2, 9}}}, {{{{2, 37}, 0.2, 9}}}},
}};

}  // namespace

Tensor sqrt(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
