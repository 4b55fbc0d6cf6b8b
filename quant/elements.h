// The scalar references under one interface, for code that serves every format: encode, decode, the
// neighbouring code, and what the format can hold.
#pragma once
#include "core/philox.h"
#include "quant/block_math.h"
#include "quant/posit.h"

namespace wattle::quant {

template <int N, int ES>
struct PositElement {
  using P = Posit<N, ES>;
  static constexpr const char* name = "a posit";
  static constexpr int bits = N;
  static constexpr bool has_nan = true, may_overflow = false;
  WATTLE_BOTH static double max() { return P::maxpos().to_double(); }
  WATTLE_BOTH static double min_positive() { return P::minpos().to_double(); }
  WATTLE_BOTH static double decode(uint32_t code) { return P::of(code).to_double(); }
  WATTLE_BOTH static uint32_t encode(double x, Saturate) { return P::from(x).bits; }
  /// The code above or below; false when there is none. Codes are ordered as signed integers.
  WATTLE_BOTH static bool step(uint32_t code, bool up, uint32_t& to) {
    to = P::of(up ? code + 1 : code - 1).bits;
    return to != P::nar().bits;
  }
};

template <class F>
struct FloatElement {
  using Format = F;
  static constexpr const char* name = "a format of 4 or 6 bits";
  static constexpr int bits = F::bits;
  static constexpr bool has_nan = F::specials != Specials::none, may_overflow = has_nan;
  WATTLE_BOTH static double max() { return F::max(); }
  WATTLE_BOTH static double min_positive() { return F::decode(1); }
  WATTLE_BOTH static double decode(uint32_t code) { return F::decode(code); }
  WATTLE_BOTH static uint32_t encode(double x, Saturate s) { return F::encode(x, s); }
  /// Codes count up with the magnitude; through zero they change sign.
  WATTLE_BOTH static bool step(uint32_t code, bool up, uint32_t& to) {
    const bool negative = code & F::sign_bit;
    const uint32_t magnitude = code & (F::sign_bit - 1);
    if (magnitude == 0) to = up ? 1u : F::sign_bit | 1u;
    else if (up != negative && magnitude == F::max_code) return false;
    else to = up != negative ? code + 1 : code - 1;
    return true;
  }
};

/// Two's complement of `Bits` bits.
template <int Bits>
struct IntElement {
  static constexpr const char* name = "an integer";
  static constexpr int bits = Bits;
  static constexpr bool has_nan = false, may_overflow = false;
  static constexpr int least = -(1 << (Bits - 1)), most = (1 << (Bits - 1)) - 1;
  static constexpr uint32_t mask = (1u << Bits) - 1;
  WATTLE_BOTH static double max() { return most; }
  WATTLE_BOTH static double min_positive() { return 1; }
  WATTLE_BOTH static double decode(uint32_t code) {
    const int v = static_cast<int>(code & mask);
    return v > most ? v - (1 << Bits) : v;
  }
  WATTLE_BOTH static uint32_t encode(double x, Saturate) {
    const double k = std::clamp(std::nearbyint(x), double{least}, double{most});
    return static_cast<uint32_t>(static_cast<int>(k)) & mask;
  }
  WATTLE_BOTH static bool step(uint32_t code, bool up, uint32_t& to) {
    const int v = static_cast<int>(decode(code)) + (up ? 1 : -1);
    to = static_cast<uint32_t>(v) & mask;
    return v >= least && v <= most;
  }
};

/// k / 64 of MXINT8.
struct MxIntElement {
  using Format = MxInt8Element;
  static constexpr const char* name = "an integer";
  static constexpr int bits = 8;
  static constexpr bool has_nan = false, may_overflow = false;
  WATTLE_BOTH static double max() { return Format::max(); }
  WATTLE_BOTH static double min_positive() { return Format::decode(1); }
  WATTLE_BOTH static double decode(uint32_t code) { return Format::decode(code); }
  WATTLE_BOTH static uint32_t encode(double x, Saturate s) { return Format::encode(x, s); }
  WATTLE_BOTH static bool step(uint32_t code, bool up, uint32_t& to) {
    return IntElement<8>::step(code, up, to) && to != 0x80;
  }
};

/// E8M0. Nearest power of two by value, ties up, as ml_dtypes has it; 0 and what is below 2^-127
/// become 2^-127 when saturating.
struct ScaleElement {
  static constexpr const char* name = "a scale";
  static constexpr int bits = 8;
  static constexpr bool has_nan = true, may_overflow = true;
  WATTLE_BOTH static double max() { return 0x1p127; }
  WATTLE_BOTH static double min_positive() { return 0x1p-127; }
  WATTLE_BOTH static double decode(uint32_t code) {
    return e8m0_decode(static_cast<uint8_t>(code));
  }
  WATTLE_BOTH static uint32_t encode(double x, Saturate s) {
    if (!(x >= 0)) return 0xFF;  // negative numbers and NaN
    if (s == Saturate::off && (x >= 0x1.8p127 || x < 0x1p-128)) return 0xFF;
    if (x <= 0x1p-127) return 0;
    if (x >= 0x1p127) return 254;
    const int e = std::ilogb(x);
    return e8m0_of_exponent(e + (std::ldexp(x, -e) >= 1.5 ? 1 : 0));
  }
  WATTLE_BOTH static bool step(uint32_t code, bool up, uint32_t& to) {
    if (code == (up ? 254u : 0u)) return false;
    to = up ? code + 1 : code - 1;
    return true;
  }
};

/// One number by the reference: to nearest, or by chance between the two neighbours. `i`: which
/// number of the cast it is.
template <class E>
WATTLE_BOTH uint32_t encode_one(double x, const EncodeOptions& o, uint64_t i) {
  const uint32_t nearest = E::encode(x, o.saturate ? Saturate::on : Saturate::off);
  const double y = E::decode(nearest);
  if (o.rounding == Rounding::nearest || y == x || !std::isfinite(y)) return nearest;
  uint32_t other = 0;
  if (!E::step(nearest, x > y, other)) return nearest;
  const double v = E::decode(other);
  if (!std::isfinite(v)) return nearest;
  // By values, not by codes: where exponent bits are cut, codes are not evenly spaced.
  const double p = (x - y) / (v - y);
  return double{uniform_at(o.seed, o.first + i)} < p ? other : nearest;
}

/// Adds what rounding x to `code` did to it.
template <class E>
WATTLE_BOTH void count_rounding(double x, uint32_t code, CastStats& s) {
  const double y = E::decode(code);
  if (std::isnan(y)) {
    ++s.nar;
  } else if (y != x) {
    ++s.inexact;
    const double m = std::fabs(y);
    s.to_max += m >= E::max() ? 1 : 0;
    s.to_min += m == E::min_positive() ? 1 : 0;
    s.to_zero += m == 0 ? 1 : 0;
  }
}

}  // namespace wattle::quant
