// How numbers become codes, and what that did to them. C++17, for device code.
#pragma once
#include "core/both.h"

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

struct EncodeOptions {
  bool saturate = true;  ///< the largest number for what lies beyond it; else infinity or NaN
  Rounding rounding = Rounding::nearest;
  ScaleRule scale_rule = ScaleRule::floor;
  uint64_t seed = 0;   ///< of stochastic rounding: number i draws from (seed, first + i)
  uint64_t first = 0;  ///< row-major number of the first element
};

/// What rounding did to the numbers of one cast.
struct CastStats {
  int64_t n = 0;         ///< numbers encoded
  int64_t inexact = 0;   ///< code's value differs from the number; the columns below are part of it
  int64_t to_max = 0;    ///< ended on +-the largest number (posits: maxpos), or beyond it
  int64_t to_min = 0;    ///< ended on +-the smallest positive number (posits: minpos)
  int64_t to_zero = 0;   ///< was not 0 and is now
  int64_t nar = 0;       ///< is NaN or NaR now, whatever it was; not counted as inexact
  int64_t proven = 0;    ///< sums whose rounding accumulate=certified proved
  int64_t to_quire = 0;  ///< sums that it could not prove and took exactly
  WATTLE_BOTH CastStats& operator+=(const CastStats& o) {
    n += o.n, inexact += o.inexact, to_max += o.to_max, to_min += o.to_min;
    to_zero += o.to_zero, nar += o.nar, proven += o.proven, to_quire += o.to_quire;
    return *this;
  }
  WATTLE_BOTH CastStats& operator-=(const CastStats& o) {
    n -= o.n, inexact -= o.inexact, to_max -= o.to_max, to_min -= o.to_min;
    to_zero -= o.to_zero, nar -= o.nar, proven -= o.proven, to_quire -= o.to_quire;
    return *this;
  }
  friend bool operator==(const CastStats& a, const CastStats& b) {
    return a.n == b.n && a.inexact == b.inexact && a.to_max == b.to_max && a.to_min == b.to_min &&
           a.to_zero == b.to_zero && a.nar == b.nar && a.proven == b.proven &&
           a.to_quire == b.to_quire;
  }
};

}  // namespace wattle
