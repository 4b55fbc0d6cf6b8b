// Exact posit arithmetic on the floating-point unit. A float result that was rounded *to odd* - an
// inexact one gets its last bit set - can be rounded once more, to a posit of two bits less or
// fewer, and gives what a single rounding of the exact number gives (Boldo, Melquiond, "Emulation
// of a FMA and correctly rounded sums", 2008). The machine rounds to nearest; the error of each
// operation, computed exactly, says where the exact number lies.
//
// f32 (24 bits) serves posits of at most 12 significant bits, posit16 among them; f64 (53 bits)
// posit32 (28 bits). Products of two halves are exact, so contraction to FMA changes nothing.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/simd.h"

namespace wattle::quant::odd {

template <class T>
struct FloatOf;
template <>
struct FloatOf<float> {
  using Bits = uint32_t;
  using Int = int32_t;
  static constexpr Bits infinity = 0x7F800000u;
  static constexpr Bits high = 0xFFFFF000u;  ///< leaves 12 of 24 bits
};
template <>
struct FloatOf<double> {
  using Bits = uint64_t;
  using Int = int64_t;
  static constexpr Bits infinity = 0x7FF0000000000000u;
  static constexpr Bits high = 0xFFFFFFFFF8000000u;  ///< leaves 26 of 53 bits
};

/// Vectors of L lanes of T.
template <class T, int L>
struct Lanes {
  using V = typename simd::VecOf<T, L>::type;
  using U = typename simd::VecOf<typename FloatOf<T>::Bits, L>::type;
  using I = typename simd::VecOf<typename FloatOf<T>::Int, L>::type;
  static constexpr int top = sizeof(T) * 8 - 1;
  static constexpr bool wide = sizeof(T) == 8;

  /// All ones where the top bit is set.
  WATTLE_FORCE_INLINE static U sign_mask(U x) {
    if constexpr (wide) return (U)((I)x < 0);
    else return (U)((I)x >> top);
  }
  /// s, rounded to nearest, becomes rounded to odd; `error` has the sign of (exact - s).
  WATTLE_FORCE_INLINE static V to_odd(V s, V error) {
    const U b = (U)s, e = (U)error << 1;
    const U inexact = sign_mask(e | (U)(-(I)e));
    const U finite = sign_mask((b & ~(typename FloatOf<T>::Bits{1} << top)) - FloatOf<T>::infinity);
    const U even = (b & 1u) - 1u;
    // One step away from zero where the exact number is larger, else one towards it.
    const U step = sign_mask((U)error ^ b) | 1u;
    return (V)(b + (step & inexact & finite & even));
  }
  struct Sum {
    V high, low;  ///< high + low is exact
  };
  WATTLE_FORCE_INLINE static Sum two_sum(V a, V b) {
    const V s = a + b, t = s - a;
    return {s, (a - (s - t)) + (b - t)};
  }
  WATTLE_FORCE_INLINE static V high_half(V a) { return (V)((U)a & FloatOf<T>::high); }
  /// a b exactly; a and b have at most 28 bits each (f64), 12 (f32: the product is exact anyway).
  WATTLE_FORCE_INLINE static Sum two_product(V a, V b) {
    const V p = a * b;
    if constexpr (!wide) {
      return {p, V{}};
    } else {
      const V ah = (V)((U)a & ~((uint64_t{1} << 39) - 1)), al = a - ah;  // 14 and 14 bits of 28
      return {p, (ah * b - p) + al * b};
    }
  }

  WATTLE_FORCE_INLINE static V add(V a, V b) {
    const Sum s = two_sum(a, b);
    return to_odd(s.high, s.low);
  }
  WATTLE_FORCE_INLINE static V multiply(V a, V b) {
    const Sum p = two_product(a, b);
    return wide ? to_odd(p.high, p.low) : p.high;
  }
  WATTLE_FORCE_INLINE static V fma(V a, V b, V c) {
    const Sum u = two_product(a, b);
    if constexpr (!wide) return add(u.high, c);
    const Sum t = two_sum(c, u.low), v = two_sum(u.high, t.high);
    return add(v.high, add(t.low, v.low));
  }
  WATTLE_FORCE_INLINE static V divide(V a, V b) {
    const V q = a / b, qh = high_half(q), ql = q - qh;
    V r = a;
    if constexpr (wide) {
      const V bh = high_half(b), bl = b - bh;  // 26 and 2 bits
      r = ((r - qh * bh) - qh * bl) - ql * bh - ql * bl;
    } else {
      r = (r - qh * b) - ql * b;
    }
    return to_odd(q, (V)((U)r ^ ((U)b & (typename FloatOf<T>::Bits{1} << top))));
  }
  WATTLE_FORCE_INLINE static V square_root(V a) {
    V s;
    for (int i = 0; i < L; ++i) s[i] = root(a[i]);
    const V sh = high_half(s), sl = s - sh;
    V r = (a - sh * sh) - (sh + sh) * sl;
    if constexpr (wide) {
      const V slh = high_half(sl), sll = sl - slh;  // 27 bits: 26 and 1
      r = (r - slh * sl) - sll * sl;
    } else {
      r = r - sl * sl;
    }
    return to_odd(s, r);
  }

 private:
  WATTLE_FORCE_INLINE static float root(float x) { return __builtin_sqrtf(x); }
  WATTLE_FORCE_INLINE static double root(double x) { return __builtin_sqrt(x); }
};

}  // namespace wattle::quant::odd
