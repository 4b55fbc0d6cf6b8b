// Posit numbers, exact to the bit: the scalar reference that every faster kernel is compared with.
// Posit Working Group, "Standard for Posit Arithmetic (2022)"; es = 2 there, 0 and 1 in older
// papers.
//
//   word      sign | regime run | terminator | es exponent bits | fraction; what does not fit is 0
//   value     +-2^(k 2^es + e) (1 + f), k = ones - 1 or -zeros of the run
//   rounding  to the nearest word: the threshold between two words is the posit of one bit more
//   that
//             lies between them, ties go to the even word. Never to 0, never to NaR.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/both.h"

namespace wattle::quant {

__extension__ typedef unsigned __int128 uint128;

/// A number on its way between words: +-frac 2^(scale - 63), frac with its top bit set.
struct PositParts {
  bool zero = false, nar = false, negative = false;
  int scale = 0;
  uint64_t frac = 0;
  bool sticky = false;  ///< something above 0 was lost below frac
};

/// posit<N, ES> as a word of N bits, N = 3..32.
template <int N, int ES = 2>
struct Posit {
  static_assert(N >= 3 && N <= 32 && ES >= 0 && ES <= 4);
  using Word = std::conditional_t<N <= 8, uint8_t, std::conditional_t<N <= 16, uint16_t, uint32_t>>;
  static constexpr uint32_t mask = N == 32 ? ~0u : (1u << N) - 1;
  static constexpr int max_scale = (N - 2) << ES;  ///< maxpos = 2^max_scale, minpos its inverse

  Word bits = 0;

  static constexpr Posit of(uint32_t word) { return {static_cast<Word>(word & mask)}; }
  static constexpr Posit nar() { return of(1u << (N - 1)); }
  static constexpr Posit maxpos() { return of((1u << (N - 1)) - 1); }
  static constexpr Posit minpos() { return of(1); }
  WATTLE_BOTH bool is_nar() const { return bits == nar().bits; }

  WATTLE_BOTH PositParts unpack() const;
  WATTLE_BOTH static Posit pack(const PositParts& p);  ///< rounds once
  /// From any double: +-0 to 0, infinities and NaN to NaR.
  WATTLE_BOTH static Posit from(double v);
  /// Exact; NaR becomes a quiet NaN.
  WATTLE_BOTH double to_double() const;
  /// The word as a signed integer: posits are ordered as these are, NaR below all.
  int32_t ordered() const { return static_cast<int32_t>(uint32_t{bits} << (32 - N)) >> (32 - N); }

  WATTLE_BOTH friend bool operator==(Posit a, Posit b) { return a.bits == b.bits; }
  friend bool operator<(Posit a, Posit b) { return a.ordered() < b.ordered(); }
  WATTLE_BOTH friend Posit operator-(Posit a) { return of(~uint32_t{a.bits} + 1); }
};

using posit8 = Posit<8>;
using posit16 = Posit<16>;
using posit32 = Posit<32>;

template <int N, int ES>
WATTLE_BOTH PositParts Posit<N, ES>::unpack() const {
  PositParts p;
  p.zero = bits == 0;
  p.nar = is_nar();
  if (p.zero || p.nar) return p;
  p.negative = (uint32_t{bits} >> (N - 1)) & 1;
  const uint32_t magnitude = (p.negative ? ~uint32_t{bits} + 1 : uint32_t{bits}) & mask;
  const uint64_t body = uint64_t{magnitude} << (64 - N + 1);  // without the sign, at the top
  const bool ones = body >> 63;
  const int run = wattle::leading_zeros(ones ? ~body : body);
  const int k = ones ? run - 1 : -run;
  const uint64_t rest = body << (run + 1);
  const int e = ES == 0 ? 0 : static_cast<int>(rest >> (64 - (ES == 0 ? 1 : ES)));
  p.scale = k * (1 << ES) + e;
  p.frac = uint64_t{1} << 63 | (rest << ES) >> 1;
  return p;
}

template <int N, int ES>
WATTLE_BOTH Posit<N, ES> Posit<N, ES>::pack(const PositParts& p) {
  if (p.nar) return nar();
  if (p.zero) return of(0);
  const auto with_sign = [&](uint32_t word) { return p.negative ? -of(word) : of(word); };
  if (p.scale >= max_scale) return with_sign(maxpos().bits);
  if (p.scale < -max_scale) return with_sign(minpos().bits);
  const int k = p.scale >> ES;  // floor
  const auto e = static_cast<uint32_t>(p.scale - k * (1 << ES));
  const int length = k >= 0 ? k + 2 : 1 - k;
  const uint128 regime = k >= 0 ? (uint128{1} << length) - 2 : uint128{1};
  // [regime][exponent][fraction], from the top of 128 bits
  const uint128 fraction = uint128{p.frac << 1} << 64;
  const uint128 body =
      regime << (128 - length) | uint128{e} << (128 - length - ES) | fraction >> (length + ES);
  const auto word = static_cast<uint32_t>(body >> (128 - (N - 1)));
  const uint128 rest = body << (N - 1);
  const uint128 half = uint128{1} << 127;
  const bool above = rest > half || (rest == half && (p.sticky || (word & 1)));
  uint32_t rounded = word + (above ? 1 : 0);
  if (rounded == 0) rounded = 1;
  return with_sign(rounded > maxpos().bits ? maxpos().bits : rounded);
}

template <int N, int ES>
WATTLE_BOTH Posit<N, ES> Posit<N, ES>::from(double v) {
  if (!std::isfinite(v)) return nar();
  if (v == 0) return of(0);
  PositParts p;
  int exponent = 0;
  const double m = std::frexp(std::fabs(v), &exponent);  // 0.5 <= m < 1
  p.negative = v < 0;
  p.scale = exponent - 1;
  p.frac = static_cast<uint64_t>(std::ldexp(m, 64));
  return pack(p);
}

template <int N, int ES>
WATTLE_BOTH double Posit<N, ES>::to_double() const {
  const PositParts p = unpack();
  if (p.zero) return 0;
  if (p.nar) return std::numeric_limits<double>::quiet_NaN();
  const double v = std::ldexp(static_cast<double>(p.frac >> 11), p.scale - 52);
  return p.negative ? -v : v;
}

// ---- arithmetic on parts: exact, or with the sticky bit set -----------------------------------
namespace parts {

WATTLE_BOTH inline PositParts not_real() {
  PositParts p;
  p.nar = true;
  return p;
}
WATTLE_BOTH inline PositParts nothing() {
  PositParts p;
  p.zero = true;
  return p;
}

// +-sum 2^(scale - 125), its top 64 bits kept.
WATTLE_BOTH inline PositParts normalised(bool negative, int scale, uint128 sum, bool sticky) {
  if (sum == 0) return nothing();
  const auto high = static_cast<uint64_t>(sum >> 64);
  const int zeros =
      high ? wattle::leading_zeros(high) : 64 + wattle::leading_zeros(static_cast<uint64_t>(sum));
  sum <<= zeros;
  PositParts p;
  p.negative = negative;
  p.scale = scale + 2 - zeros;
  p.frac = static_cast<uint64_t>(sum >> 64);
  p.sticky = sticky || static_cast<uint64_t>(sum) != 0;
  return p;
}

// Largest r with r r <= x, bit by bit.
WATTLE_BOTH inline uint64_t integer_root(uint128 x) {
  uint64_t r = 0;
  for (int b = 63; b >= 0; --b) {
    const uint64_t t = r | uint64_t{1} << b;
    if (uint128{t} * t <= x) r = t;
  }
  return r;
}

}  // namespace parts

WATTLE_BOTH inline PositParts add(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar) return parts::not_real();
  if (a.zero) return b;
  if (b.zero) return a;
  const bool swap = b.scale > a.scale || (b.scale == a.scale && b.frac > a.frac);
  const PositParts &big = swap ? b : a, &small = swap ? a : b;
  const int distance = big.scale - small.scale;
  const uint128 x = uint128{big.frac} << 62;
  uint128 y = uint128{small.frac} << 62;
  const uint128 all = y;
  y = distance < 128 ? y >> distance : 0;
  // What is shifted out stays as a last bit: there are zeros enough above it for the rounding.
  if (distance >= 128 || y << distance != all) y |= 1;
  return parts::normalised(big.negative, big.scale, a.negative == b.negative ? x + y : x - y,
                           false);
}

