// What the tests of neurons share: inputs and spikes as text, gradients compared.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace wattle {

/// One neuron's input, [T,1].
inline Tensor column(const std::vector<float>& x) {
  return Tensor::from<float>(x, {static_cast<int64_t>(x.size()), 1});
}
/// "0110" of spikes as numbers or bits.
inline std::string spikes_of(const Tensor& s) {
  std::string text;
  for (float v : cast(s, DType::f32).values<float>()) text += v == 1 ? '1' : '0';
  return text;
}
/// The largest difference over the largest value of b.
inline double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::fabs(double{a[i]} - double{b[i]}));
    size = std::max(size, std::fabs(double{b[i]}));
  }
  return most / std::max(size, 1e-3);
}

}  // namespace wattle
