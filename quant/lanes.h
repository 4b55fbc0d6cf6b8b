// Branch-free conversions between codes and floats, a vector at a time, for any number of lanes.
// Bit-identical to the scalar references in quant/posit.h and quant/minifloat.h; the tests compare
// them on every code and on all f32.
#pragma once
#include <bit>
#include <cstdint>

#include "core/simd.h"
#include "quant/minifloat.h"
#include "quant/posit.h"

namespace wattle::quant {

template <int L>
using U32 = simd::u32<L>;
template <int L>
using I32 = simd::i32<L>;
template <int L>
using F32 = simd::f32<L>;
template <int L>
using U64 = typename simd::VecOf<uint64_t, L>::type;
template <int L>
using I64 = typename simd::VecOf<int64_t, L>::type;
template <int L>
using F64 = simd::f64<L>;

/// What an encoder tells: minus the number of cases, lane by lane, as masks are added up.
template <class T, int L>
struct LossLanes {
  using V = typename simd::VecOf<T, L>::type;
  V inexact{}, to_max{}, to_min{}, to_zero{}, nar{};
};

/// Zeros before the first one of words whose top bit is 0. By way of the exponent of a float, as
/// not every machine has an instruction for it; the bit below the first one is cleared so that the
/// conversion does not round up to the next power of two. For 0 the result means nothing.
template <int L>
WATTLE_FORCE_INLINE I32<L> leading_zeros(U32<L> u) {
  const F32<L> f = __builtin_convertvector((I32<L>)(u & ~(u >> 1)), F32<L>);
  return 158 - (I32<L>)((U32<L>)f >> 23);
}

/// posit<N, ES>, N <= 16: every one is exact in f32.
template <int N, int ES>
struct PositLanes {
  static_assert(N <= 16);
  static constexpr bool has_x86 = true;  // quant/posit_avx2.h, posit_avx512.h
  static constexpr int decode_iops = 20, encode_iops = 40;
  static constexpr int32_t max_scale = (N - 2) << ES;

  /// Codes in the low bits of each lane.
  template <int L>
  WATTLE_FORCE_INLINE static F32<L> decode(U32<L> code) {
    const U32<L> x = code << (32 - N);
    const U32<L> sign = (U32<L>)((I32<L>)x >> 31);
    const U32<L> t = ((x ^ sign) - sign) << 1;
    const U32<L> ones = (U32<L>)((I32<L>)t >> 31);
    const U32<L> z = (U32<L>)leading_zeros<L>(t ^ ones);
    const U32<L> k = (z - 1u) ^ ~ones;
    const U32<L> v = t << ((z + 1u) & 31u);  // exponent bits, then the fraction
    U32<L> bits = (v >> (9 - ES)) + ((k << ES) << 23) + (127u << 23);
    bits |= x & 0x80000000u;
    bits &= (U32<L>)(x != 0u);
    const U32<L> nar = (U32<L>)(x == 0x80000000u);
    return (F32<L>)((bits & ~nar) | (nar & 0x7FC00000u));
  }

  template <bool, int L>
  WATTLE_FORCE_INLINE static U32<L> encode(F32<L> number, LossLanes<int32_t, L>& loss) {
    constexpr int shift = 33 - N;  // bits of a word of 32 that do not fit behind the sign
    constexpr int32_t least = (127 - max_scale) << 23, most = (127 + max_scale) << 23;
    const U32<L> u = (U32<L>)number;
    const I32<L> a = (I32<L>)(u & 0x7FFFFFFFu);
    const I32<L> low = a < least ? I32<L>{} + least : a;
    const I32<L> c = low > most ? I32<L>{} + most : low;
    const U32<L> e = (U32<L>)c + (1u << 23);  // exponent biased by 128, a multiple of 2^ES
    const U32<L> k = (e >> (23 + ES)) - (128u >> ES);
    const U32<L> negative = (U32<L>)((I32<L>)k >> 31);
    // regime 10 or 01, exponent bits, fraction
    const U32<L> body = (((e << (7 - ES)) & 0x3FFFFFFFu) | 0x80000000u) ^ (negative & 0xC0000000u);
    // Shifting right by s repeats the regime's bit; what falls out stays as a last bit.
    const U32<L> s = k ^ negative;
    const U32<L> r = (U32<L>)((I32<L>)body >> (I32<L>)s);
    const U32<L> w = r | ((U32<L>)((r << s) != body) & 1u);
    // Ties to even: add just under half, and the last bit that stays.
    const U32<L> p = (w + ((1u << (shift - 1)) - 1) + (w >> shift & 1u)) >> shift;
    const I32<L> real = (I32<L>)(a < 0x7F800000), nonzero = (I32<L>)(a != 0);
    const I32<L> number_mask = real & nonzero;
    const U32<L> sign = (U32<L>)((I32<L>)u >> 31);
    const U32<L> code =
        (((p ^ sign) - sign) & (U32<L>)number_mask) | (~(U32<L>)real & (1u << (N - 1)));
    const I32<L> changed = (I32<L>)((w & ((1u << shift) - 1)) | ((U32<L>)a ^ (U32<L>)c));
    const I32<L> inexact = (I32<L>)(changed != 0) & number_mask;
    loss.inexact += inexact;
    loss.to_max += inexact & (I32<L>)(p == (1u << (N - 1)) - 1);
    loss.to_min += inexact & (I32<L>)(p == 1u);
    loss.nar += ~real;
    return code;
  }
};

/// posit<32, ES> in f64, which holds every one; lanes of 64 bits.
template <int ES>
struct Posit32Lanes {
  static constexpr bool has_x86 = false;
  static constexpr int decode_iops = 21, encode_iops = 42;
  static constexpr int64_t max_scale = 30 << ES;

