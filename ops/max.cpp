// max(x): the largest element, over one dim with its index.   dx = gy at the chosen element.
#include "ops/extremum.h"

namespace wattle {
namespace {

using extremum::DimAttr;

const Op<DimAttr> op{{
    .name = "max",
    .doc = "Largest element over dims, with its index over a single one",
    .equation = "y = max of x over dim",
    .shape = extremum::shape<true>,
    .cost = extremum::cost<true>,
    .kernels = {simd_kernel<simd::Avx512>(extremum::rows_simd<simd::Avx512, true>, extremum::whole_rows),
                simd_kernel<simd::Avx2>(extremum::rows_simd<simd::Avx2, true>, extremum::whole_rows),
                simd_kernel<simd::Portable>(extremum::rows_simd<simd::Portable, true>, extremum::whole_rows),
                {"ref", extremum::ref<true>}},
    .saves_in = {0},
    .saves_out = {0, 1},
    .backward = [](const Saved<DimAttr>& s, Ins gy) { return extremum::backward("max", s, gy); },
    .samples = extremum::samples(),
}};

}  // namespace

Tensors max(const Tensor& x, const Shape& dim, bool keepdim) {
  return op({x}, {.dim = dim, .keepdim = keepdim});
}

}  // namespace wattle
