// max(x): the largest element, over one dim with its index.   dx = gy at the chosen element.
#include "ops/extremum.h"

namespace wattle {
namespace {

using extremum::DimAttr;

template <class Isa>
Kernel<DimAttr> row_kernel() {
  return simd_kernel<Isa>(extremum::rows_simd<Isa, true>, extremum::whole_rows);
}

const Op<DimAttr> op{{
    .name = "max",
    .doc = "Largest element over dims, with its index over a single one",
    .equation = "y = max of x over dim",
    .shape = extremum::shape<true>,
    .cost = extremum::cost<true>,
    .kernels = {row_kernel<simd::Avx512>(),
                row_kernel<simd::Avx2>(),
                row_kernel<simd::Portable>(),
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
