// mul(a, b) = a * b.   da = gy * b, db = gy * a, summed over the broadcast dims.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map2 {
  static constexpr const char* name = "mul";
  static constexpr Cost cost{.mul = 1};
  static constexpr Dtypes dtypes = Dtypes::all;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& a, const T& b) const {
    if constexpr (std::is_same_v<T, Counted>) return a * b;
    else return static_cast<T>(static_cast<wrap<T>>(a) * static_cast<wrap<T>>(b));
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> a, simd::f32<N> b) const {
    return a * b;
  }
};

Tensors mul_backward(const Saved<NoAttr>& s, Ins gy) {
  Tensors g(2);
  if (s.needs(0)) g[0] = sum_to(mul(gy[0], s.in(1)), s.shape(0));
  if (s.needs(1)) g[1] = sum_to(mul(gy[0], s.in(0)), s.shape(1));
  return g;
}

const Op<> op{{
    .name = "mul",
    .doc = "Product of two tensors",
    .equation = "y = a * b",
    .shape = map_shape<Fn, 2>,
    .cost = map_cost<Fn>,
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .backward = mul_backward,
    .samples = {{{{{3, 5}}, {{3, 5}}}},
                {{{{1}}, {{1}}}},
                {{{{2, 37}}, {{37}}}},
                {{{{4, 3}}, {{4, 1}}}},
                {{{{}}, {{2, 1, 7}}}},
                {{{{2, 1, 5}}, {{3, 1}}}},
                {{{{3, 4}, -9, 9, SampleIn::integers}, {{4}, -9, 9, SampleIn::integers}}}},
}};

}  // namespace

Tensor mul(const Tensor& a, const Tensor& b) { return op.one({a, b}); }

}  // namespace wattle
