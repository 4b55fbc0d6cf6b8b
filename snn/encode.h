// Numbers into spikes over time. x [...] in [0, 1] unless said otherwise; results are [T, ...] of
// dtype spike.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace wattle::snn {

/// Each step a spike with probability clamp(gain x + offset, 0, 1), drawn by number (seed, place):
/// the same bits for any number of threads.
Tensor encode_rate(const Tensor& x, int64_t steps, uint64_t seed, double gain = 1,
                   double offset = 0);

/// One spike each, the earlier the larger x is; x below `threshold` counts as it. linear: at
/// (T - 1)(1 - x). logarithmic: at tau ln(x / (x - threshold)), at most T - 1; normalized: all
/// times stretched by one factor so that the latest is T - 1.
struct Latency {
  bool logarithmic = false, normalized = false;
  double tau = 1, threshold = 0.01;
};
Tensor encode_latency(const Tensor& x, int64_t steps, const Latency& how = {});
/// The same times as numbers, not rounded.
Tensor latency_times(const Tensor& x, int64_t steps, const Latency& how = {});

/// x [T, ...]: a spike where x grew by at least `threshold` since the step before; the first step
/// is compared with 0.
Tensor encode_delta(const Tensor& x, double threshold = 0.1);

/// Bit planes of x, worth 1/2, 1/4, ... : step t holds bit t % bits of floor(x 2^bits), x = 1
/// counts as the largest.
Tensor encode_phase(const Tensor& x, int64_t steps, int bits = 8);

}  // namespace wattle::snn
