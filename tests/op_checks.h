// Checks that hold for every op. Each takes an op and the number of one of its samples and returns
// what is wrong, or an empty text; so a test can also ask them to find a fault that it planted.
#pragma once
#include <string>

#include "core/op.h"

namespace wattle::checks {

/// Operands of a sample, filled from `seed`; floating operands get `floating`. Values are multiples
/// of 2^-20, so that f32 and f64 hold the same numbers.
Tensors sample_inputs(const OpBase& op, int sample, DType floating, uint64_t seed = 7);
/// A copy in new row-major storage (undefined stays undefined).
Tensor deep_copy(const Tensor& t);
/// |a - b| / |b| over all elements as doubles (0 when both vanish); not-a-number must meet its
/// like.
double relative_error(const Tensor& a, const Tensor& b);

/// A run on meta gives the same shapes, dtypes, kernel, cost and executed cost as a real run.
std::string meta_equals_real(const OpBase& op, int sample);
/// The declared operations and bytes are those that the reference kernel executes on the counting
/// scalar, exactly. For data-dependent ops the reported cost is, and the declared bounds it.
std::string cost_equals_counted(const OpBase& op, int sample);
/// Every kernel that accepts the sample agrees with the f64 reference within 1e-5 (f32).
std::string kernels_agree(const OpBase& op, int sample);
/// Gradients agree with central differences in f64 within 1e-6, for a random upstream gradient.
std::string gradients_agree(const OpBase& op, int sample);
/// Transposed and gapped operands give the result of row-major ones.
std::string strided_agrees(const OpBase& op, int sample);
/// The same bits with 1, 2 and 3 threads, for every kernel that accepts the sample.
std::string same_bits(const OpBase& op, int sample);

/// True when some gradient of the sample is not zero (a derivative that always vanishes would pass
/// every comparison with zero).
bool has_nonzero_gradient(const OpBase& op, int sample);

inline constexpr double gradient_tolerance = 1e-6;
inline constexpr double kernel_tolerance = 1e-5;

}  // namespace wattle::checks