  template <int L>
  WATTLE_FORCE_INLINE static F64<L> decode(U64<L> code) {
    constexpr uint64_t top = uint64_t{1} << 63;
    const U64<L> x = code << 32;
    const U64<L> sign = (U64<L>)((I64<L>)x < 0);
    const U64<L> t = ((x ^ sign) - sign) << 1;
    const U64<L> ones = (U64<L>)((I64<L>)t < 0);
    // 32 bits on top of the mantissa of 2^52: the difference is exact and its exponent counts
    // zeros.
    const U64<L> u = ((t ^ ones) >> 32) & 0xFFFFFFFFu;
    const F64<L> f = (F64<L>)(u | 0x4330000000000000u) - 0x1p52;
    const U64<L> z = 1054u - ((U64<L>)f >> 52);
    const U64<L> k = (z - 1u) ^ ~ones;
    const U64<L> v = t << ((z + 1u) & 63u);
    U64<L> bits = (v >> (12 - ES)) + ((k << ES) << 52) + (uint64_t{1023} << 52);
    bits |= x & top;
    bits &= (U64<L>)(x != 0u);
    const U64<L> nar = (U64<L>)(x == top);
    return (F64<L>)((bits & ~nar) | (nar & 0x7FF8000000000000u));
  }

  template <bool, int L>
  WATTLE_FORCE_INLINE static U64<L> encode(F64<L> number, LossLanes<int64_t, L>& loss) {
    constexpr int64_t least = (1023 - max_scale) << 52, most = (1023 + max_scale) << 52;
    const U64<L> u = (U64<L>)number;
    const I64<L> a = (I64<L>)(u & 0x7FFFFFFFFFFFFFFFu);
    const I64<L> low = a < least ? I64<L>{} + least : a;
    const I64<L> c = low > most ? I64<L>{} + most : low;
    const U64<L> e = ((U64<L>)c >> 52) + 1u;  // biased by 1024, a multiple of 2^ES
    const U64<L> k = (e >> ES) - (1024u >> ES);
    const U64<L> negative = (U64<L>)((I64<L>)k < 0);
    U64<L> body = ((uint64_t{2} << 62) ^ (negative & (uint64_t{3} << 62))) |
                  ((U64<L>)c & 0xFFFFFFFFFFFFFu) << (10 - ES);
    if constexpr (ES > 0) body |= (e & ((1u << ES) - 1)) << (62 - ES);
    const U64<L> s = k ^ negative;
    const U64<L> fill = ~negative;  // the regime's bit, everywhere
    const U64<L> r = ((body ^ fill) >> s) ^ fill;
    const U64<L> w = r | ((U64<L>)((r << s) != body) & 1u);
    const U64<L> rest = w & 0x1FFFFFFFFu;
    U64<L> p = w >> 33;
    p -= (U64<L>)((I64<L>)rest > (I64<L>)(0x100000000u - (p & 1u)));
    const U64<L> sign = (U64<L>)((I64<L>)u < 0);
    const I64<L> real = (I64<L>)(a < 0x7FF0000000000000), nonzero = (I64<L>)(a != 0);
    U64<L> code = ((p ^ sign) - sign) & (U64<L>)(real & nonzero) & 0xFFFFFFFFu;
    code |= ~(U64<L>)real & 0x80000000u;
    const I64<L> inexact = ((I64<L>)(rest != 0u) | (I64<L>)(a != c)) & real & nonzero;
    loss.inexact += inexact;
    loss.to_max += inexact & (I64<L>)(p == 0x7FFFFFFFu);
    loss.to_min += inexact & (I64<L>)(p == 1u);
    loss.nar += ~real;
    return code;
  }
};

/// MiniFloat<E, M, S> with M >= 1, E <= 8.
template <int E, int M, Specials S>
struct FloatLanes {
  using Format = MiniFloat<E, M, S>;
  static constexpr bool has_x86 = false;
  static constexpr int decode_iops = E == 8 ? 1 : 12, encode_iops = E == 8 ? 24 : 40;

