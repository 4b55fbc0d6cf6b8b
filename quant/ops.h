// The ops of this folder.
#pragma once
#include "ops/ops.h"

namespace wattle {

/// a [M,K] i8 or u8, b [K,N] i8 (or [N,K] with transpose_b) -> [M,N] i32.
Tensor int_matmul(const Tensor& a, const Tensor& b, bool transpose_b = false);

}  // namespace wattle
