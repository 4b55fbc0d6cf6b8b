// The codecs of all coded dtypes. Elements of one code each are converted by loops over
// quant/lanes.h (f32) or by the scalar references (f64, stochastic rounding, rare types); packed
// types go block by block.
#include <cmath>
#include <cstring>

#include "core/codec.h"
#include "core/error.h"
#include "quant/block_scale.h"
#include "quant/elements.h"
#include "quant/lane_loops.h"
#include "quant/posit_avx2.h"
#include "quant/posit_avx512.h"

namespace wattle::quant {
namespace {

constexpr int64_t chunk = 512;  // numbers; a multiple of every block

template <class E>
void refuse_nan(double x) {
  if (!E::has_nan && std::isnan(x))
    throw value_error(str("cast: found NaN, which ", E::name, " has no code for"));
}

template <class E, class Code, class T>
CastStats encode_scalar(const T* x, void* codes, int64_t n, const EncodeOptions& o) {
  auto* c = static_cast<Code*>(codes);
  CastStats s{.n = n};
  for (int64_t i = 0; i < n; ++i) {
    const double v = static_cast<double>(x[i]);
    refuse_nan<E>(v);
    const uint32_t code = encode_one<E>(v, o, static_cast<uint64_t>(i));
    c[i] = static_cast<Code>(code);
    count_rounding<E>(v, code, s);
  }
  return s;
}

template <class E, class Code, class T>
void decode_scalar(const void* codes, T* x, int64_t n) {
  const auto* c = static_cast<const Code*>(codes);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(E::decode(c[i]));
}

template <class Lanes, class Code, class T>
void decode_lanes(const void* codes, T* x, int64_t n) {
  const auto* c = static_cast<const Code*>(codes);
#if defined(__x86_64__)
  if constexpr (Lanes::has_x86) {
    if (simd::level() == simd::Level::avx512) return decode_avx512(Lanes{}, c, x, n);
    if (simd::level() == simd::Level::avx2) return decode_avx2(Lanes{}, c, x, n);
  }
#endif
  decode_loop<Lanes>(c, x, n);
}

template <class Lanes, class E, class Code, class T>
CastStats encode_lanes(const T* x, void* codes, int64_t n, const EncodeOptions& o) {
  if (o.rounding == Rounding::stochastic) return encode_scalar<E, Code>(x, codes, n, o);
  auto* c = static_cast<Code*>(codes);
#if defined(__x86_64__)
  if constexpr (Lanes::has_x86) {
    if (simd::level() == simd::Level::avx512) return encode_avx512(Lanes{}, x, c, n);
    if (simd::level() == simd::Level::avx2) return encode_avx2(Lanes{}, x, c, n);
  }
#endif
  return o.saturate ? encode_loop<Lanes, true>(x, c, n) : encode_loop<Lanes, false>(x, c, n);
}

// ---- packed rows ----

// Codes of `bits` bits each, the first one in the lowest bits.
template <int Bits>
void pack(const uint8_t* codes, uint8_t* bytes, int64_t n) {
  if constexpr (Bits == 8) {
    std::memcpy(bytes, codes, static_cast<size_t>(n));
  } else {
    std::memset(bytes, 0, static_cast<size_t>((n * Bits + 7) / 8));
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = i * Bits;
      const uint32_t v = uint32_t{codes[i]} << (at & 7);
      bytes[at >> 3] = static_cast<uint8_t>(bytes[at >> 3] | v);
      if ((at & 7) + Bits > 8)
        bytes[(at >> 3) + 1] = static_cast<uint8_t>(bytes[(at >> 3) + 1] | v >> 8);
    }
  }
}

template <int Bits>
void unpack(const uint8_t* bytes, uint8_t* codes, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = i * Bits;
    uint32_t v = bytes[at >> 3];
    if ((at & 7) + Bits > 8) v |= uint32_t{bytes[(at >> 3) + 1]} << 8;
    codes[i] = static_cast<uint8_t>(v >> (at & 7) & ((1u << Bits) - 1));
  }
}

// Elements without a scale, several to a byte.
template <class E, class T>
void decode_packed(const void* bytes, T* x, int64_t n) {
  const auto* b = static_cast<const uint8_t*>(bytes);
  uint8_t codes[chunk];
  for (int64_t at = 0; at < n; at += chunk) {
    const int64_t m = std::min(chunk, n - at);
    unpack<E::bits>(b + at * E::bits / 8, codes, m);
    decode_scalar<E, uint8_t>(codes, x + at, m);
  }
}