  /// f32 bits of magnitudes (codes without their sign).
  template <int L>
  WATTLE_FORCE_INLINE static U32<L> widen(U32<L> m) {
    if constexpr (E == 8) return m << (23 - M);
    const U32<L> normal = (m << (23 - M)) + (static_cast<uint32_t>(127 - Format::bias) << 23);
    constexpr float unit =
        std::bit_cast<float>(static_cast<uint32_t>(127 + Format::min_exponent - M) << 23);
    const F32<L> small = __builtin_convertvector((I32<L>)m, F32<L>) * unit;
    const I32<L> im = (I32<L>)m;
    U32<L> bits = im < (1 << M) ? (U32<L>)small : normal;
    if constexpr (S == Specials::ieee) {
      constexpr auto infinity = static_cast<int32_t>(Format::infinity_code);
      bits = im == infinity ? U32<L>{} + 0x7F800000u : bits;
      bits = im > infinity ? U32<L>{} + 0x7FC00000u : bits;
    } else if constexpr (S == Specials::nan_only) {
      bits = m == Format::sign_bit - 1 ? U32<L>{} + 0x7FC00000u : bits;
    }
    return bits;
  }

  template <int L>
  WATTLE_FORCE_INLINE static F32<L> decode(U32<L> code) {
    const U32<L> sign = (code & Format::sign_bit) << (32 - Format::bits);
    return (F32<L>)(widen<L>(code & (Format::sign_bit - 1)) | sign);
  }

  template <bool Saturating, int L>
  WATTLE_FORCE_INLINE static U32<L> encode(F32<L> number, LossLanes<int32_t, L>& loss) {
    constexpr int shift = 23 - M;
    constexpr auto max_code = static_cast<int32_t>(Format::max_code);
    const U32<L> u = (U32<L>)number;
    const U32<L> a = u & 0x7FFFFFFFu;
    // Ties to even: add just under half a step, and the last bit that stays.
    const U32<L> rounded = (a + ((1u << (shift - 1)) - 1) + (a >> shift & 1u)) >> shift;
    I32<L> code = (I32<L>)(rounded - (static_cast<uint32_t>(127 - Format::bias) << M));
    if constexpr (E < 8) {
      // Below the smallest normal number the steps are even: adding a number whose last bit is
      // worth one step rounds.
      constexpr uint32_t magic = static_cast<uint32_t>(127 + Format::min_exponent - M + 23) << 23;
      const I32<L> small = (I32<L>)((U32<L>)((F32<L>)a + std::bit_cast<float>(magic)) - magic);
      code = (I32<L>)a < ((127 + Format::min_exponent) << 23) ? small : code;
    }
    const I32<L> nan = (I32<L>)((I32<L>)a > 0x7F800000);
    const I32<L> beyond = (I32<L>)(code > max_code) | (I32<L>)(a == 0x7F800000u);
    constexpr uint32_t over = Saturating || S == Specials::none ? Format::max_code
                              : S == Specials::ieee             ? Format::infinity_code
                                                                : Format::nan_code;
    code = beyond ? I32<L>{} + static_cast<int32_t>(over) : code;
    code = nan ? I32<L>{} + static_cast<int32_t>(Format::nan_code) : code;
    I32<L> bad = nan;
    if constexpr (S == Specials::nan_only && !Saturating) bad |= beyond;
    const I32<L> inexact = (I32<L>)(widen<L>((U32<L>)code) != a) & ~bad;
    loss.inexact += inexact;
    loss.to_max += inexact & (I32<L>)(code >= max_code);
    loss.to_min += inexact & (I32<L>)(code == 1);
    loss.to_zero += inexact & (I32<L>)(code == 0);
    loss.nar += bad;
    return (u >> 31 << (Format::bits - 1)) | (U32<L>)code;
  }
};

}  // namespace wattle::quant
