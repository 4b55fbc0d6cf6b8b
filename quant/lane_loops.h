// Loops over quant/lanes.h for codes of 8, 16 or 32 bits in memory.
#pragma once
#include <algorithm>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
// GCC 12 takes the undefined values inside its own intrinsics for a mistake of ours.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "core/codec.h"
#include "quant/lanes.h"

namespace wattle::quant {

/// Calls body.operator()<N>() compiled for the best level of the machine. 8 lanes at most: GCC 12
/// takes comparisons of 16 lanes apart into single ones.
template <class Body>
void at_best_level(const Body& body) {
  if (simd::level() >= simd::Level::avx2) simd::Avx2::call(body);
  else simd::Portable::call(body);
}

/// The same with all lanes that the machine has, for loops that GCC vectorises by itself.
template <class Body>
void at_full_level(const Body& body) {
  if (simd::level() == simd::Level::avx512) simd::Avx512::call(body);
  else at_best_level(body);
}

// Lanes hold 32 or 64 bits. Codes are widened and narrowed in a small buffer by plain loops, which
// the compiler turns into the machine's instructions for that.
constexpr int64_t strip = 256;

template <class T>
using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T>
using Signed = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

template <class V>
int64_t minus_sum(const V& v) {
  int64_t s = 0;
  for (size_t i = 0; i < sizeof v / sizeof v[0]; ++i) s -= v[i];
  return s;
}
template <class Loss>
CastStats stats_of(const Loss& l, int64_t n) {
  return {n,
          minus_sum(l.inexact),
          minus_sum(l.to_max),
          minus_sum(l.to_min),
          minus_sum(l.to_zero),
          minus_sum(l.nar)};
}

/// n codes at c into numbers of type T (float, double).
template <class Lanes, class Code, class T>
void decode_loop(const Code* c, T* x, int64_t n) {
  at_best_level([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int L = N * 4 / static_cast<int>(sizeof(T));
    using Words = typename simd::VecOf<Word<T>, L>::type;
    alignas(64) Word<T> wide[strip];
    const Code* from = c;
    T* to = x;
    for (int64_t left = n; left > 0; left -= strip, from += strip, to += strip) {
      const int64_t m = std::min(left, strip), whole = m / L * L;
      for (int64_t i = 0; i < m; ++i) wide[i] = from[i];
      for (int64_t i = m; i < whole + L && whole < m; ++i) wide[i] = 0;
      for (int64_t i = 0; i < m; i += L) {
        Words w;
        std::memcpy(&w, wide + i, sizeof w);
        const auto v = Lanes::template decode<L>(w);
        if (i < whole) std::memcpy(to + i, &v, sizeof v);
        else std::memcpy(to + i, &v, static_cast<size_t>(m - whole) * sizeof(T));
      }
    }
  });
}

/// n numbers to the nearest codes.
template <class Lanes, bool Saturating, class Code, class T>
CastStats encode_loop(const T* x, Code* c, int64_t n) {
  CastStats stats;
  at_best_level([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int L = N * 4 / static_cast<int>(sizeof(T));
    using Numbers = typename simd::VecOf<T, L>::type;
    alignas(64) Word<T> wide[strip];
    LossLanes<Signed<T>, L> loss;
    const T* from = x;
    Code* to = c;
    for (int64_t left = n; left > 0; left -= strip, from += strip, to += strip) {
      const int64_t m = std::min(left, strip), whole = m / L * L;
      for (int64_t i = 0; i < m; i += L) {
        Numbers v{};  // zeros at the end are exact: they count as nothing
        if (i < whole) std::memcpy(&v, from + i, sizeof v);
        else std::memcpy(&v, from + i, static_cast<size_t>(m - whole) * sizeof(T));
        const auto w = Lanes::template encode<Saturating, L>(v, loss);
        std::memcpy(wide + i, &w, sizeof w);
      }
      for (int64_t i = 0; i < m; ++i) to[i] = static_cast<Code>(wide[i]);
    }
    stats += stats_of(loss, n);
  });
  return stats;
}

}  // namespace wattle::quant
