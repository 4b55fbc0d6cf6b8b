// posit8 and posit16 to and from f32 with AVX-512.
//
// Between two changes of the regime a posit's code grows in step with the bits of the float, so a
// conversion is a shift and an addition, both looked up by the regime in a table of 32 numbers.
#pragma once
#if defined(__x86_64__)
#include <array>

#include "quant/lane_loops.h"

namespace wattle::quant {

using Table32 = std::array<uint32_t, 32>;

template <int N, int ES>
struct PositAvx512 {
  static constexpr int max_scale = (N - 2) << ES;

  [[WATTLE_TARGET_AVX512]] static inline __m512i look_up(const Table32& t, __m512i index) {
    return _mm512_permutex2var_epi32(_mm512_loadu_si512(t.data()), index,
                                     _mm512_loadu_si512(t.data() + 16));
  }

  // By the run of equal bits that starts the regime: its length z, plus 16 where they are ones.
  // What the bits of float have to be, less what the regime leaves there when the code is shifted
  // so that its exponent bits are in place. 0 for the code 0.
  static constexpr int place = 25 + ES - N;  // shift left by this and z
  static constexpr Table32 decode_add = [] {
    Table32 t{};
    for (int z = 1; z < N; ++z)
      for (int ones = 0; ones < 2; ++ones) {
        if (!ones && z == N - 1) continue;
        const int k = ones ? z - 1 : -z;
        const uint64_t run = ones ? ((1u << z) - 1) << (N - 1 - z) : uint64_t{1} << (N - 2 - z);
        const auto wanted = static_cast<uint64_t>(127 + k * (1 << ES)) << 23;
        t[static_cast<size_t>(z + 16 * ones)] =
            static_cast<uint32_t>(wanted - (run << (place + z)));
      }
    return t;
  }();

  /// Codes in the low bits of each lane, their sign above.
  [[WATTLE_TARGET_AVX512]] static inline __m512 decode(__m512i x) {
    const __m512i a = _mm512_abs_epi32(x);
    const __m512i t = _mm512_slli_epi32(a, 33 - N);
    const __m512i ones = _mm512_srai_epi32(t, 31);
    const __m512i z = _mm512_lzcnt_epi32(_mm512_xor_si512(t, ones));  // 32 for 0 and NaR
    // 0xF8: a or (b and c)
    const __m512i index = _mm512_ternarylogic_epi32(z, ones, _mm512_set1_epi32(16), 0xF8);
    __m512i bits = _mm512_sllv_epi32(a, _mm512_add_epi32(z, _mm512_set1_epi32(place)));
    bits = _mm512_add_epi32(bits, look_up(decode_add, index));
    bits = _mm512_ternarylogic_epi32(bits, x, _mm512_set1_epi32(INT32_MIN), 0xF8);
    const __mmask16 nar = _mm512_cmpeq_epi32_mask(x, _mm512_set1_epi32(-(1 << (N - 1))));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nar, _mm512_set1_epi32(0x7FC00000)));
  }

  struct Counts {
    int64_t inexact = 0, to_max = 0, to_min = 0, nar = 0;
  };

  // Regimes whose codes keep at least one bit of the fraction: what is rounded off is the end of a
  // float, and adding a power of two that leaves no room for it rounds it off, ties to even.
  static constexpr int least_k = ES + 3 - N, most_k = N - 4 - ES;
  static constexpr int32_t plain_from = (127 + least_k * (1 << ES)) << 23;
  static constexpr int32_t plain_to = (127 + (most_k + 1) * (1 << ES)) << 23;
  // By the regime k, modulo 32: fraction bits that go, what makes the power of two out of the
  // number's own, and what the shifted float lacks to be the code.
  struct EncodeTables {
    Table32 drop{}, power{}, add{};
  };
  static constexpr EncodeTables encode_tables = [] {
    EncodeTables t;
    for (int k = least_k; k <= most_k + 1; ++k) {
      const int fraction = N - 1 - ES - (k < 0 ? 1 - k : k + 2);
      const auto i = static_cast<size_t>(k & 31);
      const auto drop = static_cast<uint32_t>(23 - fraction);
      const uint32_t regime = (k < 0 ? 1u : (1u << (k + 2)) - 2) << (ES + fraction);
      t.drop[i] = drop, t.power[i] = drop << 23;
      t.add[i] = regime - (static_cast<uint32_t>((128 >> ES) + k) << (23 + ES) >> drop);
    }
    return t;
  }();

  /// Codes in the low N bits of each lane.
  [[WATTLE_TARGET_AVX512]] static inline __m512i encode(__m512 number, Counts& counts) {
    if constexpr (N < 16) return encode_any(number, counts);
    const __m512i u = _mm512_castps_si512(number);
    const __m512i a = _mm512_and_si512(u, _mm512_set1_epi32(INT32_MAX));
    const __mmask16 nonzero = _mm512_test_epi32_mask(a, a);
    const __mmask16 other =
        _mm512_mask_cmpge_epu32_mask(nonzero, _mm512_sub_epi32(a, _mm512_set1_epi32(plain_from)),
                                     _mm512_set1_epi32(plain_to - plain_from));
    if (__builtin_expect(other, 0)) return encode_any(number, counts);
    const __m512i one = _mm512_set1_epi32(1 << 23);  // biases exponents by 128
    const __m512i k = _mm512_srli_epi32(_mm512_add_epi32(a, one), 23 + ES);
    const __m512 power = _mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_and_si512(a, _mm512_set1_epi32(0x7F800000)), look_up(encode_tables.power, k)));
    const __m512i r =
        _mm512_castps_si512(_mm512_sub_ps(_mm512_add_ps(_mm512_castsi512_ps(a), power), power));
    counts.inexact += __builtin_popcount(_mm512_mask_cmpneq_epi32_mask(nonzero, r, a));
    const __m512i e = _mm512_add_epi32(r, one), l = _mm512_srli_epi32(e, 23 + ES);
    const __m512i code =
        _mm512_maskz_add_epi32(nonzero, _mm512_srlv_epi32(e, look_up(encode_tables.drop, l)),
                               look_up(encode_tables.add, l));
    return _mm512_mask_sub_epi32(code, _mm512_movepi32_mask(u), _mm512_setzero_si512(), code);
  }

 private:
  // Any number. Codes in the low N bits of each lane, with their sign above.
  [[WATTLE_TARGET_AVX512]] static __m512i encode_any(__m512 number, Counts& counts) {
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

template <class Code>
[[WATTLE_TARGET_AVX512]] inline __m512i load_codes(const Code* c, __mmask16 m) {
  if constexpr (sizeof(Code) == 2) return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(m, c));
  else return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, c));
}

template <int N, int ES, class Code>
[[WATTLE_TARGET_AVX512]] void decode_avx512(PositLanes<N, ES>, const Code* c, float* x, int64_t n) {
  using P = PositAvx512<N, ES>;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(x + i, P::decode(load_codes(c + i, 0xFFFF)));
  const auto m = static_cast<__mmask16>((1u << (n - i)) - 1);
  if (m) _mm512_mask_storeu_ps(x + i, m, P::decode(load_codes(c + i, m)));
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
