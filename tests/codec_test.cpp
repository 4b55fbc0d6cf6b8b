// Storage of coded dtypes: every code of every format there and back, numbers against the scalar
// references at every SIMD level, bytes, blocks, stochastic rounding, cast statistics.
#include "core/codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/counters.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "ops/ops.h"
#include "quant/block_scale.h"
#include "quant/elements.h"

namespace wattle {
namespace {

using quant::Saturate;

// One code a number, with its scalar reference.
struct Single {
  DType dtype;
  int bits;
  double (*decode)(uint32_t);
  uint32_t (*encode)(double, Saturate);
};
template <class E>
Single single(DType t) {
  return {t, E::bits, E::decode, E::encode};
}
template <class F>
Single single_float(DType t) {
  return single<quant::FloatElement<F>>(t);
}
const std::vector<Single>& singles() {
  static const std::vector<Single> all{single_float<quant::bf16_format>(DType::bf16),
                                       single_float<quant::fp16_format>(DType::fp16),
                                       single_float<quant::e4m3_format>(DType::fp8_e4m3),
                                       single_float<quant::e5m2_format>(DType::fp8_e5m2),
                                       single<quant::PositElement<8, 2>>(DType::posit8),
                                       single<quant::PositElement<8, 1>>(DType::posit8_es1),
                                       single<quant::PositElement<8, 0>>(DType::posit8_es0),
                                       single<quant::PositElement<16, 2>>(DType::posit16),
                                       single<quant::PositElement<16, 1>>(DType::posit16_es1),
                                       single<quant::PositElement<32, 2>>(DType::posit32),
                                       single<quant::ScaleElement>(DType::e8m0)};
  return all;
}

std::vector<simd::Level> levels() {
  std::vector<simd::Level> l;
  for (simd::Level x : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512})
    if (simd::machine_has(x)) l.push_back(x);
  return l;
}
struct AtLevel {
  explicit AtLevel(simd::Level l) : before(simd::set_level(l)) {}
  ~AtLevel() { simd::set_level(before); }
  simd::Level before;
};

uint32_t code_at(const Tensor& t, int64_t i) {
  switch (info(t.dtype()).bytes) {
    case 1: return static_cast<uint8_t*>(t.raw())[i];
    case 2: return static_cast<uint16_t*>(t.raw())[i];
    default: return static_cast<uint32_t*>(t.raw())[i];
  }
}
void set_code(const Tensor& t, int64_t i, uint32_t code) {
  switch (info(t.dtype()).bytes) {
    case 1: static_cast<uint8_t*>(t.raw())[i] = static_cast<uint8_t>(code); break;
    case 2: static_cast<uint16_t*>(t.raw())[i] = static_cast<uint16_t>(code); break;
    default: static_cast<uint32_t*>(t.raw())[i] = code;
  }
}

bool same(double a, double b) {
  return a == b ? std::signbit(a) == std::signbit(b) : std::isnan(a) && std::isnan(b);
}

// Random bit patterns, numbers near 1, and what lies at the edges.
std::vector<float> numbers(int64_t n) {
  std::vector<float> x;
  for (int64_t i = 0; i < n; ++i) {
    const auto r = philox(7, static_cast<uint64_t>(i));
    x.push_back(std::bit_cast<float>(r[0]));
    x.push_back(normal_pair_at(3, static_cast<uint64_t>(i))[0]);
    // few significant bits: ties are frequent
    x.push_back(std::ldexp(static_cast<float>(static_cast<int32_t>(r[1] % 1024) - 512),
                           static_cast<int>(r[2] % 80) - 45));
  }
  for (float e : {0.0f, -0.0f, 1e-45f, 1e38f, INFINITY, NAN, 464.0f, 465.0f, 61440.0f, 0x1p-57f})
    for (float s : {1.0f, -1.0f}) x.push_back(e * s);
  return x;
}

TEST(Codec, EveryCodeThereAndBackAtEveryLevel) {
  for (const Single& f : singles()) {
    const int64_t n = int64_t{1} << std::min(f.bits, 16);
    const Tensor t = Tensor::empty({n}, f.dtype);
    for (int64_t i = 0; i < n; ++i)  // of 32 bits, a sample
      set_code(t, i, f.bits > 16 ? static_cast<uint32_t>(i) * 0x10001u : static_cast<uint32_t>(i));
    for (simd::Level l : levels()) {
      const AtLevel at(l);
      const std::vector<double> x = t.values<double>();
      std::vector<float> narrow(static_cast<size_t>(n));
      decode(t, narrow.data());
      const Tensor back = Tensor::empty({n}, f.dtype), back32 = Tensor::empty({n}, f.dtype);
      EncodeOptions o;
      o.saturate = !codec(f.dtype).may_overflow;  // infinities stay what they are
      const CastStats s = encode(x.data(), back, o);
      encode(narrow.data(), back32, o);
      EXPECT_EQ(s.inexact, 0) << name(f.dtype);
      for (int64_t i = 0; i < n; ++i) {
        const uint32_t code = code_at(t, i);
        ASSERT_TRUE(same(x[static_cast<size_t>(i)], f.decode(code)))
            << name(f.dtype) << " " << code;
        if (!codec(f.dtype).wide) {
          ASSERT_TRUE(same(narrow[static_cast<size_t>(i)], f.decode(code))) << name(f.dtype);
          ASSERT_EQ(code_at(back32, i), code_at(back, i)) << name(f.dtype) << " " << code;
        }
        if (!std::isnan(f.decode(code))) { ASSERT_EQ(code_at(back, i), code) << name(f.dtype); }
      }
    }
  }
}

TEST(Codec, NumbersAsTheReferenceRoundsThemAtEveryLevel) {
  const std::vector<float> x = numbers(20000);
  const auto n = static_cast<int64_t>(x.size());
  for (const Single& f : singles())
    for (bool saturate : {true, false}) {
      if (!saturate && !codec(f.dtype).may_overflow) continue;
      EncodeOptions o;
      o.saturate = saturate;
      CastStats want{.n = n};
      std::vector<uint32_t> codes;
      for (float v : x) {
        codes.push_back(f.encode(double{v}, saturate ? Saturate::on : Saturate::off));
        const double y = f.decode(codes.back());
        if (std::isnan(y)) ++want.nar;
        else if (y != double{v}) {
          ++want.inexact;
          want.to_zero += y == 0;
        }
      }
      for (simd::Level l : levels()) {
        const AtLevel at(l);
        const Tensor t = Tensor::empty({n}, f.dtype);
        const CastStats got = encode(x.data(), t, o);
        for (int64_t i = 0; i < n; ++i)
          ASSERT_EQ(code_at(t, i), codes[static_cast<size_t>(i)])
              << name(f.dtype) << " of " << x[static_cast<size_t>(i)] << " at "
              << simd::level_name(l) << (saturate ? "" : ", not saturating");
        EXPECT_EQ(got.n, want.n);
        EXPECT_EQ(got.inexact, want.inexact) << name(f.dtype) << simd::level_name(l);
        EXPECT_EQ(got.to_zero, want.to_zero) << name(f.dtype);
        EXPECT_EQ(got.nar, want.nar) << name(f.dtype);
        const std::vector<double> wide(x.begin(), x.end());
        const Tensor t64 = Tensor::empty({n}, f.dtype);
        EXPECT_EQ(encode(wide.data(), t64, o), got) << name(f.dtype);
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(code_at(t64, i), code_at(t, i));
      }
    }
}

TEST(Codec, Posit32FromDoublesAsTheReference) {
  std::vector<double> x;
  for (uint64_t i = 0; i < 60000; ++i) {
    const auto r = philox(11, i);
    x.push_back(std::bit_cast<double>(uint64_t{r[0]} << 32 | r[1]));
    x.push_back(
        std::ldexp(1 + r[2] * 0x1p-32 + (r[3] & 3) * 0x1p-52, static_cast<int>(r[0] % 300) - 150));
  }
  const auto n = static_cast<int64_t>(x.size());
  for (simd::Level l : levels()) {
    const AtLevel at(l);
    const Tensor t = Tensor::empty({n}, DType::posit32);
    encode(x.data(), t);
    for (int64_t i = 0; i < n; ++i)
      ASSERT_EQ(code_at(t, i), quant::posit32::from(x[static_cast<size_t>(i)]).bits)
          << x[static_cast<size_t>(i)] << simd::level_name(l);
  }
}

// Bytes of rows of 33 and of 31 numbers, from the formats' own documents.
TEST(Codec, StorageIsWhatTheFormatPromises) {
  const struct {
    DType t;
    int64_t of33, of31;
  } promised[] = {
      {DType::bf16, 66, 62},       {DType::posit8, 33, 31},     {DType::posit32, 132, 124},
      {DType::fp6_e3m2, 27, 24},   {DType::fp6_e2m3, 27, 24},   {DType::fp4_e2m1, 17, 16},
      {DType::int4, 17, 16},       {DType::i8, 33, 31},         {DType::e8m0, 33, 31},
      {DType::mxfp8_e4m3, 66, 33}, {DType::mxfp8_e5m2, 66, 33}, {DType::mxfp6_e3m2, 50, 25},
      {DType::mxfp6_e2m3, 50, 25}, {DType::mxfp4, 34, 17},      {DType::mxint8, 66, 33},
      {DType::nvfp4, 27, 18}};
  for (const auto& p : promised) {
    const Tensor a = Tensor::zeros({5, 33}, p.t), b = Tensor::zeros({2, 3, 31}, p.t);
    EXPECT_EQ(a.nbytes(), 5 * p.of33) << name(p.t);
    EXPECT_EQ(b.nbytes(), 6 * p.of31) << name(p.t);
    EXPECT_EQ(a.storage().nbytes, a.nbytes());  // that much is allocated, and no float behind it
    EXPECT_TRUE(a.is_contiguous());
  }
  // 8-bit elements under a scale a block: 17 bytes per 32 of MXFP4, 25 of MXFP6, 9 per 16 of NVFP4.
  EXPECT_EQ(Tensor::empty({64, 256}, DType::mxfp4).nbytes(), 64 * 256 / 32 * 17);
  EXPECT_EQ(Tensor::empty({64, 256}, DType::nvfp4).nbytes(), 64 * 256 / 16 * 9);
}

int64_t resident_bytes() {
  std::ifstream f("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  f >> pages >> resident;
  return resident * 4096;
}

// No float stands behind the codes: 64 million numbers of MXFP4 take 34 MiB of memory, not 256.
TEST(Codec, MemoryIsWhatTheBytesSay) {
  const int64_t before = resident_bytes();
  if (before == 0) GTEST_SKIP() << "no /proc";
  const Tensor t = Tensor::zeros({2048, 32768}, DType::mxfp4);
  EXPECT_EQ(t.nbytes(), 2048 * 32768 / 32 * 17);
  EXPECT_LT(resident_bytes() - before, 40 << 20);
}

TEST(Codec, CountersCountTheBytesOfTheCodes) {
  for (DType t : {DType::mxfp4, DType::posit8, DType::fp6_e2m3, DType::int4}) {
    Counters& c = counters();
    c.clear();
    const Tensor x = Tensor::full({5, 33}, 0.5);
    const Tensor y = cast(x, t), z = cast(y, DType::f32);
    EXPECT_EQ(c.total().cost.written, y.nbytes() + z.nbytes()) << name(t);
    EXPECT_EQ(c.total().cost.read, x.nbytes() + y.nbytes()) << name(t);
  }
}

TEST(Codec, PackedRowsThereAndBack) {
  for (DType t : all_dtypes()) {
    if (!is_coded(t) || info(t).block == 1) continue;
    for (int64_t columns : {1, 3, 16, 31, 32, 33, 600}) {
      Tensor x = uniform({3, columns}, -3, 3);
      const Tensor once = cast(cast(x, t), DType::f32);
      const Tensor codes = cast(once, t);
      // What the format can hold, it holds: a second time nothing changes.
      EXPECT_EQ(cast(codes, DType::f32).values<float>(), once.values<float>())
          << name(t) << " " << columns;
      EXPECT_EQ(codes.values<double>().size(), static_cast<size_t>(3 * columns));
    }
  }
}

TEST(Codec, BlocksNeverCrossRows) {
  // Row 0 is huge, row 1 small: a scale shared across rows would wipe row 1 out.
  std::vector<float> v(66, 1000.0f);
  for (size_t i = 33; i < 66; ++i) v[i] = 0.001f * static_cast<float>(i);
  const Tensor x = Tensor::from(v, {2, 33});
  for (DType t : {DType::mxfp4, DType::mxfp8_e4m3, DType::mxint8, DType::mxfp6_e2m3}) {
    const std::vector<float> y = cast(cast(x, t), DType::f32).values<float>();
    for (size_t i = 33; i < 66; ++i) EXPECT_NEAR(y[i], v[i], v[i] * 0.3) << name(t);
    const Tensor codes = cast(x, t);
    const std::vector<float> row1 = cast(slice(codes, 0, 1, 2), DType::f32).values<float>();
    EXPECT_EQ(row1, std::vector<float>(y.begin() + 33, y.end())) << name(t);
    EXPECT_THROW(slice(codes, 1, 0, 8), dtype_error);
    EXPECT_THROW(transpose(codes, 0, 1), dtype_error);
    EXPECT_EQ(reshape(codes, {1, 2, 33}).values<float>(), y);
    EXPECT_THROW(reshape(codes, {66}), dtype_error);
  }
}

TEST(Codec, BlocksOfNothingAndOfNonsense) {
  std::vector<float> v(64, 0.0f);
  v[40] = NAN;
  const Tensor x = Tensor::from(v, {2, 32});
  for (DType t : {DType::mxfp4, DType::mxfp8_e5m2, DType::mxint8, DType::nvfp4}) {
    counters().clear();
    const std::vector<float> y = cast(cast(x, t), DType::f32).values<float>();
    const size_t block = t == DType::nvfp4 ? 16 : 32;
    for (size_t i = 0; i < 64; ++i)
      EXPECT_EQ(std::isnan(y[i]), i / block == 40 / block) << name(t) << " " << i;
    EXPECT_EQ(counters().total().rounding.nar, static_cast<int64_t>(block)) << name(t);
  }
}

// The codec against the definition of a block in quant/block_scale.h, which it does not use.
template <class Format>
void expect_blocks_as_defined(DType t) {
  const std::vector<float> x = numbers(4000);
  for (const char* rule : {"floor", "ceil", "even"})
    for (size_t at = 0; at + 32 <= x.size(); at += 32) {
      std::vector<float> block(x.begin() + static_cast<long>(at),
                               x.begin() + static_cast<long>(at) + 32);
      std::vector<uint8_t> codes(32);
      const ScaleRule r = rule[0] == 'f'   ? ScaleRule::floor
                          : rule[0] == 'c' ? ScaleRule::ceil
                                           : ScaleRule::even;
      std::vector<float> want(32);
      quant::decode_block<Format>(quant::encode_block<Format>(block, codes, r), codes, want);
      const Tensor y = cast(Tensor::from(block, {32}), CastAttr{.to = t, .scale_rule = rule});
      const std::vector<float> got = y.values<float>();
      for (size_t i = 0; i < 32; ++i) ASSERT_TRUE(same(got[i], want[i])) << name(t) << rule << at;
    }
}
TEST(Codec, BlocksAsTheirDefinition) {
  expect_blocks_as_defined<quant::e4m3_format>(DType::mxfp8_e4m3);
  expect_blocks_as_defined<quant::e2m3_format>(DType::mxfp6_e2m3);
  expect_blocks_as_defined<quant::e2m1_format>(DType::mxfp4);
  expect_blocks_as_defined<quant::MxInt8Element>(DType::mxint8);
}

TEST(Codec, ScaleRulesByName) {
  // amax 957: floor gives 2^1 (byte 128) and clamps to 896; ceil gives 2^2 and holds 957 itself.
  const Tensor x = Tensor::from<float>({957, 902.4f, 1}, {3});
  const auto with = [&](const char* rule) {
    const Tensor y = cast(x, CastAttr{.to = DType::mxfp8_e4m3, .scale_rule = rule});
    return std::pair(static_cast<uint8_t*>(y.raw())[0], y.values<float>());
  };
  EXPECT_EQ(with("floor").first, 128);
  EXPECT_EQ(with("floor").second[0], 896);
  EXPECT_EQ(with("floor").second[1], 896);
  EXPECT_EQ(with("ceil").first, 129);
  EXPECT_EQ(with("ceil").second[0], 960);
  EXPECT_EQ(with("even").first, 128);
  const Tensor below = Tensor::from<float>({1023.9f}, {1});  // rounds up to 2^10
  EXPECT_EQ(static_cast<uint8_t*>(
                cast(below, CastAttr{.to = DType::mxfp8_e4m3, .scale_rule = "even"}).raw())[0],
            129);
}

TEST(Codec, StochasticRoundingIsUnbiasedAndTheSameForAnyThreads) {
  const struct {
    DType t;
    float x;
  } cases[] = {{DType::posit8, 3.0f * 0x1p20f},  // between 0x7E = 2^20 and 0x7F = 2^24
               {DType::posit8, 1.03f},
               {DType::posit16, 0.1f},
               {DType::posit16, 0x1.8p-57f},
               {DType::fp8_e4m3, -17.3f},
               {DType::fp8_e5m2, 0x1.1p-17f},
               {DType::bf16, 3.14159f},
               {DType::int4, 2.7f},
               {DType::fp4_e2m1, 2.25f}};
  constexpr int64_t n = 1 << 20;
  for (const auto& c : cases) {
    const Tensor x = Tensor::full({n}, c.x);
    const CastAttr attr{.to = c.t, .rounding = "stochastic", .seed = 5};
    const std::vector<double> y = cast(x, attr).values<double>();
    double sum = 0, low = y[0], high = y[0];
    for (double v : y) {
      sum += v;
      low = std::min(low, v);
      high = std::max(high, v);
    }
    const double p = (double{c.x} - low) / (high - low);
    const double sigma = (high - low) * std::sqrt(p * (1 - p) / n);
    EXPECT_LT(low, c.x) << name(c.t);
    EXPECT_GT(high, c.x) << name(c.t);
    EXPECT_NEAR(sum / n, c.x, 4 * sigma) << name(c.t);
    const int threads = num_threads();
    set_num_threads(threads == 1 ? 3 : 1);
    EXPECT_EQ(cast(x, attr).values<double>(), y) << name(c.t);
    set_num_threads(threads);
  }
}

TEST(Codec, WhatRoundingDidIsCounted) {
  const Tensor x = Tensor::from<float>({1e30f, -1e30f, 1e-30f, 1, 1.01f, NAN}, {6});
  counters().clear();
  cast(x, DType::posit8);
  const CastStats s = counters().total().rounding;
  EXPECT_EQ(s, (CastStats{6, 4, 2, 1, 0, 1}));
  counters().clear();
  cast(x, DType::fp8_e4m3);
  EXPECT_EQ(counters().total().rounding, (CastStats{6, 4, 2, 0, 1, 1}));
}

TEST(Codec, BadCastsSayWhatIsWrong) {
  const Tensor x = Tensor::from<float>({1, NAN}, {2});
  const auto message = [&](const CastAttr& a) -> std::string {
    try {
      cast(x, a);
    } catch (const error& e) { return e.what(); }
    return "";
  };
  EXPECT_EQ(message({.to = DType::posit16, .saturate = false}),
            "cast: attribute saturate: found 'false', expected true: posit16 has nothing beyond "
            "its largest number");
  EXPECT_EQ(message({.to = DType::posit16, .rounding = "up"}),
            "cast: attribute rounding: found 'up', expected nearest or stochastic");
  EXPECT_NE(message({.to = DType::fp4_e2m1}).find("NaN"), std::string::npos);
  EXPECT_NE(message({.to = DType::posit8, .scale_rule = "ceil"}).find("MX"), std::string::npos);
  EXPECT_THROW(dtype_from_name("posit17"), dtype_error);
}

}  // namespace
}  // namespace wattle