template <class E, class T>
CastStats encode_packed(const T* x, void* bytes, int64_t n, const EncodeOptions& options) {
  auto* b = static_cast<uint8_t*>(bytes);
  uint8_t codes[chunk] = {};
  CastStats s;
  EncodeOptions o = options;
  for (int64_t at = 0; at < n; at += chunk) {
    const int64_t m = std::min(chunk, n - at);
    o.first = options.first + static_cast<uint64_t>(at);
    s += encode_scalar<E, uint8_t>(x + at, codes, m, o);
    // The last bytes are shared by codes that do not exist: zeros, so that equal rows are equal.
    const int64_t block = 8 % E::bits == 0 ? 8 / E::bits : 4,
                  whole = (m + block - 1) / block * block;
    std::memset(codes + m, 0, static_cast<size_t>(whole - m));
    pack<E::bits>(codes, b + at * E::bits / 8, whole);
  }
  return s;
}

// ---- blocks under a scale: the scale's byte, then the codes ----

// MX: a power of two.
template <class E>
struct MxBlock {
  static constexpr int64_t block = 32;
  static constexpr int bits = E::bits;
  static double step(uint8_t scale) { return e8m0_decode(scale); }
  template <class T>
  static uint8_t scale_of(const T* x, int64_t n, ScaleRule rule) {
    double amax = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (!std::isfinite(x[i])) return 0xFF;
      amax = std::max(amax, std::fabs(double{x[i]}));
    }
    return mx_scale<typename E::Format>(amax, rule);
  }
};

// NVFP4 without its tensor scale, which belongs to whoever chose it: an E4M3 number.
struct NvBlock {
  static constexpr int64_t block = 16;
  static constexpr int bits = 4;
  static double step(uint8_t scale) { return e4m3_format::decode(scale); }
  template <class T>
  static uint8_t scale_of(const T* x, int64_t n, ScaleRule) {
    double amax = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (!std::isfinite(x[i])) return static_cast<uint8_t>(e4m3_format::nan_code);
      amax = std::max(amax, std::fabs(double{x[i]}));
    }
    return static_cast<uint8_t>(e4m3_format::encode(amax / e2m1_format::max(), Saturate::on));
  }
};

template <class B, class E, class T>
void decode_blocks(const void* bytes, T* x, int64_t n) {
  const auto* b = static_cast<const uint8_t*>(bytes);
  uint8_t codes[B::block];
  static_assert(B::block * B::bits % 8 == 0);
  for (int64_t at = 0; at < n; at += B::block, b += 1 + B::block * B::bits / 8) {
    const int64_t m = std::min(B::block, n - at);
    unpack<B::bits>(b + 1, codes, m);
    const double step = B::step(b[0]);
    for (int64_t i = 0; i < m; ++i) x[at + i] = static_cast<T>(E::decode(codes[i]) * step);
  }
}

template <class B, class E, class T>
CastStats encode_blocks(const T* x, void* bytes, int64_t n, const EncodeOptions& o) {
  auto* b = static_cast<uint8_t*>(bytes);
  CastStats s{.n = n};
  for (int64_t at = 0; at < n; at += B::block, b += 1 + B::block * B::bits / 8) {
    const int64_t m = std::min(B::block, n - at);
    uint8_t codes[B::block] = {};
    b[0] = B::scale_of(x + at, m, o.scale_rule);
    const double step = B::step(b[0]);
    if (std::isnan(step)) s.nar += m;  // the whole block is NaN
    for (int64_t i = 0; i < m && !std::isnan(step); ++i) {
      const double v = static_cast<double>(x[at + i]), scaled = step > 0 ? v / step : 0.0;
      codes[i] = static_cast<uint8_t>(encode_one<E>(scaled, o, static_cast<uint64_t>(at + i)));
      if (step > 0) count_rounding<E>(scaled, codes[i], s);
      else if (v != 0) ++s.inexact, ++s.to_zero;
    }
    pack<B::bits>(codes, b + 1, B::block);
  }
  return s;
}

// ---- the table ----

template <class L, class E, class Code>
Codec lanes_codec(DType t) {
  return {.dtype = t,
          .may_overflow = E::may_overflow,
          .decode_iops = L::decode_iops,
          .encode_iops = L::encode_iops,
          .decode = decode_lanes<L, Code, float>,
          .decode_wide = decode_scalar<E, Code, double>,
          .encode = encode_lanes<L, E, Code, float>,
          .encode_wide = encode_scalar<E, Code, double>};
}

template <class E>
Codec packed_codec(DType t) {
  return {.dtype = t,
          .may_overflow = false,
          .decode_iops = 14,
          .encode_iops = 30,
          .decode = decode_packed<E, float>,
          .decode_wide = decode_packed<E, double>,
          .encode = encode_packed<E, float>,
          .encode_wide = encode_packed<E, double>};
}

template <class B, class E>
Codec block_codec(DType t, bool rules) {
  return {.dtype = t,
          .may_overflow = false,
          .has_scale_rule = rules,
          .decode_iops = 15,
          .encode_iops = 36,
          .decode = decode_blocks<B, E, float>,
          .decode_wide = decode_blocks<B, E, double>,
          .encode = encode_blocks<B, E, float>,
          .encode_wide = encode_blocks<B, E, double>};
}

