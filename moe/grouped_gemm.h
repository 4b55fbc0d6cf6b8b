// Matrix products of groups of rows, each with a matrix of its own.
#pragma once
#include "core/simd.h"

namespace wattle::grouped {

/// Slots offsets[e] .. offsets[e+1] belong to group e. rows[p] is where the operand of slot p lies;
/// null: in row p.
struct Groups {
  int64_t count;
  const int64_t* offsets;
  const int64_t* rows;
};
/// A group's matrix [k,n] starts at p + e k n; transposed: it is stored as [n,k].
struct Weights {
  const float* p;
  int64_t k, n;
  bool transposed;
};

/// y[p] = x[rows[p]] W_e for every slot p of every group e; x has rows of k, y of n floats. relu: 0
/// for what is below.
template <class Isa>
void multiply(const Groups& g, const float* x, const Weights& w, float* y, bool relu);

/// dw_e [k,n] = sum over the slots p of group e of a[p]^T b[p]; `a_rows` and `b_rows` say where the
/// operands of a slot lie (null: in row p). 0 for groups without a slot.
template <class Isa>
void outer(int64_t groups, const int64_t* offsets, const float* a, const int64_t* a_rows, int64_t k,
           const float* b, const int64_t* b_rows, int64_t n, float* dw);

}  // namespace wattle::grouped
