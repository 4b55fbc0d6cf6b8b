// Small floats and blocks of them against the vectors of their specifications, against each other,
// and against signal-to-noise ratios measured elsewhere.
#include "quant/minifloat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "quant/block_scale.h"
#include "quant/posit.h"

namespace wattle::quant {
namespace {

template <class F>
void every_code_survives() {
  for (uint32_t c = 0; c < 1u << F::bits; ++c) {
    const double v = F::decode(c);
    if (std::isnan(v)) {
      EXPECT_TRUE(std::isnan(F::decode(F::encode(v, Saturate::off))));
      continue;
    }
    for (const Saturate s : {Saturate::on, Saturate::off}) {
      if (std::isinf(v) && s == Saturate::on) continue;
      ASSERT_EQ(F::encode(v, s), c) << v;
    }
  }
}

TEST(MiniFloat, EveryCodeSurvives) {
  every_code_survives<bf16_format>();
  every_code_survives<fp16_format>();
  every_code_survives<e4m3_format>();
  every_code_survives<e5m2_format>();
  every_code_survives<e3m2_format>();
  every_code_survives<e2m3_format>();
  every_code_survives<e2m1_format>();
  for (int c = 0; c < 255; ++c)
    EXPECT_EQ(e8m0_of_exponent(std::ilogb(e8m0_decode(static_cast<uint8_t>(c)))), c);
}

TEST(MiniFloat, RangesOfTheSpecifications) {
  EXPECT_EQ(e4m3_format::max(), 448);
  EXPECT_EQ(e4m3_format::max_code, 0x7Eu);
  EXPECT_EQ(e4m3_format::decode(1), 0x1p-9);
  EXPECT_EQ(e5m2_format::max(), 57344);
  EXPECT_EQ(e5m2_format::max_code, 0x7Bu);
  EXPECT_EQ(e5m2_format::infinity_code, 0x7Cu);
  EXPECT_EQ(e5m2_format::decode(1), 0x1p-16);
  EXPECT_EQ(e3m2_format::max(), 28);
  EXPECT_EQ(e2m3_format::max(), 7.5);
  EXPECT_EQ(e2m1_format::max(), 6);
  EXPECT_EQ(e2m1_format::decode(1), 0.5);
  EXPECT_EQ(fp16_format::max(), 65504);
  EXPECT_EQ(fp16_format::decode(1), 0x1p-24);
  EXPECT_TRUE(std::isnan(e8m0_decode(0xFF)));
}

TEST(MiniFloat, OverflowIsWhatWasAskedFor) {
  const auto e4m3 = [](double x, Saturate s) { return e4m3_format::encode(x, s); };
  EXPECT_EQ(e4m3(464, Saturate::off), 0x7Eu);  // a tie, to the even code
  EXPECT_EQ(e4m3(465, Saturate::off), 0x7Fu);
  EXPECT_EQ(e4m3(465, Saturate::on), 0x7Eu);
  EXPECT_EQ(e4m3(-INFINITY, Saturate::off), 0xFFu);
  EXPECT_EQ(e4m3(-INFINITY, Saturate::on), 0xFEu);
  EXPECT_EQ(e4m3(std::copysign(NAN, -1), Saturate::on), 0xFFu);
  EXPECT_EQ(e5m2_format::encode(61439, Saturate::off), 0x7Bu);
  EXPECT_EQ(e5m2_format::encode(61440, Saturate::off), 0x7Cu);
  EXPECT_EQ(e5m2_format::encode(61440, Saturate::on), 0x7Bu);
  EXPECT_EQ(e2m1_format::encode(100, Saturate::off), 7u);  // there is nothing else
  EXPECT_EQ(e2m1_format::encode(-0.0, Saturate::on), 8u);
  EXPECT_EQ(e2m1_format::encode(NAN, Saturate::on), 7u);  // casts refuse it before
}

// The usual bit trick for bf16, and the compiler's own half precision.
TEST(MiniFloat, AgreesWithOtherWaysToRound) {
  for (uint64_t b = 0; b < 1ull << 32; b += 2053) {
    const auto bits = static_cast<uint32_t>(b);
    float v;
    std::memcpy(&v, &bits, 4);
    if (std::isnan(v)) continue;
    const uint32_t trick = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    ASSERT_EQ(bf16_format::encode(v, Saturate::off), trick) << v;
#ifdef __FLT16_MANT_DIG__
    const auto h = static_cast<_Float16>(v);
    uint16_t half;
    std::memcpy(&half, &h, 2);
    ASSERT_EQ(fp16_format::encode(v, Saturate::off), half) << v;
#endif
  }
}

TEST(BlockScale, VectorsAndRules) {
  const auto scale_of = [](std::vector<float> x, ScaleRule rule,
                           std::vector<float>* back = nullptr) {
    std::vector<uint8_t> codes(x.size());
    const uint8_t scale = encode_block<e4m3_format>(x, codes, rule);
    if (back) {
      back->resize(x.size());
      decode_block<e4m3_format>(scale, codes, *back);
    }
    return static_cast<int>(scale);
  };
  std::vector<float> back;
  EXPECT_EQ(scale_of({957, 902.4f, 1}, ScaleRule::floor, &back), 128);
  EXPECT_EQ(back[0], 896);  // clamped, as the rule has it
  EXPECT_EQ(back[1], 896);
  EXPECT_EQ(scale_of({957, 1}, ScaleRule::ceil, &back), 129);
  EXPECT_EQ(back[0], 960);
  EXPECT_EQ(scale_of({448}, ScaleRule::ceil), 127);
  EXPECT_EQ(scale_of({449}, ScaleRule::ceil), 128);
  EXPECT_EQ(scale_of({511}, ScaleRule::floor), 127);
  EXPECT_EQ(scale_of({511}, ScaleRule::even), 128);  // rounds to 512 at three bits
  EXPECT_EQ(scale_of({0, -0.0f, 0}, ScaleRule::floor, &back), 0);
  EXPECT_EQ(back[0], 0);
  EXPECT_TRUE(std::signbit(back[1]));
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    EXPECT_EQ(scale_of({1, bad, 2}, ScaleRule::floor, &back), 0xFF);
    for (const float v : back) EXPECT_TRUE(std::isnan(v));
  }
}

TEST(BlockScale, MxInt8) {
  for (int k = -127; k <= 127; ++k)
    EXPECT_EQ(static_cast<int8_t>(MxInt8Element::encode(k / 64.0, Saturate::on)), k);
  const std::vector<float> x{1.999f, -1.999f, 1, -0.5f, 0};
  std::vector<uint8_t> codes(5);
  EXPECT_EQ(encode_block<MxInt8Element>(x, codes), 127);
  EXPECT_EQ(codes, (std::vector<uint8_t>{127, 0x81, 64, 0xE0, 0}));  // -128 is never used
}

TEST(BlockScale, Nvfp4) {
  std::vector<uint8_t> codes(16);
  std::vector<float> back(16), x(16, 0.0f);
  x[0] = 2688, x[1] = -448, x[2] = 224;  // 6 * 448: scale of the tensor 1, of the block 448
  EXPECT_EQ(nvfp4_tensor_scale(2688), 1);
  EXPECT_EQ(encode_nvfp4_block(x, codes, 1), 0x7E);
  decode_nvfp4_block(0x7E, codes, back, 1);
  EXPECT_EQ(back, x);
  EXPECT_EQ(encode_nvfp4_block(std::vector<float>(16, 0.0f), codes, 1), 0);
  // Tiny beside the tensor's largest: the scale underflows and the block becomes zeros.
  EXPECT_EQ(encode_nvfp4_block(std::vector<float>(16, 0.001f), codes, 1), 0);
  decode_nvfp4_block(0, codes, back, 1);
  EXPECT_EQ(back, std::vector<float>(16, 0.0f));
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    x[7] = bad;
    const uint8_t scale = encode_nvfp4_block(x, codes, 1);
    EXPECT_EQ(scale, e4m3_format::nan_code);
    decode_nvfp4_block(scale, codes, back, 1);
    for (const float v : back) EXPECT_TRUE(std::isnan(v));
  }
}

