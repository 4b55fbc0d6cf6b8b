// exp(x) = e^x.   dx = gy * y.
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "exp";
  static constexpr Cost cost{.special = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  template <class T>
  T operator()(const T& x) const {
    return num::exp(x);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return simd::exp<N>(x);
  }
};

const Op<> op{{
    .name = "exp",
    .doc = "Exponential",
    .equation = "y = e^x",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_out = {0},
    .backward = [](const Saved<NoAttr>& s, Ins gy) { return Tensors{mul(gy[0], s.out(0))}; },
    .samples = {{{{{3, 5}, -3, 3}}}, {{{{1}, -3, 3}}}, {{{{2, 37}, -3, 3}}}},
}};

}  // namespace

Tensor exp(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
