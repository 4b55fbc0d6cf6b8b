// Sizes and strides of a matmul, for kernels in other packages.
#pragma once
#include <vector>

#include "ops/ops.h"

namespace wattle {

/// Sizes and strides of one call. A vector a counts as [1, k], a vector b as [k, 1].
struct MatmulPlan {
  int64_t m, n, k;
  Shape batch, out;  // batch dims after broadcasting; shape of the result
  int64_t a_row, a_col, b_row, b_col;
  Shape a_batch, b_batch;  // strides along `batch`, 0 where broadcast
};

/// Throws shape_error or dtype_error for operands that do not fit together.
MatmulPlan matmul_plan(Ins in, const MatmulAttr& a);
/// Offsets of the matrices of a batch.
std::vector<int64_t> batch_offsets(const Shape& batch, const Shape& strides);

}  // namespace wattle
