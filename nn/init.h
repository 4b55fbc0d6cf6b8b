// Initial values of parameters, drawn from the thread's generator on its default device.
#pragma once
#include <cmath>

#include "core/recorder.h"
#include "ops/ops.h"

namespace wattle::nn::init {

/// U(-b, b) with b = gain * sqrt(3 / fan_in), gain = sqrt(2 / (1 + a^2)) (He et al. 2015).
/// PyTorch's layers use a = sqrt(5), which makes b = 1 / sqrt(fan_in).
inline Tensor kaiming_uniform(const Shape& shape, int64_t fan_in, double a = std::sqrt(5.0)) {
  const double bound = std::sqrt(6.0 / ((1 + a * a) * static_cast<double>(fan_in)));
  return uniform(shape, -bound, bound);
}

/// U(-b, b) with b = 1 / sqrt(fan_in).
inline Tensor bias_uniform(int64_t n, int64_t fan_in) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return uniform({n}, -bound, bound);
}

}  // namespace wattle::nn::init
