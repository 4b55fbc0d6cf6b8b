// Elementary functions on f32 lanes, to a few units in the last place.
//
// exp, log and tanh: range reductions and minimax polynomials of the Cephes Mathematical Library
// (S. L. Moshier, single precision: expf.c, logf.c, tanhf.c). erf and pow: minimax fits made
// for this file with mpmath (chebyfit; for erf a rational fit by reweighted least squares at 300
// Chebyshev nodes); interval and largest error stand beside the coefficients. sqrt: hardware.
#pragma once
#include <cmath>

#include "core/simd.h"

namespace wattle::simd {

/// a b + c, rounded once where the lanes' instruction set has it; contraction may be off.
template <int N>
WATTLE_FORCE_INLINE f32<N> fma(f32<N> a, f32<N> b, f32<N> c) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if constexpr (N == 16) asm("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
  else if constexpr (N == 8) asm("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
  else c = a * b + c;
  return c;
#else
  return a * b + c;
#endif
}

/// Value of a polynomial, highest coefficient first, by Horner's rule.
template <class V, class S, int K>
WATTLE_FORCE_INLINE V horner(V x, const S (&c)[K]) {
  V p = V{} + c[0];
  for (int i = 1; i < K; ++i) p = p * x + c[i];
  return p;
}

/// e^x. Overflows to infinity above 88.72, underflows to 0 below -103.97. Error below 2 ulp.
template <int N>
WATTLE_FORCE_INLINE f32<N> exp(f32<N> x) {
  constexpr float poly[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                            4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  // x = n ln 2 + r; beyond the clamps the result is 0 or infinity anyway. Comparisons are written
  // so that not-a-number passes.
  const f32<N> given = x;
  x = x > 89.0f ? set1<N>(89.0f) : x;
  x = x < -104.0f ? set1<N>(-104.0f) : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  const f32<N> shifted = x * 1.44269504088896341f + magic;
  const f32<N> n = shifted - magic;
  f32<N> r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  f32<N> p = horner(r, poly) * (r * r) + r + 1.0f;
  // Masked scores are -infinity by the thousand; a product that underflows takes a hundred cycles.
  p = given < -104.0f ? f32<N>{} : p;
  // 2^n in two factors, as n reaches -150 and 128.
  const i32<N> k = (i32<N>)((u32<N>)shifted - 0x4B400000u);
  const i32<N> half = k >> 1;
  const f32<N> a = (f32<N>)((half + 127) << 23), b = (f32<N>)((k - half + 127) << 23);
  return p * a * b;
}

/// Natural logarithm; -infinity at 0, not-a-number below. Error below 2 ulp.
template <int N>
WATTLE_FORCE_INLINE f32<N> log(f32<N> x) {
  constexpr float poly[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                            -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                            2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  const float smallest_normal = 1.17549435e-38f, infinity = __builtin_inff();
  const f32<N> scaled = x < smallest_normal ? x * 8388608.0f : x;  // 2^23: subnormal to normal
  // x = 2^n (1 + m) with 1 + m in [sqrt(1/2), sqrt(2))
  const u32<N> bits = (u32<N>)scaled;
  const i32<N> n = (i32<N>)(bits - 0x3F3504F3u) >> 23;
  const f32<N> m = (f32<N>)(bits - ((u32<N>)n << 23)) - 1.0f;
  f32<N> e = __builtin_convertvector(n, f32<N>);
  e = x < smallest_normal ? e - 23.0f : e;
  const f32<N> z = m * m;
  f32<N> y = horner(m, poly) * m * z;
  y = y - e * 2.12194440e-4f - 0.5f * z;
  f32<N> r = m + y + e * 0.693359375f;
  const f32<N> low = x < 0.0f ? set1<N>(__builtin_nanf("")) : set1<N>(-infinity);
  r = x < 1.4e-45f ? low : r;  // the smallest positive number: 0 and below
  return x < infinity ? r : x;
}

template <int N>
WATTLE_FORCE_INLINE f32<N> abs(f32<N> x) {
  return (f32<N>)((i32<N>)x & 0x7FFFFFFF);
}
/// The size of a with the sign of b.
template <int N>
WATTLE_FORCE_INLINE f32<N> copysign(f32<N> a, f32<N> b) {
  const i32<N> sign = (i32<N>)b & i32<N>(i32<N>{} - 0x7FFFFFFF - 1);
  return (f32<N>)(((i32<N>)a & 0x7FFFFFFF) | sign);
}

/// Hyperbolic tangent. Error below 2 ulp.
template <int N>
WATTLE_FORCE_INLINE f32<N> tanh(f32<N> x) {
  constexpr float poly[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f,
                            1.33314422036e-1f, -3.33332819422e-1f};
  const f32<N> z = x * x, a = abs<N>(x);
  const f32<N> near = horner(z, poly) * z * x + x;
  const f32<N> far = 1.0f - 2.0f / (exp<N>(a + a) + 1.0f);
  return a < 0.625f ? near : copysign<N>(far, x);
}

/// 1 / (1 + e^-x). Error below 3 ulp.
template <int N>
WATTLE_FORCE_INLINE f32<N> sigmoid(f32<N> x) {
  return 1.0f / (1.0f + exp<N>(-x));
}

/// Error function: x P(x^2) / Q(x^2). Error below 7 ulp (4e-7), largest where erf comes close to 1.
template <int N>
WATTLE_FORCE_INLINE f32<N> erf(f32<N> x) {
  // On [0, 3.925], relative error 1.9e-8; from there on erf is 1 in f32.
  constexpr float p[] = {2.04593182569e-6f, 2.84789423439e-4f, 3.77119666648e-3f,
                         5.27650334813e-2f, 1.90565469145e-1f, 1.12837914611f};
  constexpr float q[] = {3.80439619573e-5f, 1.16348568967e-3f, 1.49805028412e-2f,
                         1.14170554613e-1f, 5.02216988520e-1f, 1.0f};
  x = x > 3.925f ? set1<N>(3.925f) : x;
  x = x < -3.925f ? set1<N>(-3.925f) : x;
  const f32<N> t = x * x;
  return x * horner(t, p) / horner(t, q);
}

/// Square root, correctly rounded.
template <int N>
WATTLE_FORCE_INLINE f32<N> sqrt(f32<N> x) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  // GCC has no square root of vectors; its scalar one may set errno and is not vectorised.
  f32<N> y;
  if constexpr (N == 16) asm("vsqrtps %1, %0" : "=v"(y) : "v"(x));
  else if constexpr (N == 8) asm("vsqrtps %1, %0" : "=x"(y) : "x"(x));
  else {
    f32<4> wide{};
    std::memcpy(&wide, &x, sizeof x);
    asm("sqrtps %0, %0" : "+x"(wide));
    std::memcpy(&y, &wide, sizeof y);
  }
  return y;
#else
  float v[N];
  std::memcpy(v, &x, sizeof x);
  for (int i = 0; i < N; ++i) v[i] = std::sqrt(v[i]);
  std::memcpy(&x, v, sizeof x);
  return x;
#endif
}

/// a^b for positive normal a whose result is a normal number, in f64 inside: log2 by
/// s Q(s^2), s = (m - 1) / (m + 1), and 2^f by a polynomial. Error below 1 ulp.
template <int N>
WATTLE_FORCE_INLINE f32<N> pow_regular(f32<N> a, f32<N> b) {
  // log2((1 + s) / (1 - s)) / s in s^2 on [0, 0.02945], error 7.9e-14
  constexpr double log_poly[] = {0.282894374571526, 0.319906184755323, 0.412209238225021,
                                 0.577077942530131, 0.961796694112675, 2.88539008177785};
  // 2^f on [-0.5, 0.5], error 8.1e-13
  constexpr double exp_poly[] = {1.32552248786688e-6, 1.53100794022493e-5, 1.54034558524538e-4,
                                 1.33334505680006e-3, 9.61812915940256e-3, 5.55041094120593e-2,
                                 0.24022650695813,    0.693147180545933,   1.0};
  const i32<N> bits = (i32<N>)a;
  const i32<N> n = (bits - 0x3F3504F3) >> 23;  // m = a / 2^n in [sqrt(1/2), sqrt(2))
  const f32<N> m32 = (f32<N>)(bits - (n << 23));
  const f64<N> m = __builtin_convertvector(m32, f64<N>);
  const f64<N> s = (m - 1.0) / (m + 1.0);
  const f64<N> log2a = horner(s * s, log_poly) * s + __builtin_convertvector(n, f64<N>);
  const f64<N> t = log2a * __builtin_convertvector(b, f64<N>);
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  const f64<N> whole = (t + magic) - magic;
  const f32<N> r = __builtin_convertvector(horner(t - whole, exp_poly), f32<N>);
  const i32<N> k = __builtin_convertvector(whole, i32<N>), half = k >> 1;
  return r * (f32<N>)((half + 127) << 23) * (f32<N>)((k - half + 127) << 23);
}

// Half as many lanes at a time, so that a vector of f64 fits a register.
template <int N>
WATTLE_FORCE_INLINE f32<N> pow_halves(f32<N> a, f32<N> b) {
  if constexpr (N == 1) {
    return pow_regular<1>(a, b);
  } else {
    f32<N / 2> x[2], y[2];
    std::memcpy(x, &a, sizeof a), std::memcpy(y, &b, sizeof b);
    for (int i = 0; i < 2; ++i) x[i] = pow_regular<N / 2>(x[i], y[i]);
    std::memcpy(&a, x, sizeof a);
    return a;
  }
}

/// a^b with all of C's special cases: lanes that pow_regular does not cover go through the library.
template <int N>
WATTLE_FORCE_INLINE f32<N> pow(f32<N> a, f32<N> b) {
  // Covered: a positive and normal, and |b| (|exponent of a| + 1) < 126, hence |b log2 a| < 126.
  // Tested by the signs of differences of bit patterns: GCC 12 splits combined comparisons of
  // floats into single lanes.
  const i32<N> bits = (i32<N>)a, exponent = (bits >> 23) - 127;
  const f32<N> size = abs<N>(b) * (abs<N>(__builtin_convertvector(exponent, f32<N>)) + 1.0f);
  const i32<N> smallest = (i32<N>)((u32<N>)bits - 0x00800000u);
  const i32<N> largest = 0x7F7FFFFF - (bits & 0x7FFFFFFF);
  const i32<N> other = (bits | smallest | largest | (i32<N>)(0x42FBFFFFu - (u32<N>)size)) >> 31;
  const f32<N> y = pow_halves<N>((f32<N>)((bits & ~other) | (other & 0x3F800000)), b);
  int32_t outside[N], any = 0;
  std::memcpy(outside, &other, sizeof outside);
  for (int i = 0; i < N; ++i) any |= outside[i];
  if (!any) return y;
  float va[N], vb[N], vy[N];
  store<N>(va, a), store<N>(vb, b), store<N>(vy, y);
  for (int i = 0; i < N; ++i)
    if (outside[i]) vy[i] = std::pow(va[i], vb[i]);
  return load<N>(vy);
}

}  // namespace wattle::simd
