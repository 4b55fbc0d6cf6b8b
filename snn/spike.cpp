#include "snn/spike.h"

#include <algorithm>

#include "core/codec.h"
#include "core/error.h"
#include "core/simd.h"

namespace wattle {
namespace {

template <class T>
void decode_bits(const void* codes, T* x, int64_t n) {
  const auto* const bits = static_cast<const uint8_t*>(codes);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const uint32_t b = bits[i / 8];
    for (uint32_t l = 0; l < 8; ++l) x[i + l] = static_cast<T>(b >> l & 1u);
  }
  for (; i < n; ++i) x[i] = static_cast<T>(bits[i / 8] >> (i % 8) & 1);
}

// The nearer of 0 and 1, 0 in the middle.
template <class T>
CastStats encode_bits(const T* x, void* codes, int64_t n, const EncodeOptions& o) {
  if (o.rounding != Rounding::nearest)
    throw value_error("cast: rounding: found stochastic, expected nearest for spike");
  auto* const bits = static_cast<uint8_t*>(codes);
  std::fill_n(bits, snn::spike_row_bytes(n), uint8_t{0});
  CastStats s{.n = n};
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] != x[i]) throw value_error("cast: found NaN, which spike has no code for");
    const bool one = x[i] > T(0.5);
    bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | (one ? 1u << (i % 8) : 0u));
    if (x[i] == T(one)) continue;
    ++s.inexact;
    s.to_max += one, s.to_min += one, s.to_zero += !one;
  }
  return s;
}

const bool registered = [] {
  static const Codec codec{.dtype = DType::spike,
                           .may_overflow = false,
                           .decode_iops = 2,
                           .encode_iops = 3,
                           .decode = decode_bits<float>,
                           .decode_wide = decode_bits<double>,
                           .encode = encode_bits<float>,
                           .encode_wide = encode_bits<double>};
  register_codec(&codec);
  return true;
}();

}  // namespace

namespace {

// Bits of n bytes, a word at a time.
[[gnu::always_inline]] inline int64_t count_words(const uint8_t* p, int64_t n) {
  int64_t bits = 0, at = 0;
  for (; at + 8 <= n; at += 8) {
    uint64_t word;
    std::memcpy(&word, p + at, 8);
    bits += std::popcount(word);
  }
  for (; at < n; ++at) bits += std::popcount(p[at]);
  return bits;
}

#if defined(__x86_64__)
// The baseline has no instruction for it, every machine with AVX2 has.
[[gnu::target("popcnt")]] int64_t count_bits_fast(const uint8_t* p, int64_t n) {
  return count_words(p, n);
}
#endif

}  // namespace

int64_t snn::count_bits(const uint8_t* p, int64_t n) {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::avx2) return count_bits_fast(p, n);
#endif
  return count_words(p, n);
}

int64_t snn::count_spikes(const Tensor& s) {
  if (s.dtype() != DType::spike)
    throw dtype_error(str("count_spikes: found ", s, ", expected spike"));
  if (!s.is_contiguous()) throw shape_error(str("count_spikes: ", s, " is strided"));
  return count_bits(static_cast<const uint8_t*>(s.raw()), s.nbytes());
}

}  // namespace wattle
