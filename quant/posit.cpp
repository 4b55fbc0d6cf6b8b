#include "quant/posit.h"

#include <bit>
#include <utility>

namespace wattle::quant {
namespace {

PositParts not_real() {
  PositParts p;
  p.nar = true;
  return p;
}
PositParts nothing() {
  PositParts p;
  p.zero = true;
  return p;
}

// +-sum 2^(scale - 125), its top 64 bits kept.
PositParts normalised(bool negative, int scale, uint128 sum, bool sticky) {
  if (sum == 0) return nothing();
  const auto high = static_cast<uint64_t>(sum >> 64);
  const int zeros =
      high ? std::countl_zero(high) : 64 + std::countl_zero(static_cast<uint64_t>(sum));
  sum <<= zeros;
  PositParts p;
  p.negative = negative;
  p.scale = scale + 2 - zeros;
  p.frac = static_cast<uint64_t>(sum >> 64);
  p.sticky = sticky || static_cast<uint64_t>(sum) != 0;
  return p;
}

// Largest r with r r <= x, bit by bit.
uint64_t integer_root(uint128 x) {
  uint64_t r = 0;
  for (int b = 63; b >= 0; --b) {
    const uint64_t t = r | uint64_t{1} << b;
    if (uint128{t} * t <= x) r = t;
  }
  return r;
}

}  // namespace

PositParts add(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar) return not_real();
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
  return normalised(big.negative, big.scale, a.negative == b.negative ? x + y : x - y, false);
}

PositParts multiply(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar) return not_real();
  if (a.zero || b.zero) return nothing();
  // frac frac 2^-126 lies in [1, 4)
  return normalised(a.negative != b.negative, a.scale + b.scale - 1, uint128{a.frac} * b.frac,
                    false);
}

PositParts divide(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar || b.zero) return not_real();
  if (a.zero) return nothing();
  const uint128 numerator = uint128{a.frac} << 63;  // the quotient lies in (2^62, 2^64)
  const uint128 quotient = numerator / b.frac;
  const bool rest = numerator % b.frac != 0;
  return normalised(a.negative != b.negative, a.scale - b.scale, quotient << 62, rest);
}

PositParts square_root(const PositParts& a) {
  if (a.nar || (!a.zero && a.negative)) return not_real();
  if (a.zero) return a;
  const bool odd = a.scale & 1;
  const uint128 x = uint128{a.frac} << (odd ? 64 : 63);
  PositParts p;
  p.frac = integer_root(x);
  p.sticky = uint128{p.frac} * p.frac != x;
  p.scale = (a.scale - (odd ? 1 : 0)) / 2;
  return p;
}

}  // namespace wattle::quant
