// posit8 and posit16 to and from f32 with AVX2: the recipe of quant/lanes.h, eight numbers at a
// time and without what is rare. A run with a NaN, or with a number so large or so small that its
// code is the largest or the smallest one, goes through the general lanes once more.
#pragma once
#if defined(__x86_64__)
#include "quant/lane_loops.h"

namespace wattle::quant {

template <int N, int ES>
struct PositAvx2 {
  using Lanes = PositLanes<N, ES>;

  /// Codes in the top N bits of each lane.
  [[WATTLE_TARGET_AVX2]] static inline __m256 decode(__m256i x) {
    const __m256i t = _mm256_slli_epi32(_mm256_abs_epi32(x), 1);
    const __m256i ones = _mm256_srai_epi32(t, 31);
    const __m256i u = _mm256_xor_si256(t, ones);
    // Exponent of the float, biased: 158 - leading zeros (see leading_zeros() in quant/lanes.h).
    const __m256i e = _mm256_srli_epi32(
        _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_andnot_si256(_mm256_srli_epi32(u, 1), u))),
        23);
    const __m256i v = _mm256_sllv_epi32(t, _mm256_sub_epi32(_mm256_set1_epi32(159), e));
    const __m256i k = _mm256_xor_si256(_mm256_sub_epi32(e, _mm256_set1_epi32(158)), ones);
    __m256i bits = _mm256_add_epi32(_mm256_srli_epi32(v, 9 - ES), _mm256_slli_epi32(k, 23 + ES));
    bits = _mm256_add_epi32(bits, _mm256_set1_epi32(127 << 23));
    bits = _mm256_or_si256(bits, _mm256_and_si256(x, _mm256_set1_epi32(INT32_MIN)));
    const __m256i special = _mm256_cmpeq_epi32(t, _mm256_setzero_si256());  // 0 and NaR
    const __m256i nan = _mm256_and_si256(_mm256_srai_epi32(x, 31), _mm256_set1_epi32(0x7FC00000));
    return _mm256_castsi256_ps(_mm256_blendv_epi8(bits, nan, special));
  }

  // Sums over a run, lane by lane.
  struct Run {
    __m256i exact, outside;
  };

  /// Codes in the low bits of each lane, right where nothing is added to run.outside.
  [[WATTLE_TARGET_AVX2]] static inline __m256i encode(__m256i u, Run& run) {
    constexpr int shift = 33 - N;
    // The thresholds beside the outermost codes: whose second regime bit, exponent bits included,
    // is cut; beyond them lie only +-maxpos and +-minpos.
    constexpr int edge = Lanes::max_scale - (1 << ES);
    const __m256i a = _mm256_and_si256(u, _mm256_set1_epi32(INT32_MAX));
    const __m256i c = _mm256_min_epi32(_mm256_max_epi32(a, _mm256_set1_epi32((127 - edge) << 23)),
                                       _mm256_set1_epi32((127 + edge) << 23));
    const __m256i e = _mm256_add_epi32(c, _mm256_set1_epi32(1 << 23));
    const __m256i k = _mm256_sub_epi32(_mm256_srli_epi32(e, 23 + ES), _mm256_set1_epi32(128 >> ES));
    const __m256i negative = _mm256_srai_epi32(k, 31);
    // regime 10 or 01, exponent bits, fraction
    __m256i body = _mm256_and_si256(_mm256_slli_epi32(e, 7 - ES), _mm256_set1_epi32(0x3FFFFFFF));
    body = _mm256_add_epi32(
        body, _mm256_xor_si256(_mm256_set1_epi32(INT32_MIN), _mm256_slli_epi32(negative, 30)));
    const __m256i s = _mm256_xor_si256(k, negative);
    const __m256i r = _mm256_srav_epi32(body, s);
    const __m256i whole = _mm256_cmpeq_epi32(_mm256_sllv_epi32(r, s), body);
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i w = _mm256_or_si256(r, _mm256_andnot_si256(whole, one));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(w, shift), one);
    const __m256i half = _mm256_set1_epi32((1 << (shift - 1)) - 1);
    const __m256i p = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(w, half), odd), shift);
    const __m256i zero = _mm256_cmpeq_epi32(a, _mm256_setzero_si256());
    run.outside = _mm256_or_si256(run.outside, _mm256_andnot_si256(zero, _mm256_xor_si256(a, c)));
    run.exact = _mm256_sub_epi32(
        run.exact, _mm256_cmpeq_epi32(_mm256_slli_epi32(w, 32 - shift), _mm256_setzero_si256()));
    // The sign of the number decides; 0 becomes 0 by it too.
    const __m256i sign = _mm256_srai_epi32(u, 31);
    const __m256i code = _mm256_sub_epi32(_mm256_xor_si256(p, sign), sign);
    return _mm256_andnot_si256(zero, code);
  }
};

template <int N, int ES, class Code>
[[WATTLE_TARGET_AVX2]] void decode_avx2(PositLanes<N, ES> lanes, const Code* c, float* x,
                                        int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const auto* p = reinterpret_cast<const __m128i*>(c + i);
    const __m256i w = sizeof(Code) == 2 ? _mm256_cvtepu16_epi32(_mm_loadu_si128(p))
                                        : _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
    _mm256_storeu_ps(x + i, PositAvx2<N, ES>::decode(_mm256_slli_epi32(w, 32 - N)));
  }
  if (i < n) decode_loop<decltype(lanes)>(c + i, x + i, n - i);
}

template <int N, int ES, class Code>
[[WATTLE_TARGET_AVX2]] CastStats encode_avx2(PositLanes<N, ES> lanes, const float* x, Code* c,
                                             int64_t n) {
  using P = PositAvx2<N, ES>;
  constexpr int64_t run_length = 512;
  CastStats stats;
  while (n > 0) {
    const int64_t m = n < run_length ? n / 8 * 8 : run_length;
    typename P::Run run{_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t i = 0; i < m; i += 8) {
      const __m256i codes = _mm256_and_si256(
          P::encode(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i)), run),
          _mm256_set1_epi32(sizeof(Code) == 2 ? 0xFFFF : 0xFF));
      const __m128i packed =
          _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
      auto* to = reinterpret_cast<__m128i*>(c + i);
      if (sizeof(Code) == 2) _mm_storeu_si128(to, packed);
      else _mm_storel_epi64(to, _mm_packus_epi16(packed, packed));
    }
    const int64_t done = m > 0 ? m : n;  // fewer than eight are left
    if (m == 0 || !_mm256_testz_si256(run.outside, run.outside)) {
      stats += encode_loop<decltype(lanes), true>(x, c, done);
    } else {
      int32_t exact[8];
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(exact), run.exact);
      stats.n += m;
      stats.inexact += m;
      for (int32_t v : exact) stats.inexact -= v;
    }
    x += done, c += done, n -= done;
  }
  return stats;
}

}  // namespace wattle::quant
#endif
