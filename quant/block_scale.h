// Blocks of small elements under a shared power of two: the MX formats.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "quant/minifloat.h"

namespace wattle::quant {

/// How the scale follows from the largest magnitude of the block. Results differ visibly between
/// implementations that use different ones, hence the names.
enum class ScaleRule : uint8_t {
  floor,  ///< 2^(floor(log2 amax) - emax), OCP MX 1.0; the largest elements may be clamped
  ceil,   ///< 2^ceil(log2(amax / max)): nothing is clamped
  even,   ///< amax rounded to the element's precision first, then as floor
};

/// Encodes one block of `x` (32 in MX; the last one of a row may be shorter): writes a code per
/// element and returns the E8M0 scale. A block with NaN or infinity has scale 0xFF and codes 0: it
/// decodes to NaN everywhere. A block of zeros has scale 0 and keeps its signs.
template <class Format>
uint8_t encode_block(std::span<const float> x, std::span<uint8_t> codes,
                     ScaleRule rule = ScaleRule::floor) {
  float amax = 0;
  bool finite = true;
  for (const float v : x) {
    finite = finite && std::isfinite(v);
    amax = std::max(amax, std::fabs(v));
  }
  if (!finite) {
    std::fill(codes.begin(), codes.end(), uint8_t{0});
    return 0xFF;
  }
  const int emax = std::ilogb(Format::max());
  int exponent = -127;
  if (amax > 0 && rule == ScaleRule::ceil) {
    exponent = std::ilogb(amax / Format::max());
    if (std::ldexp(Format::max(), exponent) < double{amax}) ++exponent;
  } else if (amax > 0) {
    double top = amax;
    if (rule == ScaleRule::even) {
      const double step = std::ldexp(1.0, std::ilogb(top) - Format::fraction_bits);
      top = std::nearbyint(top / step) * step;
    }
    exponent = std::ilogb(top) - emax;
  }
  const uint8_t scale = e8m0_of_exponent(exponent);
  const double inverse = 1 / e8m0_decode(scale);
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = static_cast<uint8_t>(Format::encode(double{x[i]} * inverse, Saturate::on));
  return scale;
}

template <class Format>
void decode_block(uint8_t scale, std::span<const uint8_t> codes, std::span<float> x) {
  const double s = e8m0_decode(scale);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(Format::decode(codes[i]) * s);
}

}  // namespace wattle::quant
