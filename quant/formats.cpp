#include "quant/formats.h"

#include <bit>
#include <cmath>

#include "core/codec.h"
#include "core/error.h"
#include "core/rng.h"
#include "quant/block_scale.h"
#include "quant/posit.h"

namespace wattle::quant {
namespace {

using Span = std::span<const float>;

// There and back through the codec that tensors use.
template <DType T>
void round_by_codec(Span x, std::span<float> y) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint8_t> codes(static_cast<size_t>(code_bytes(T, n)));
  codec(T).encode(x.data(), codes.data(), n, {});
  codec(T).decode(codes.data(), y.data(), n);
}

template <class P, DType T>
Format posit_format(std::string name, std::string about, int n, int es) {
  Format f;
  f.name = std::move(name);
  f.about = std::move(about);
  f.bits = n;
  f.max = P::maxpos().to_double();
  f.min_positive = P::minpos().to_double();
  f.significand = n - 2 - es;
  f.is_posit = true;
  f.round = round_by_codec<T>;
  return f;
}

template <class M, DType T>
Format float_format(std::string name, std::string about) {
  Format f;
  f.name = std::move(name);
  f.about = std::move(about);
  f.bits = M::bits;
  f.max = M::max();
  f.min_positive = M::decode(1);
  f.significand = M::fraction_bits + 1;
  f.round = round_by_codec<T>;
  return f;
}

constexpr size_t mx_block = 32;

template <class M, DType T>
Format mx_format(std::string name, std::string about) {
  Format f = float_format<M, T>(std::move(name), std::move(about));
  f.block = mx_block;
  f.bits += 8.0 / mx_block;
  return f;
}

float largest(Span x) {
  float amax = 0;
  for (const float v : x) amax = std::max(amax, std::fabs(v));
  return amax;
}

Format mxint8_format() {
  Format f;
  f.name = "mxint8";
  f.about = "MX: integers k/64 in blocks of 32";
  f.bits = 8 + 8.0 / mx_block;
  f.block = mx_block;
  f.max = MxInt8Element::max();
  f.min_positive = MxInt8Element::decode(1);
  f.significand = 7;
  f.round = round_by_codec<DType::mxint8>;
  return f;
}

Format nvfp4_format() {
  Format f = float_format<e2m1_format, DType::nvfp4>("nvfp4", "E2M1 in blocks of 16, E4M3 scales");
  f.block = nvfp4_block;
  f.bits += 8.0 / nvfp4_block;
  f.tensor_scale = true;
  f.round = [](Span x, std::span<float> y) {
    const float scale = nvfp4_tensor_scale(largest(x));
    uint8_t codes[nvfp4_block];
    for (size_t at = 0; at < x.size(); at += nvfp4_block) {
      const size_t n = std::min(nvfp4_block, x.size() - at);
      const std::span<uint8_t> c(codes, n);
      decode_nvfp4_block(encode_nvfp4_block(x.subspan(at, n), c, scale), c, y.subspan(at, n),
                         scale);
    }
  };
  return f;
}

// Whole numbers -127..127 (-7..7) times amax / 127 (amax / 7) of a block, in f32.
template <int Top, size_t Block>
void round_integers(Span x, std::span<float> y) {
  for (size_t at = 0; at < x.size(); at += Block) {
    const size_t n = std::min(Block, x.size() - at);
    const double step = double{largest(x.subspan(at, n))} / Top;
    for (size_t i = at; i < at + n; ++i)
      y[i] = step > 0 ? static_cast<float>(std::nearbyint(double{x[i]} / step) * step) : 0.0f;
  }
}

Format integer_format(std::string name, std::string about, double bits, int top) {
  Format f;
  f.name = std::move(name);
  f.about = std::move(about);
  f.bits = bits;
  f.max = top;
  f.min_positive = 1;
  f.significand = std::bit_width(static_cast<unsigned>(top));
  f.tensor_scale = true;
  return f;
}

Format f32_format() {
  Format f;
  f.name = "f32";
  f.about = "IEEE 754 binary32";
  f.bits = 32;
  f.max = std::numeric_limits<float>::max();
  f.min_positive = std::numeric_limits<float>::denorm_min();
  f.significand = 24;
  f.round = [](Span x, std::span<float> y) { std::copy(x.begin(), x.end(), y.begin()); };
  return f;
}

}  // namespace