// ---- signal-to-noise ratio of N(0, sigma), in dB ----

template <class Round>
double sqnr(double sigma, Round round) {
  std::mt19937_64 rng(17);
  std::normal_distribution<double> normal(0, sigma);
  double signal = 0, noise = 0;
  for (int i = 0; i < 1 << 20; ++i) {
    const double x = static_cast<float>(normal(rng)), e = round(x) - x;
    signal += x * x;
    noise += e * e;
  }
  return 10 * std::log10(signal / noise);
}
template <class P>
double posit_sqnr(double sigma) {
  return sqnr(sigma, [](double x) { return P::from(x).to_double(); });
}
template <class F>
double float_sqnr(double sigma) {
  return sqnr(sigma, [](double x) { return F::decode(F::encode(x, Saturate::on)); });
}
template <class F>
double block_sqnr(ScaleRule rule) {
  std::mt19937_64 rng(17);
  std::normal_distribution<float> normal(0, 1);
  double signal = 0, noise = 0;
  for (int b = 0; b < 1 << 15; ++b) {
    float x[32], y[32];
    uint8_t codes[32];
    for (float& v : x) v = normal(rng);
    decode_block<F>(encode_block<F>(x, codes, rule), codes, y);
    for (int i = 0; i < 32; ++i) {
      signal += double{x[i]} * x[i];
      noise += (double{y[i]} - x[i]) * (double{y[i]} - x[i]);
    }
  }
  return 10 * std::log10(signal / noise);
}

