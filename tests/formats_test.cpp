// The list of number formats.
#include "quant/formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/error.h"
#include "core/rng.h"

namespace wattle::quant {
namespace {

TEST(Formats, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const Format& f : formats()) {
    EXPECT_TRUE(names.insert(f.name).second) << f.name;
    EXPECT_EQ(&format_from_name(f.name), &f);
    EXPECT_GT(f.max, f.min_positive) << f.name;
  }
  EXPECT_THROW(format_from_name("posit9"), value_error);
}

TEST(Formats, RoundingKeepsWhatIsRepresentable) {
  for (const Format& f : formats()) {
    std::vector<float> x, once(64), twice(64);
    for (int i = 0; i < 64; ++i) x.push_back(std::sin(0.7f * static_cast<float>(i)) * 3);
    f.round(x, once);
    f.round(once, twice);
    if (!f.tensor_scale) { EXPECT_EQ(once, twice) << f.name; }
    // The scale is computed again, in f32 steps.
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(once[i], twice[i], 3e-6) << f.name;
  }
}

TEST(Formats, PrecisionByMagnitude) {
  struct Case {
    const char* name;
    int exponent, bits;
  };
  // posit16: 11 bits in [2^-4, 2^4), 10 to 2^8, 9 to 2^12, 8 to 2^16, 7 to 2^20, mirrored
  for (const Case& c : {Case{"posit16", 0, 11}, Case{"posit16", 3, 11}, Case{"posit16", 4, 10},
                        Case{"posit16", 8, 9}, Case{"posit16", 12, 8}, Case{"posit16", 16, 7},
                        Case{"posit16", -4, 11}, Case{"posit16", -5, 10}, Case{"posit16", -20, 7},
                        Case{"posit8", 0, 3}, Case{"posit8", 4, 2}, Case{"posit8", 8, 1},
                        Case{"posit8_es1", 0, 4}, Case{"posit8_es0", 0, 5}, Case{"fp8_e4m3", -6, 3},
                        Case{"fp8_e4m3", -7, 2}, Case{"fp8_e4m3", 9, -1}, Case{"bf16", 100, 7}})
    EXPECT_EQ(fraction_bits(format_from_name(c.name), c.exponent), c.bits)
        << c.name << " at 2^" << c.exponent;
  for (const Format& f : formats())
    if (f.significand <= 24) { EXPECT_EQ(fraction_bits(f, 0), f.significand - 1) << f.name; }
}

TEST(Formats, SignalToNoise) {
  const auto db = [](const char* name, double sigma) {
    return sqnr_db(format_from_name(name), sigma, 1 << 20);
  };
  EXPECT_NEAR(db("posit8", 0.001), 19.6, 0.1);
  EXPECT_NEAR(db("posit16", 1.0 / 16), 77.94, 0.05);
  EXPECT_NEAR(db("fp8_e4m3", 0.001), 5.01, 0.05);
  EXPECT_NEAR(db("mxfp4", 1), 18.79, 0.05);
  EXPECT_NEAR(db("mxint8", 1), 41.68, 0.05);
  EXPECT_NEAR(db("nvfp4", 1), 20.43, 0.05);
  EXPECT_NEAR(db("int8_b32", 1), 45.43, 0.05);
  EXPECT_NEAR(db("int4_b32", 1), 20.25, 0.05);
  // One scale for all: the noise is that of a step of amax / 127, and amax depends on the sample.
  double amax = 0;
  for (uint64_t i = 0; i < 1 << 19; ++i)
    for (const float v : normal_pair_at(1, i)) amax = std::max(amax, std::fabs(double{v}));
  EXPECT_NEAR(db("int8", 1), 10 * std::log10(12 * 127.0 * 127.0 / (amax * amax)), 0.05);
  EXPECT_TRUE(std::isinf(db("f32", 1)));
}

TEST(Formats, OneScaleForTheTensorNeedsTheTensor) {
  // The planted fault is a scale taken from a part: its error is smaller than int8's really is.
  const Format& f = format_from_name("int8");
  std::vector<float> x(64, 0.01f), whole(64), part(64);
  x[63] = 100;
  f.round(x, whole);
  f.round(std::span(x).first(32), std::span(part).first(32));
  EXPECT_EQ(whole[0], 0.0f);
  EXPECT_NEAR(part[0], 0.01f, 1e-8);
}

}  // namespace
}  // namespace wattle::quant
