// All number formats in one list, for tables, studies and advice: what they hold and how they
// round.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wattle::quant {

struct Format {
  std::string name;   ///< "posit16", "fp8_e4m3", "mxfp4", ...
  std::string about;  ///< one line
  /// Bits of a stored element, the shared scale of its block included: 4.25 for MXFP4.
  double bits = 0;
  double max = 0, min_positive = 0;  ///< of an element, without a block's scale
  int block = 1;                     ///< elements under one scale
  int significand = 0;               ///< bits at its best, the hidden one included
  bool is_posit = false;
  /// Scaled so that the largest number of the tensor or block is exact: the scale is no power of
  /// two, and figures per exponent mean nothing.
  bool tensor_scale = false;
  /// y = x rounded to the format and back, to nearest, saturating; sizes equal.
  void (*round)(std::span<const float> x, std::span<float> y) = nullptr;
};

/// f32, bf16, fp16, fp8 E4M3 and E5M2, posits, int8, int4, MX formats and NVFP4, by size.
const std::vector<Format>& formats();
/// Throws value_error and lists the known ones.
const Format& format_from_name(std::string_view name);

/// Fraction bits that the format keeps of numbers in [2^exponent, 2^(exponent + 1)), by trying: the
/// largest m for which 2^exponent (1 + 2^-m) stays what it is; -1 when not even 2^exponent does.
/// Block formats scale it to their best, so they have one figure for all exponents.
int fraction_bits(const Format& f, int exponent);

/// Signal-to-noise ratio in dB of `count` numbers from N(0, sigma), drawn from stream `seed`.
double sqnr_db(const Format& f, double sigma, int64_t count = 1 << 18, uint64_t seed = 1);

}  // namespace wattle::quant
