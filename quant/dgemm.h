// f64 matrix product for the certified mode of posit GEMM: the sum that the proof starts from.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace wattle::quant {

/// b [k,n] (row-major, f64) in panels of as many columns as the best level of the machine takes at
/// a time; packed once, on several threads, and shared by all rows.
class PackedB {
 public:
  PackedB(int64_t k, int64_t n, const double* b);
  /// c [m,n] = a [m,k] b, row-major, on the calling thread. Each element is a sum of its k products
  /// with at most k roundings, whatever the order.
  void multiply(int64_t m, const double* a, double* c) const;

 private:
  int64_t k_, n_;
  Tensor panels_;  // [panel][k][width]
};

}  // namespace wattle::quant
