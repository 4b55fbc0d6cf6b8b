// Matrix products of posits with the sums that the caller asks for:
//
//   quire      every sum in a fixed-point accumulator, exact, rounded once
//   certified  the same bits for a fraction of the work. A float64 sum s of k products is within
//              e = 1.2e-16 (k + 2) (|a_i| |b_j| + |bias|) of the exact one (Cauchy-Schwarz; the
//              norms cost n^2). Rounding to posit is monotone: where s - e and s + e round to one
//              posit, that is the quire's, whatever the order of the sum; the others go through it.
//   per_op     each product and each sum is rounded, in the order of k
#pragma once
#include <cstdint>
#include <string>

#include "core/cost.h"
#include "core/dtype.h"

namespace wattle::quant {

/// c[i,j] = sum_k a[i,k] b[k,j] + bias[j] on codes of one posit type; strides in elements, bias [n]
/// may be null.
template <class Code>
struct PositProduct {
  int64_t m, n, k;
  const Code* a;
  int64_t a_row, a_col;
  const Code* b;
  int64_t b_row, b_col;
  const Code* bias;
  Code* c;
  int64_t c_row, c_col;
};
/// The same before the type of the codes is known.
using PositGemm = PositProduct<void>;

/// accumulate is certified, quire or per_op. Returns how many sums certified took to the quire.
/// Throws value_error for sums of 2^31 products and more, which no quire holds.
int64_t posit_gemm(const PositGemm& g, const std::string& accumulate, DType t);

/// What that executes, bytes aside: certified multiply-adds in f64, its proof, and per operand a
/// decoding, per result two encodings; quire and per_op about as many integer operations per
/// product as their code is long. Sums that fall back to the quire are not in it.
Cost posit_gemm_executes(int64_t m, int64_t n, int64_t k, const std::string& accumulate, DType t);

}  // namespace wattle::quant
