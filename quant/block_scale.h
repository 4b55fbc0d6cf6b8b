// Blocks of small elements under a shared scale: a power of two in the MX formats, an E4M3 number
// in NVFP4.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "quant/block_math.h"

namespace wattle::quant {

/// Encodes one block of `x` (32 in MX; the last one of a row may be shorter): writes a code per
/// element and returns the E8M0 scale. A block with NaN or infinity has scale 0xFF and codes 0: it
/// decodes to NaN everywhere. A block of zeros has scale 0 and keeps its signs.
template <class Format>
uint8_t encode_block(std::span<const float> x, std::span<uint8_t> codes,
                     ScaleRule rule = ScaleRule::floor) {
  float amax = 0;
  bool finite = true;
  for (const float v : x) {
    finite = finite && std::isfinite(v);
    amax = std::max(amax, std::fabs(v));
  }
  if (!finite) {
    std::fill(codes.begin(), codes.end(), uint8_t{0});
    return 0xFF;
  }
  const uint8_t scale = mx_scale<Format>(double{amax}, rule);
  const double inverse = 1 / e8m0_decode(scale);
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = static_cast<uint8_t>(Format::encode(double{x[i]} * inverse, Saturate::on));
  return scale;
}

template <class Format>
void decode_block(uint8_t scale, std::span<const uint8_t> codes, std::span<float> x) {
  const double s = e8m0_decode(scale);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(Format::decode(codes[i]) * s);
}

constexpr size_t nvfp4_block = 16;

/// NVFP4's scale of the whole tensor: with it the largest block scale is E4M3's largest number.
/// 0 for a tensor of zeros.
inline float nvfp4_tensor_scale(float amax) {
  return static_cast<float>(double{amax} / (e2m1_format::max() * e4m3_format::max()));
}

/// Encodes one block of up to 16 elements as E2M1 under an E4M3 scale, which is returned:
/// value = code * scale * tensor_scale. A block with NaN or infinity has the scale NaN and codes 0.
/// A block far below the tensor's largest number may get the scale 0: it decodes to zeros.
inline uint8_t encode_nvfp4_block(std::span<const float> x, std::span<uint8_t> codes,
                                  float tensor_scale) {
  double amax = 0;
  bool finite = true;
  for (const float v : x) {
    finite = finite && std::isfinite(v);
    amax = std::max(amax, std::fabs(double{v}));
  }
  std::fill(codes.begin(), codes.end(), uint8_t{0});
  if (!finite) return static_cast<uint8_t>(e4m3_format::nan_code);
  if (amax == 0 || tensor_scale == 0) return 0;
  const uint32_t scale =
      e4m3_format::encode(amax / e2m1_format::max() / double{tensor_scale}, Saturate::on);
  const double step = e4m3_format::decode(scale) * double{tensor_scale};
  if (step > 0)
    for (size_t i = 0; i < x.size(); ++i)
      codes[i] = static_cast<uint8_t>(e2m1_format::encode(double{x[i]} / step, Saturate::on));
  return static_cast<uint8_t>(scale);
}

inline void decode_nvfp4_block(uint8_t scale, std::span<const uint8_t> codes, std::span<float> x,
                               float tensor_scale) {
  const double step = e4m3_format::decode(scale) * double{tensor_scale};
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(e2m1_format::decode(codes[i]) * step);
}

}  // namespace wattle::quant
