// f64 matrix product for the certified mode of posit GEMM: the sum that the proof starts from.
#pragma once
#include <cstdint>

namespace wattle::quant {

/// Columns of a panel of B: as many as the machine's best level takes at a time.
int64_t dgemm_panel();

/// c [m,n] = a [m,k] b, row-major, f64, on the calling thread. b [k,n] lies in panels
/// [n / dgemm_panel(), rounded up][k][dgemm_panel()], zeros in the columns past n. Each element is
/// a sum of its k products with at most k roundings, whatever the order.
void dgemm(int64_t m, int64_t n, int64_t k, const double* a, const double* panels, double* c);

}  // namespace wattle::quant
