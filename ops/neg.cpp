// neg(x) = -x.   dx = -gy.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map1 {
  static constexpr const char* name = "neg";
  static constexpr Cost cost{.cmp = 1};
  static constexpr Dtypes dtypes = Dtypes::numeric;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& x) const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(wrap<T>(0) - static_cast<wrap<T>>(x));
    else return -x;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    return -x;
  }
};

const Op<> op{{
    .name = "neg",
    .doc = "Negation",
    .equation = "y = -x",
    .shape = map_shape<Fn, 1>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .backward = [](const Saved<NoAttr>&, Ins gy) { return Tensors{neg(gy[0])}; },
    .samples = {{{{{3, 5}}}}, {{{{1}}}}, {{{{2, 37}}}}, {{{{2, 3}, -9, 9, SampleIn::integers}}}},
}};

}  // namespace

Tensor neg(const Tensor& x) { return op.one({x}); }

}  // namespace wattle
