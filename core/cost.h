// What one call of an op costs, in countable units.
#pragma once
#include <cstdint>

namespace wattle {

/// Operation and byte counts of one call (or of a sum of calls).
///
/// Arithmetic columns hold floating-point work; the same work on integer tensors is counted in
/// `iop`. Bytes are *unique* bytes: every stored element that is read (written) counts once,
/// however often a kernel touches it; a broadcast operand counts at its stored size.
struct Cost {
  int64_t mac = 0;      ///< multiply-accumulates of contractions (matmul, linear, convolution)
  int64_t add = 0;      ///< additions and subtractions
  int64_t mul = 0;      ///< multiplications
  int64_t cmp = 0;      ///< comparisons, min, max, abs and sign changes: 0 FLOP
  int64_t special = 0;  ///< divisions, square roots, exp, log, tanh, pow, ...: 1 FLOP each
  int64_t iop = 0;      ///< the five columns above when the tensors hold integers: 0 FLOP
  int64_t read = 0;     ///< unique bytes read
  int64_t written = 0;  ///< unique bytes written

  /// Every floating-point operation: 2 per multiply-accumulate, 1 for the others.
  int64_t flops() const { return 2 * mac + add + mul + special; }
  /// The convention of most papers and of torch.utils.flop_counter: contractions only, 2 per
  /// multiply-accumulate, taps that fall into the padding included.
  int64_t flops_weighted() const { return 2 * mac; }
  int64_t bytes() const { return read + written; }

  Cost& operator+=(const Cost& o) {
    mac += o.mac, add += o.add, mul += o.mul, cmp += o.cmp, special += o.special, iop += o.iop;
    read += o.read, written += o.written;
    return *this;
  }
  friend Cost operator+(Cost a, const Cost& b) { return a += b; }
  /// The same call k times.
  friend Cost operator*(Cost a, int64_t k) {
    a.mac *= k, a.add *= k, a.mul *= k, a.cmp *= k, a.special *= k, a.iop *= k;
    a.read *= k, a.written *= k;
    return a;
  }
  friend bool operator==(const Cost&, const Cost&) = default;
};

}  // namespace wattle