const std::vector<Format>& formats() {
  static const Format int8 = [] {
    Format f = integer_format("int8", "-127..127, one scale for the tensor", 8, 127);
    f.round = round_integers<127, SIZE_MAX>;
    return f;
  }();
  static const Format int8_b32 = [] {
    Format f = integer_format("int8_b32", "-127..127, an f32 scale for 32", 9, 127);
    f.block = 32;
    f.round = round_integers<127, 32>;
    return f;
  }();
  static const Format int4_b32 = [] {
    Format f = integer_format("int4_b32", "-7..7, an f32 scale for 32", 5, 7);
    f.block = 32;
    f.round = round_integers<7, 32>;
    return f;
  }();
  static const std::vector<Format> all{
      f32_format(),
      posit_format<posit32, DType::posit32>("posit32", "posit<32, 2>, standard of 2022", 32, 2),
      float_format<fp16_format, DType::fp16>("fp16", "IEEE 754 binary16"),
      float_format<bf16_format, DType::bf16>("bf16", "bfloat16: the range of f32"),
      posit_format<posit16, DType::posit16>("posit16", "posit<16, 2>, standard of 2022", 16, 2),
      posit_format<Posit<16, 1>, DType::posit16_es1>("posit16_es1", "posit<16, 1>, before 2022", 16,
                                                     1),
      float_format<e4m3_format, DType::fp8_e4m3>("fp8_e4m3", "OCP FP8 E4M3 (fn: no infinity)"),
      float_format<e5m2_format, DType::fp8_e5m2>("fp8_e5m2", "OCP FP8 E5M2"),
      posit_format<posit8, DType::posit8>("posit8", "posit<8, 2>, standard of 2022", 8, 2),
      posit_format<Posit<8, 1>, DType::posit8_es1>("posit8_es1", "posit<8, 1>, before 2022", 8, 1),
      posit_format<Posit<8, 0>, DType::posit8_es0>("posit8_es0", "posit<8, 0>, before 2022", 8, 0),
      int8,
      int8_b32,
      mxint8_format(),
      mx_format<e4m3_format, DType::mxfp8_e4m3>("mxfp8_e4m3", "MX: E4M3 in blocks of 32"),
      mx_format<e5m2_format, DType::mxfp8_e5m2>("mxfp8_e5m2", "MX: E5M2 in blocks of 32"),
      mx_format<e2m3_format, DType::mxfp6_e2m3>("mxfp6_e2m3", "MX: E2M3 in blocks of 32"),
      mx_format<e3m2_format, DType::mxfp6_e3m2>("mxfp6_e3m2", "MX: E3M2 in blocks of 32"),
      mx_format<e2m1_format, DType::mxfp4>("mxfp4", "MX: E2M1 in blocks of 32"),
      int4_b32,
      nvfp4_format(),
  };
  return all;
}

const Format& format_from_name(std::string_view name) {
  std::string known;
  for (const Format& f : formats()) {
    if (f.name == name) return f;
    known += (known.empty() ? "" : ", ") + f.name;
  }
  throw value_error(str("format: found '", name, "', expected one of ", known));
}

int fraction_bits(const Format& f, int exponent) {
  // Under a scale that is not a power of two a single number is its own largest, and always exact.
  if (f.tensor_scale) return f.significand - 1;
  const auto kept = [&](double v) {
    const float x = static_cast<float>(v);
    float y = 0;
    f.round({&x, 1}, {&y, 1});
    return double{x} == v && y == x;
  };
  const double base = std::ldexp(1.0, exponent);
  if (!kept(base)) return -1;
  int m = 0;
  while (m < 23 && kept(base * (1 + std::ldexp(1.0, -(m + 1))))) ++m;
  return m;
}

double sqnr_db(const Format& f, double sigma, int64_t count, uint64_t seed) {
  // All at once: some formats have a scale that depends on all of the tensor.
  const auto n = static_cast<size_t>(count);
  std::vector<float> x(n), y(n);
  for (size_t i = 0; i < n; ++i)
    x[i] = static_cast<float>(sigma * double{normal_pair_at(seed, i / 2)[i % 2]});
  f.round(x, y);
  double signal = 0, noise = 0;
  for (size_t i = 0; i < n; ++i) {
    signal += double{x[i]} * x[i];
    noise += (double{y[i]} - x[i]) * (double{y[i]} - x[i]);
  }
  return 10 * std::log10(signal / noise);
}

}  // namespace wattle::quant
