// Random spikes, and spikes as numbers, for the tests of snn/.
#pragma once
#include "ops/ops.h"

namespace wattle {

inline Tensor random_spikes(const Shape& shape, double rate) {
  return cast(cast(lt(uniform(shape), Tensor::full({1}, rate)), DType::f32), DType::spike);
}
inline Tensor floats(const Tensor& s) { return cast(s, DType::f32); }

}  // namespace wattle
