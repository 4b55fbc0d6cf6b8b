// f32 matrix multiplication, C = A B, the core under linear, matmul and convolution.
#pragma once
#include <cstdint>
#include <functional>

#include "core/simd.h"

namespace wattle::gemm {

/// A matrix in memory: element (i, j) is p[i * row_stride + j * col_stride]. Strides count elements
/// and may be anything, so a transposed view costs nothing. With `rows`, which only the left
/// operand of sgemm may have, row i is rows[i]: a product of picked rows that are copied a strip at
/// a time.
struct MatView {
  const float* p;
  int64_t row_stride, col_stride;
  const int64_t* rows = nullptr;
};

/// Takes a block of C, whose sums are complete: first row, first column, rows, columns. Called once
/// for every element, by the thread that has just computed it, several at a time.
using Finish = std::function<void(int64_t, int64_t, int64_t, int64_t)>;

/// What happens to the product on its way into C.
struct Epilogue {
  const float* bias_n = nullptr;   ///< [n], added to every row
  bool accumulate = false;         ///< C += instead of C =
  const Finish* finish = nullptr;  ///< of sgemm
};

/// What goes on around a product.
struct Around {
  bool alone = false;  ///< the caller is one of several threads at work: nothing is shared out
  /// What the caller reads next, or null: it is on its way into the second-level cache meanwhile.
  const float* ahead = nullptr;
  int64_t ahead_floats = 0;
};

/// c [m,n] = a [m,k] b [k,n] (+ bias) (+ c), row i of c starting at c + i * ldc.
///
/// Runs on several threads. The order in which a sum is taken depends on the shape and the strides
/// alone, so the bits do not depend on the number of threads. NaN and infinity propagate as in the
/// plain triple loop. k = 0 is a sum of nothing: 0 (+ bias) (+ c). c must not overlap a, b or bias.
template <class Isa>
void sgemm(int64_t m, int64_t n, int64_t k, MatView a, MatView b, float* c, int64_t ldc,
           Epilogue e = {}, Around around = {});

/// Where the matrices of a batch lie: matrix i starts at p + (offset ? offset[i] : i * stride), in
/// elements. A stride of 0 broadcasts.
struct BatchStep {
  int64_t stride = 0;
  const int64_t* offset = nullptr;
  int64_t at(int64_t i) const { return offset ? offset[i] : i * stride; }
};

/// c_i [m,n] = a_i [m,k] b_i [k,n] for i in [0, batch). Small matrices are shared out over threads
/// whole, large ones are cut as in sgemm. The c_i must not overlap.
template <class Isa>
void sgemm_batched(int64_t batch, int64_t m, int64_t n, int64_t k, MatView a, BatchStep a_step,
                   MatView b, BatchStep b_step, float* c, BatchStep c_step, int64_t ldc,
                   Epilogue e = {});

}  // namespace wattle::gemm