// posit32 to and from f32, by way of f64: the one rounding there is, is the last step of decoding.
void decode_posit32(const void* codes, float* x, int64_t n) {
  const auto* c = static_cast<const uint32_t*>(codes);
  double wide[chunk];
  for (int64_t at = 0; at < n; at += chunk) {
    const int64_t m = std::min(chunk, n - at);
    decode_loop<Posit32Lanes<2>>(c + at, wide, m);
    for (int64_t i = 0; i < m; ++i) x[at + i] = static_cast<float>(wide[i]);
  }
}
CastStats encode_posit32(const float* x, void* codes, int64_t n, const EncodeOptions& options) {
  auto* c = static_cast<uint32_t*>(codes);
  double wide[chunk];
  CastStats s;
  EncodeOptions o = options;
  for (int64_t at = 0; at < n; at += chunk) {
    const int64_t m = std::min(chunk, n - at);
    for (int64_t i = 0; i < m; ++i) wide[i] = double{x[at + i]};
    o.first = options.first + static_cast<uint64_t>(at);
    s += encode_lanes<Posit32Lanes<2>, PositElement<32, 2>, uint32_t>(wide, c + at, m, o);
  }
  return s;
}

Codec posit32_codec() {
  using E = PositElement<32, 2>;
  return {.dtype = DType::posit32,
          .wide = true,
          .may_overflow = false,
          .decode_iops = Posit32Lanes<2>::decode_iops,
          .encode_iops = Posit32Lanes<2>::encode_iops,
          .decode = decode_posit32,
          .decode_wide = decode_lanes<Posit32Lanes<2>, uint32_t, double>,
          .encode = encode_posit32,
          .encode_wide = encode_lanes<Posit32Lanes<2>, E, uint32_t, double>};
}

Codec e8m0_codec() {
  using E = ScaleElement;
  return {.dtype = DType::e8m0,
          .decode_iops = 1,
          .encode_iops = 6,
          .decode = decode_scalar<E, uint8_t, float>,
          .decode_wide = decode_scalar<E, uint8_t, double>,
          .encode = encode_scalar<E, uint8_t, float>,
          .encode_wide = encode_scalar<E, uint8_t, double>};
}

template <int E, int M, Specials S, class Code>
Codec float_codec(DType t) {
  return lanes_codec<FloatLanes<E, M, S>, FloatElement<MiniFloat<E, M, S>>, Code>(t);
}
template <int N, int ES, class Code>
Codec posit_codec(DType t) {
  return lanes_codec<PositLanes<N, ES>, PositElement<N, ES>, Code>(t);
}
template <class Format>
Codec mx_codec(DType t) {
  using E = FloatElement<Format>;
  return block_codec<MxBlock<E>, E>(t, true);
}

const bool registered = [] {
  static const Codec all[] = {
      float_codec<8, 7, Specials::ieee, uint16_t>(DType::bf16),
      float_codec<5, 10, Specials::ieee, uint16_t>(DType::fp16),
      float_codec<4, 3, Specials::nan_only, uint8_t>(DType::fp8_e4m3),
      float_codec<5, 2, Specials::ieee, uint8_t>(DType::fp8_e5m2),
      posit_codec<8, 2, uint8_t>(DType::posit8),
      posit_codec<8, 1, uint8_t>(DType::posit8_es1),
      posit_codec<8, 0, uint8_t>(DType::posit8_es0),
      posit_codec<16, 2, uint16_t>(DType::posit16),
      posit_codec<16, 1, uint16_t>(DType::posit16_es1),
      posit32_codec(),
      packed_codec<FloatElement<e3m2_format>>(DType::fp6_e3m2),
      packed_codec<FloatElement<e2m3_format>>(DType::fp6_e2m3),
      packed_codec<FloatElement<e2m1_format>>(DType::fp4_e2m1),
      e8m0_codec(),
      packed_codec<IntElement<4>>(DType::int4),
      mx_codec<e4m3_format>(DType::mxfp8_e4m3),
      mx_codec<e5m2_format>(DType::mxfp8_e5m2),
      mx_codec<e3m2_format>(DType::mxfp6_e3m2),
      mx_codec<e2m3_format>(DType::mxfp6_e2m3),
      mx_codec<e2m1_format>(DType::mxfp4),
      block_codec<MxBlock<MxIntElement>, MxIntElement>(DType::mxint8, true),
      block_codec<NvBlock, FloatElement<e2m1_format>>(DType::nvfp4, false),
  };
  for (const Codec& c : all) register_codec(&c);
  return true;
}();

}  // namespace
}  // namespace wattle::quant
