// posit8 and posit16 to and from f32 with AVX-512: the recipe of quant/lanes.h in the instructions
// that have it in one step (leading zeros, three-way logic, masks, narrowing stores).
#pragma once
#if defined(__x86_64__)
#include "quant/lane_loops.h"

namespace wattle::quant {

template <int N, int ES>
struct PositAvx512 {
  static constexpr int max_scale = (N - 2) << ES;

  /// Codes in the top N bits of each lane.
  [[WATTLE_TARGET_AVX512]] static inline __m512 decode(__m512i x) {
    const __m512i t = _mm512_slli_epi32(_mm512_abs_epi32(x), 1);
    const __m512i ones = _mm512_srai_epi32(t, 31);
    const __m512i z = _mm512_lzcnt_epi32(_mm512_xor_si512(t, ones));
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i v = _mm512_sllv_epi32(t, _mm512_add_epi32(z, one));
    // 0xC3: not (a xor b)
    const __m512i k = _mm512_ternarylogic_epi32(_mm512_sub_epi32(z, one), ones, ones, 0xC3);
    const __m512i bias = _mm512_set1_epi32(127 << 23);
    __m512i bits = _mm512_add_epi32(_mm512_srli_epi32(v, 9 - ES),
                                    _mm512_add_epi32(_mm512_slli_epi32(k, 23 + ES), bias));
    // 0xF8: a or (b and c)
    bits = _mm512_ternarylogic_epi32(bits, x, _mm512_set1_epi32(INT32_MIN), 0xF8);
    const __mmask16 special = _mm512_testn_epi32_mask(t, t);  // 0 and NaR
    bits = _mm512_mask_and_epi32(bits, special, _mm512_srai_epi32(x, 31),
                                 _mm512_set1_epi32(0x7FC00000));
    return _mm512_castsi512_ps(bits);
  }

  struct Counts {
    int64_t inexact = 0, to_max = 0, to_min = 0, nar = 0;
  };

  /// Codes in the low N bits of each lane, with their sign above.
  [[WATTLE_TARGET_AVX512]] static inline __m512i encode(__m512 number, Counts& counts) {
    constexpr int shift = 33 - N;
    const __m512i u = _mm512_castps_si512(number);
    const __m512i a = _mm512_and_si512(u, _mm512_set1_epi32(INT32_MAX));
    const __m512i c =
        _mm512_min_epi32(_mm512_max_epi32(a, _mm512_set1_epi32((127 - max_scale) << 23)),
                         _mm512_set1_epi32((127 + max_scale) << 23));
    const __m512i e = _mm512_add_epi32(c, _mm512_set1_epi32(1 << 23));  // biased by 128
    const __m512i k = _mm512_sub_epi32(_mm512_srli_epi32(e, 23 + ES), _mm512_set1_epi32(128 >> ES));
    const __m512i negative = _mm512_srai_epi32(k, 31);
    // 0xEA: (a and b) or c;  0x78: a xor (b and c)
    __m512i body =
        _mm512_ternarylogic_epi32(_mm512_slli_epi32(e, 7 - ES), _mm512_set1_epi32(0x3FFFFFFF),
                                  _mm512_set1_epi32(INT32_MIN), 0xEA);
    body = _mm512_ternarylogic_epi32(body, negative,
                                     _mm512_set1_epi32(static_cast<int>(0xC0000000u)), 0x78);
    const __m512i s = _mm512_xor_si512(k, negative);
    const __m512i r = _mm512_srav_epi32(body, s);
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i w =
        _mm512_mask_or_epi32(r, _mm512_cmpneq_epi32_mask(_mm512_sllv_epi32(r, s), body), r, one);
    // Ties to even: add just under half, and the last bit that stays.
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(w, shift), one);
    const __m512i p = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(w, _mm512_set1_epi32((1 << (shift - 1)) - 1)), odd),
        shift);
    const __mmask16 nonzero = _mm512_test_epi32_mask(a, a);
    const __mmask16 nan = _mm512_cmpgt_epi32_mask(a, _mm512_set1_epi32(0x7F7FFFFF));
    count(counts, w, a, c, p, nonzero & ~nan, nan);
    __m512i code = _mm512_maskz_mov_epi32(nonzero, p);
    code = _mm512_mask_sub_epi32(code, _mm512_movepi32_mask(u), _mm512_setzero_si512(), code);
    return _mm512_mask_mov_epi32(code, nan, _mm512_set1_epi32(1 << (N - 1)));
  }

 private:
  [[WATTLE_TARGET_AVX512]] static inline void count(Counts& counts, __m512i w, __m512i a, __m512i c,
                                                    __m512i p, __mmask16 real, __mmask16 nan) {
    const __m512i dropped = _mm512_set1_epi32((1 << (33 - N)) - 1);
    const __mmask16 inexact =
        real & (_mm512_test_epi32_mask(w, dropped) | _mm512_cmpneq_epi32_mask(a, c));
    counts.inexact += __builtin_popcount(inexact);
    constexpr int most = (1 << (N - 1)) - 1;
    // Rare, so one comparison decides: p - 2 wraps around for minpos.
    const __mmask16 edge =
        _mm512_mask_cmp_epu32_mask(inexact, _mm512_sub_epi32(p, _mm512_set1_epi32(2)),
                                   _mm512_set1_epi32(most - 3), _MM_CMPINT_NLE);
    if (__builtin_expect(edge | nan, 0)) {
      const __mmask16 low = _mm512_cmpeq_epi32_mask(p, _mm512_set1_epi32(1));
      counts.to_min += __builtin_popcount(edge & low);
      counts.to_max += __builtin_popcount(edge & ~low);
      counts.nar += __builtin_popcount(nan);
    }
  }
};

template <int N, class Code>
[[WATTLE_TARGET_AVX512]] inline __m512i load_codes(const Code* c, __mmask16 m) {
  if constexpr (sizeof(Code) == 2)
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, c)), 32 - N);
  else return _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, c)), 32 - N);
}

template <int N, int ES, class Code>
[[WATTLE_TARGET_AVX512]] void decode_avx512(PositLanes<N, ES>, const Code* c, float* x, int64_t n) {
  using P = PositAvx512<N, ES>;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(x + i, P::decode(load_codes<N>(c + i, 0xFFFF)));
  const auto m = static_cast<__mmask16>((1u << (n - i)) - 1);
  if (m) _mm512_mask_storeu_ps(x + i, m, P::decode(load_codes<N>(c + i, m)));
}

template <int N, int ES, class Code>
[[WATTLE_TARGET_AVX512]] CastStats encode_avx512(PositLanes<N, ES>, const float* x, Code* c,
                                                 int64_t n) {
  using P = PositAvx512<N, ES>;
  typename P::Counts s;
  for (int64_t i = 0; i < n; i += 16) {
    const auto m = n - i >= 16 ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << (n - i)) - 1);
    const __m512i codes = P::encode(_mm512_maskz_loadu_ps(m, x + i), s);
    if constexpr (sizeof(Code) == 2) _mm512_mask_cvtepi32_storeu_epi16(c + i, m, codes);
    else _mm512_mask_cvtepi32_storeu_epi8(c + i, m, codes);
  }
  return {n, s.inexact, s.to_max, s.to_min, 0, s.nar};
}

}  // namespace wattle::quant
#endif
