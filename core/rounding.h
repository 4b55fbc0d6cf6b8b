// How numbers become codes, by name.
#pragma once
#include <cstdint>

namespace wattle {

enum class Rounding : uint8_t {
  nearest,     ///< ties to the even code; posits by the thresholds of their standard
  stochastic,  ///< up or down with the probability that makes the mean right
};

/// How a block's power-of-two scale follows from its largest magnitude. Results differ visibly
/// between implementations that use different ones, hence the names.
enum class ScaleRule : uint8_t {
  floor,  ///< 2^(floor(log2 amax) - emax), OCP MX 1.0; the largest elements may be clamped
  ceil,   ///< 2^ceil(log2(amax / max)): nothing is clamped
  even,   ///< amax rounded to the element's precision first, then as floor
};

}  // namespace wattle
