// The scale of a block of small elements, and the element that only blocks have.
#pragma once
#include "core/rounding.h"
#include "quant/minifloat.h"

namespace wattle::quant {

/// E8M0 code of the scale of a block whose largest magnitude is `amax`; 2^-127 for zeros.
template <class Format>
WATTLE_BOTH uint8_t mx_scale(double amax, ScaleRule rule) {
  const int emax = std::ilogb(Format::max());
  int exponent = -127;
  if (amax > 0 && rule == ScaleRule::ceil) {
    exponent = std::ilogb(amax / Format::max());
    if (std::ldexp(Format::max(), exponent) < amax) ++exponent;
  } else if (amax > 0) {
    double top = amax;
    if (rule == ScaleRule::even) {
      const double step = std::ldexp(1.0, std::ilogb(top) - Format::fraction_bits);
      top = std::nearbyint(top / step) * step;
    }
    exponent = std::ilogb(top) - emax;
  }
  return e8m0_of_exponent(exponent);
}

/// Element of MXINT8: k / 64 in two's complement, k = -127..127; -128 is not used (OCP MX 1.0).
struct MxInt8Element {
  static constexpr int bits = 8, fraction_bits = 6;
  WATTLE_BOTH static double max() { return 127.0 / 64; }
  WATTLE_BOTH static double decode(uint32_t code) { return static_cast<int8_t>(code) / 64.0; }
  /// Nearest, ties to even, clamped to +-max(): there is no code for anything else.
  WATTLE_BOTH static uint32_t encode(double x, Saturate) {
    const double k = std::clamp(std::nearbyint(x * 64), -127.0, 127.0);
    return static_cast<uint8_t>(static_cast<int8_t>(k));
  }
};

}  // namespace wattle::quant