WATTLE_BOTH inline PositParts multiply(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar) return parts::not_real();
  if (a.zero || b.zero) return parts::nothing();
  // frac frac 2^-126 lies in [1, 4)
  return parts::normalised(a.negative != b.negative, a.scale + b.scale - 1,
                           uint128{a.frac} * b.frac, false);
}
/// x / 0 is NaR.
WATTLE_BOTH inline PositParts divide(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar || b.zero) return parts::not_real();
  if (a.zero) return parts::nothing();
  const uint128 numerator = uint128{a.frac} << 63;  // the quotient lies in (2^62, 2^64)
  const uint128 quotient = numerator / b.frac;
  const bool rest = numerator % b.frac != 0;
  return parts::normalised(a.negative != b.negative, a.scale - b.scale, quotient << 62, rest);
}

/// Of a negative number: NaR.
WATTLE_BOTH inline PositParts square_root(const PositParts& a) {
  if (a.nar || (!a.zero && a.negative)) return parts::not_real();
  if (a.zero) return a;
  const bool odd = a.scale & 1;
  const uint128 x = uint128{a.frac} << (odd ? 64 : 63);
  PositParts p;
  p.frac = parts::integer_root(x);
  p.sticky = uint128{p.frac} * p.frac != x;
  p.scale = (a.scale - (odd ? 1 : 0)) / 2;
  return p;
}

template <int N, int ES>
WATTLE_BOTH Posit<N, ES> operator+(Posit<N, ES> a, Posit<N, ES> b) {
  return Posit<N, ES>::pack(add(a.unpack(), b.unpack()));
}
template <int N, int ES>
WATTLE_BOTH Posit<N, ES> operator-(Posit<N, ES> a, Posit<N, ES> b) {
  return a + -b;
}
template <int N, int ES>
WATTLE_BOTH Posit<N, ES> operator*(Posit<N, ES> a, Posit<N, ES> b) {
  return Posit<N, ES>::pack(multiply(a.unpack(), b.unpack()));
}
template <int N, int ES>
WATTLE_BOTH Posit<N, ES> operator/(Posit<N, ES> a, Posit<N, ES> b) {
  return Posit<N, ES>::pack(divide(a.unpack(), b.unpack()));
}
template <int N, int ES>
WATTLE_BOTH Posit<N, ES> sqrt(Posit<N, ES> a) {
  return Posit<N, ES>::pack(square_root(a.unpack()));
}
/// a b + c, rounded once: a product of two significands of at most 30 bits is exact in 64.
template <int N, int ES>
WATTLE_BOTH Posit<N, ES> fma(Posit<N, ES> a, Posit<N, ES> b, Posit<N, ES> c) {
  return Posit<N, ES>::pack(add(multiply(a.unpack(), b.unpack()), c.unpack()));
}

}  // namespace wattle::quant