TEST(Sqnr, OfOneMillionNormalNumbers) {
  constexpr double dB = 0.05;
  EXPECT_NEAR((posit_sqnr<Posit<8, 0>>(1)), 40.15, dB);
  EXPECT_NEAR((posit_sqnr<Posit<8, 1>>(1)), 37.48, dB);
  EXPECT_NEAR(posit_sqnr<posit8>(1), 31.52, dB);
  EXPECT_NEAR(posit_sqnr<posit8>(0.02), 25.63, dB);
  EXPECT_NEAR(posit_sqnr<posit16>(1), 79.66, dB);
  EXPECT_NEAR((posit_sqnr<Posit<16, 1>>(1)), 85.62, dB);
  EXPECT_NEAR(posit_sqnr<posit16>(0.02), 73.76, dB);
  EXPECT_NEAR((posit_sqnr<Posit<12, 2>>(1)), 55.60, dB);
  EXPECT_NEAR(float_sqnr<e4m3_format>(1), 31.52, dB);
  EXPECT_NEAR(float_sqnr<e4m3_format>(0.02), 29.62, dB);
  EXPECT_NEAR(float_sqnr<e5m2_format>(1), 25.53, dB);
  EXPECT_NEAR(float_sqnr<fp16_format>(1), 73.65, dB);
  EXPECT_NEAR(float_sqnr<bf16_format>(1), 55.60, dB);
  EXPECT_NEAR(block_sqnr<e4m3_format>(ScaleRule::floor), 30.64, dB);
  EXPECT_NEAR(block_sqnr<e5m2_format>(ScaleRule::floor), 25.35, dB);
  EXPECT_NEAR(block_sqnr<e2m3_format>(ScaleRule::floor), 30.94, dB);
  EXPECT_NEAR(block_sqnr<e3m2_format>(ScaleRule::floor), 25.35, dB);
  EXPECT_NEAR(block_sqnr<e2m1_format>(ScaleRule::floor), 18.79, dB);
}

}  // namespace
}  // namespace wattle::quant
