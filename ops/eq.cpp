// eq(a, b) = a == b, as bool. No gradient.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map2 {
  static constexpr const char* name = "eq";
  static constexpr Cost cost{.cmp = 1};
  static constexpr Dtypes dtypes = Dtypes::all;
  static constexpr int64_t grain = light;
  template <class T>
  bool operator()(const T& a, const T& b) const {
    return a == b;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::i32<N> lanes(simd::f32<N> a, simd::f32<N> b) const {
    return a == b;
  }
};

const Op<> op{{
    .name = "eq",
    .doc = "Whether elements of a are equal to those of b",
    .equation = "y = a == b",
    .shape = compare_shape<Fn>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .samples = compare_samples(),
}};

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return op.one({a, b}); }

}  // namespace wattle
