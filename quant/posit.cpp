#include "quant/posit.h"

namespace wattle::quant {
namespace {

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

PositParts divide(const PositParts& a, const PositParts& b) {
  if (a.nar || b.nar || b.zero) return parts::not_real();
  if (a.zero) return parts::nothing();
  const uint128 numerator = uint128{a.frac} << 63;  // the quotient lies in (2^62, 2^64)
  const uint128 quotient = numerator / b.frac;
  const bool rest = numerator % b.frac != 0;
  return parts::normalised(a.negative != b.negative, a.scale - b.scale, quotient << 62, rest);
}

PositParts square_root(const PositParts& a) {
  if (a.nar || (!a.zero && a.negative)) return parts::not_real();
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
