// min(x): the smallest element, over one dim with its index.   dx = gy at the chosen element.
#include "ops/extremum.h"

namespace wattle {
namespace {

using extremum::DimAttr;

const Op<DimAttr> op{{
    .name = "min",
    .doc = "Smallest element over dims, with its index over a single one",
    .equation = "y = min of x over dim",
    .shape = extremum::shape<false>,
    .cost = extremum::cost<false>,
    .kernels = {simd_kernel<simd::Avx512>(extremum::rows_simd<simd::Avx512, false>, extremum::whole_rows),
                simd_kernel<simd::Avx2>(extremum::rows_simd<simd::Avx2, false>, extremum::whole_rows),
                simd_kernel<simd::Portable>(extremum::rows_simd<simd::Portable, false>, extremum::whole_rows),
                {"ref", extremum::ref<false>}},
    .saves_in = {0},
    .saves_out = {0, 1},
    .backward = [](const Saved<DimAttr>& s, Ins gy) { return extremum::backward("min", s, gy); },
    .samples = extremum::samples(),
}};

}  // namespace

Tensors min(const Tensor& x, const Shape& dim, bool keepdim) {
  return op({x}, {.dim = dim, .keepdim = keepdim});
}

}  // namespace wattle
