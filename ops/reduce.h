// Shared machinery of reductions over arbitrary dims.
//
// Neighbouring dims that are both kept or both reduced merge into runs, so that every call becomes
// an alternation such as [kept, reduced] (rows), [reduced, kept] (columns) or [reduced, kept,
// reduced] (channels of an image batch). Runs are summed one at a time, the outermost first: each
// stage reads its operand once, in order, and leaves far less for the next.
#pragma once
#include "ops/rules.h"

namespace wattle::reduce {

/// PyTorch's arguments of sum, mean, max, min; no dim = all dims.
struct DimAttr {
  Shape dim;
  bool keepdim = false;
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("keepdim", keepdim);
  }
};

/// Alternating runs of kept and reduced dims, sizes of 1 dropped.
struct Runs {
  int count = 0;
  int64_t size[Shape::max_rank] = {};
  bool reduced[Shape::max_rank] = {};
};
Runs merge_runs(const Shape& shape, uint32_t mask);

/// Sizes and row-major strides of the kept and of the reduced dims, apart.
struct Split {
  Shape kept, kept_strides, reduced, reduced_strides;
};
Split split_dims(const Shape& shape, uint32_t mask);

/// Number of elements that one result is made of.
int64_t reduced_count(const Shape& shape, uint32_t mask);

/// Stretches a gradient of the result (with or without keepdim) over the reduced dims again.
Tensor spread(const Tensor& gy, const Shape& shape, uint32_t mask);

/// Calls fn(output index, offset of its first element) for every result in order.
template <class F>
void for_each_result(const Split& s, F&& fn) {
  for_each_offset(s.kept, s.kept_strides, fn);
}

/// Sums of f32 with the lanes of Isa; y row-major over the kept dims. Summed in fixed blocks
/// of 4096 elements (64 additions per lane) or 64 rows, then the sums of the blocks in turn.
template <class Isa>
void sum_f32(const float* x, const Shape& shape, uint32_t mask, float* y);
extern template void sum_f32<simd::Portable>(const float*, const Shape&, uint32_t, float*);
extern template void sum_f32<simd::Avx2>(const float*, const Shape&, uint32_t, float*);
extern template void sum_f32<simd::Avx512>(const float*, const Shape&, uint32_t, float*);

}  // namespace wattle::reduce
