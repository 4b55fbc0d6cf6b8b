// Small binary floating-point formats, one definition for all: bf16, fp16, the OCP 8-bit formats
// E4M3 and E5M2, the 6- and 4-bit elements of the MX formats, and the scale E8M0. The scalar
// reference. OCP 8-bit Floating Point Specification (OFP8) 1.0; OCP Microscaling Formats (MX) 1.0.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/both.h"

namespace wattle::quant {

/// What the codes with all exponent bits set mean.
enum class Specials : uint8_t {
  ieee,      ///< infinities and NaN, as in IEEE 754
  nan_only,  ///< "fn": all ones is NaN, there is no infinity, the other codes are numbers
  none,      ///< every code is a number
};
/// What becomes of a number beyond the largest one.
enum class Saturate : uint8_t {
  on,   ///< the largest number, also for infinity
  off,  ///< infinity, or NaN where there is none
};

/// 1 sign bit, E exponent bits, M fraction bits; code = sign | exponent | fraction.
template <int E, int M, Specials S>
struct MiniFloat {
  static_assert(M >= 1);
  static constexpr int bits = 1 + E + M;
  static constexpr int fraction_bits = M;
  static constexpr Specials specials = S;
  static constexpr int bias = (1 << (E - 1)) - 1;
  static constexpr int min_exponent = 1 - bias;
  static constexpr uint32_t sign_bit = 1u << (bits - 1);
  static constexpr uint32_t nan_code =
      S == Specials::ieee ? (((1u << E) - 1) << M) | (1u << (M - 1)) : sign_bit - 1;
  static constexpr uint32_t infinity_code = ((1u << E) - 1) << M;  ///< with Specials::ieee
  static constexpr uint32_t max_code = S == Specials::ieee       ? infinity_code - 1
                                       : S == Specials::nan_only ? sign_bit - 2
                                                                 : sign_bit - 1;

  /// Value of a code; exact. NaN for NaN codes.
  WATTLE_BOTH static double decode(uint32_t code) {
    const uint32_t magnitude = code & (sign_bit - 1);
    const double sign = code & sign_bit ? -1 : 1;
    if (S == Specials::nan_only && magnitude == sign_bit - 1)
      return std::copysign(std::numeric_limits<double>::quiet_NaN(), sign);
    if (S == Specials::ieee && magnitude >= infinity_code)
      return magnitude == infinity_code
                 ? sign * std::numeric_limits<double>::infinity()
                 : std::copysign(std::numeric_limits<double>::quiet_NaN(), sign);
    const int e = static_cast<int>(magnitude >> M);
    const uint32_t f = magnitude & ((1u << M) - 1);
    if (e == 0) return sign * std::ldexp(static_cast<double>(f), min_exponent - M);
    return sign * std::ldexp(static_cast<double>(f + (1u << M)), e - bias - M);
  }
  WATTLE_BOTH static double max() { return decode(max_code); }

  /// Nearest code, ties to even. A number is rounded first and compared with the largest one then.
  /// The sign of NaN and of zero is kept. NaN becomes the largest number where the format has none:
  /// a caller who may meet it asks first.
  WATTLE_BOTH static uint32_t encode(double x, Saturate saturate) {
    const uint32_t sign = std::signbit(x) ? sign_bit : 0;
    if (std::isnan(x)) return sign | (S == Specials::none ? max_code : nan_code);
    const uint32_t code = std::isinf(x) ? max_code + 1 : rounded(std::fabs(x));
    if (code <= max_code) return sign | code;
    const bool clamp = saturate == Saturate::on || S == Specials::none;
    return sign | (clamp ? max_code : S == Specials::ieee ? infinity_code : nan_code);
  }

 private:
  // Codes of positive numbers count up with their values, so a carry of the fraction moves into the
  // exponent by itself. Numbers beyond the format give a code above max_code.
  WATTLE_BOTH static uint32_t rounded(double x) {
    if (x == 0) return 0;
    const int found = std::ilogb(x), e = found < min_exponent ? int{min_exponent} : found;
    if (e > bias + 1) return max_code + 1;
    const double steps = std::nearbyint(std::ldexp(x, M - e));  // exact but for the rounding
    const auto n = static_cast<uint32_t>(steps);
    return n + (static_cast<uint32_t>(e - min_exponent) << M);
  }
};

using bf16_format = MiniFloat<8, 7, Specials::ieee>;
using fp16_format = MiniFloat<5, 10, Specials::ieee>;
using e4m3_format = MiniFloat<4, 3, Specials::nan_only>;  ///< "e4m3fn"
using e5m2_format = MiniFloat<5, 2, Specials::ieee>;
using e3m2_format = MiniFloat<3, 2, Specials::none>;
using e2m3_format = MiniFloat<2, 3, Specials::none>;
using e2m1_format = MiniFloat<2, 1, Specials::none>;

/// E8M0: powers of two from 2^-127 (code 0) to 2^127; 0xFF is NaN.
WATTLE_BOTH inline double e8m0_decode(uint8_t code) {
  return code == 0xFF ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, code - 127);
}
/// Code of 2^exponent, clamped to what there is.
WATTLE_BOTH inline uint8_t e8m0_of_exponent(int exponent) {
  return static_cast<uint8_t>(std::min(254, std::max(0, exponent + 127)));
}

}  // namespace wattle::quant
