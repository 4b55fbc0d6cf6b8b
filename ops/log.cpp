// log(x), natural.   dx = gy / x.
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "log";
  static constexpr Cost cost{.special = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  template <class T>
  T operator()(const T& x) const {
    return num::log(x);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return simd::log<N>(x);
  }
};

const Op<> op{{
    .name = "log",
    .doc = "Natural logarithm",
    .equation = "y = ln x",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {0},
    .backward = [](const Saved<NoAttr>& s, Ins gy) { return Tensors{div(gy[0], s.in(0))}; },
    .samples = {{{{{3, 5}, 0.05, 9}}}, {{{{1}, 0.05, 9}}}, {{{{2, 37}, 0.05, 9}}}},
}};

}  // namespace

Tensor log(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
