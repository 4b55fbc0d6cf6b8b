// fma(a, b, c) = a * b + c, rounded once.   da = gy * b, db = gy * a, dc = gy, summed over the
// broadcast dims.
#include <cmath>

#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn : Map3 {
  static constexpr const char* name = "fma";
  static constexpr Cost cost{.add = 1, .mul = 1};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& a, const T& b, const T& c) const {
    if constexpr (std::is_same_v<T, Counted>) return a * b + c;
    else return std::fma(a, b, c);
  }
  // The compiler contracts this to the instruction, which both instruction sets below have.
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> a, simd::f32<N> b, simd::f32<N> c) const {
    return a * b + c;
  }
};

Tensors fma_backward(const Saved<NoAttr>& s, Ins gy) {
  Tensors g(3);
  if (s.needs(0)) g[0] = sum_to(mul(gy[0], s.in(1)), s.shape(0));
  if (s.needs(1)) g[1] = sum_to(mul(gy[0], s.in(0)), s.shape(1));
  if (s.needs(2)) g[2] = sum_to(gy[0], s.shape(2));
  return g;
}

const Op<> op{{
    .name = "fma",
    .doc = "Product plus a third tensor, rounded once",
    .equation = "y = a * b + c",
    .shape = map_shape<Fn, 3>,
    .cost = map_cost<Fn>,
    .kernels = {simd_kernel<simd::Avx512, NoAttr>(map_simd<simd::Avx512, Fn, NoAttr>),
                simd_kernel<simd::Avx2, NoAttr>(map_simd<simd::Avx2, Fn, NoAttr>),
                {"ref", map_ref<Fn, NoAttr>}},
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .backward = fma_backward,
    .samples = {{{{{3, 5}}, {{3, 5}}, {{3, 5}}}},
                {{{{1}}, {{1}}, {{1}}}},
                {{{{2, 37}}, {{37}}, {{2, 1}}}},
                {{{{}}, {{2, 1, 7}}, {{3, 7}}}}},
}};

}  // namespace

Tensor fma(const Tensor& a, const Tensor& b, const Tensor& c) { return op.one({a, b, c}); }

}  // namespace wattle
