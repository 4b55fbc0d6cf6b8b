// Sums of posit products: certified gives the bits of the quire, whatever the data, the order of
// the sum and the number of threads; floats do not.
#include "quant/posit_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/counters.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/simd.h"
#include "ops/ops.h"
#include "quant/posit.h"

namespace wattle {
namespace {

constexpr DType posits[] = {DType::posit8,  DType::posit8_es1,  DType::posit8_es0,
                            DType::posit16, DType::posit16_es1, DType::posit32};
enum class Family { normal, positive, patterns, cancelling };
constexpr Family families[] = {Family::normal, Family::positive, Family::patterns,
                               Family::cancelling};

std::vector<uint8_t> bytes_of(const Tensor& t) {
  const auto* p = static_cast<uint8_t*>(t.raw());
  return {p, p + t.nbytes()};
}

Tensor random_codes(const Shape& shape, DType t, uint64_t seed) {
  const Tensor x = Tensor::empty(shape, t);
  auto* p = static_cast<uint8_t*>(x.raw());
  for (int64_t i = 0; i < x.nbytes(); ++i)
    p[i] = static_cast<uint8_t>(philox(seed, static_cast<uint64_t>(i))[0]);
  // No NaR: one would hide everything else of its row.
  const std::vector<double> v = x.values<double>();
  for (size_t i = 0; i < v.size(); ++i)
    if (std::isnan(v[i]))
      std::memset(p + i * static_cast<size_t>(info(t).bytes), 0,
                  static_cast<size_t>(info(t).bytes));
  return x;
}

// a [m,k], b [k,n]. Cancelling: the second half of a row is minus the first, but for one element
// that is 0.1 % larger, and b repeats.
std::pair<Tensor, Tensor> operands(Family f, DType t, int64_t m, int64_t n, int64_t k,
                                   uint64_t seed) {
  manual_seed(seed);
  if (f == Family::patterns)
    return {random_codes({m, k}, t, seed), random_codes({k, n}, t, seed + 1)};
  if (f == Family::positive) return {cast(uniform({m, k}), t), cast(uniform({k, n}), t)};
  if (f == Family::normal) return {cast(normal({m, k}), t), cast(normal({k, n}), t)};
  std::vector<float> a = normal({m, k}).values<float>(), b = normal({k, n}).values<float>();
  const auto half = static_cast<size_t>(k / 2);
  for (size_t i = 0; i < static_cast<size_t>(m); ++i)
    for (size_t j = 0; j < half; ++j)
      a[i * static_cast<size_t>(k) + half + j] =
          -a[i * static_cast<size_t>(k) + j] * (j == 0 ? 1.001f : 1);
  for (size_t j = 0; j < half * static_cast<size_t>(n); ++j)
    b[half * static_cast<size_t>(n) + j] = b[j];
  return {cast(Tensor::from(a, {m, k}), t), cast(Tensor::from(b, {k, n}), t)};
}

Tensor product(const Tensor& a, const Tensor& b, const char* mode) {
  return matmul(a, b, MatmulAttr{.accumulate = mode});
}
int64_t differences(const Tensor& a, const Tensor& b) {
  const auto x = bytes_of(a), y = bytes_of(b);
  const auto width = static_cast<size_t>(info(a.dtype()).bytes);
  int64_t n = 0;
  for (size_t i = 0; i < x.size(); i += width) n += std::memcmp(&x[i], &y[i], width) != 0;
  return n;
}

TEST(PositGemm, CertifiedIsTheQuireOnEveryFamilyAndType) {
  for (DType t : posits)
    for (Family f : families) {
      const auto [a, b] = operands(f, t, 23, 37, 128, 3);
      counters().clear();
      const Tensor c = product(a, b, "certified");
      const CastStats sums = counters().total().rounding;
      const int64_t fallbacks = sums.to_quire;
      EXPECT_EQ(sums.proven + sums.to_quire, 23 * 37);
      EXPECT_EQ(differences(c, product(a, b, "quire")), 0)
          << name(t) << " family " << static_cast<int>(f);
      if (t == DType::posit16 && f == Family::normal) { EXPECT_LT(fallbacks, 23 * 37 / 50); }
    }
}

TEST(PositGemm, OrderAndThreadsDoNotMatter) {
  const int threads = num_threads();
  for (Family f : families) {
    const auto [a, b] = operands(f, DType::posit16, 40, 33, 96, 9);
    std::vector<int64_t> order(96);
    for (size_t i = 0; i < 96; ++i) order[i] = static_cast<int64_t>((i * 29 + 7) % 96);
    const Tensor index = Tensor::from(order, {96});
    const Tensor a2 = index_select(a, 1, index), b2 = index_select(b, 0, index);
    for (const char* mode : {"certified", "quire"}) {
      set_num_threads(1);
      const Tensor one = product(a, b, mode);
      set_num_threads(2);
      EXPECT_EQ(differences(one, product(a, b, mode)), 0) << mode;
      EXPECT_EQ(differences(one, product(a2, b2, mode)), 0) << mode;
    }
    set_num_threads(threads);
  }
}

// The planted fault: floats in place of the quire. Under cancellation most results change.
TEST(PositGemm, AFloatSumIsNotAQuire) {
  const auto [a, b] = operands(Family::cancelling, DType::posit16, 40, 40, 128, 5);
  const Tensor exact = product(a, b, "quire");
  EXPECT_GT(differences(exact, product(a, b, "f32")), 40 * 40 / 2);
  EXPECT_GT(differences(exact, product(a, b, "per_op")), 40 * 40 / 2);
}

TEST(PositGemm, SumsThatOnlyAQuireHolds) {
  const Tensor a = cast(Tensor::from<float>({4096, 1, -4096}, {1, 3}), DType::posit16);
  const Tensor b = cast(Tensor::from<float>({1, 0.5f, 1}, {3, 1}), DType::posit16);
  EXPECT_EQ(product(a, b, "quire").item(), 0.5);
  EXPECT_EQ(product(a, b, "certified").item(), 0.5);
  EXPECT_EQ(product(a, b, "per_op").item(), 0);
  const Tensor ones = Tensor::ones({1, 1 << 20}, DType::posit16);
  EXPECT_EQ(product(ones, transpose(ones, 0, 1), "quire").item(), 0x1p20);
  EXPECT_EQ(product(ones, transpose(ones, 0, 1), "certified").item(), 0x1p20);
  EXPECT_LT(product(ones, transpose(ones, 0, 1), "per_op").item(), 0x1p17);  // stuck long before
}

TEST(PositGemm, PerOpIsTheLoopOfRoundedSteps) {
  const auto [a, b] = operands(Family::normal, DType::posit16, 3, 4, 50, 2);
  const Tensor y = product(a, b, "per_op");
  const auto code = [](const Tensor& t, int64_t i) {
    return quant::posit16::of(static_cast<uint16_t*>(t.raw())[i]);
  };
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 4; ++j) {
      quant::posit16 s = quant::posit16::of(0);
      for (int64_t k = 0; k < 50; ++k) s = s + code(a, i * 50 + k) * code(b, k * 4 + j);
      EXPECT_EQ(code(y, i * 4 + j).bits, s.bits);
    }
}

TEST(PositGemm, NaRReachesWhatItTouches) {
  Tensor a = Tensor::ones({2, 3}, DType::posit16);
  static_cast<uint16_t*>(a.raw())[1] = 0x8000;
  const Tensor b = Tensor::ones({3, 2}, DType::posit16);
  for (const char* mode : {"f32", "certified", "quire", "per_op"}) {
    const Tensor y = product(a, b, mode);
    const auto* p = static_cast<uint16_t*>(y.raw());
    EXPECT_EQ(p[0], 0x8000) << mode;
    EXPECT_EQ(p[1], 0x8000) << mode;
    EXPECT_EQ(y.values<double>()[2], 3) << mode;
  }
}

TEST(PositGemm, TransposesBatchesAndBiases) {
  manual_seed(4);
  const Tensor a = cast(normal({3, 5, 7}), DType::posit16);
  const Tensor b = cast(normal({9, 7}), DType::posit16), bias = cast(normal({9}), DType::posit16);
  for (const char* mode : {"certified", "quire"}) {
    const Tensor by_matmul = matmul(a, b, MatmulAttr{false, true, mode});
    const Tensor by_linear = linear(a, b, {}, LinearAttr{mode});
    EXPECT_EQ(differences(by_matmul, by_linear), 0) << mode;
    // A bias is one more product with 1 in the sum, not a second rounding.
    const Tensor one = Tensor::ones({3, 5, 1}, DType::posit16);
    const Tensor longer =
        linear(concat({a, one}, 2), concat({b, reshape(bias, {9, 1})}, 1), {}, LinearAttr{mode});
    EXPECT_EQ(differences(linear(a, b, bias, LinearAttr{mode}), longer), 0) << mode;
  }
}

TEST(PositGemm, Conv2dIsItsPatchesTimesTheWeights) {
  manual_seed(8);
  const Tensor x = cast(normal({2, 4, 7, 6}), DType::posit16);
  const Tensor w = cast(normal({6, 2, 3, 2}), DType::posit16);
  const Tensor bias = cast(normal({6}), DType::posit16);
  Conv2dAttr attr;
  attr.stride = Pair(2, 1), attr.padding = Pair(1, 1), attr.groups = 2;
  std::vector<Tensor> y;
  for (const char* mode : {"quire", "certified", "f32", "per_op"}) {
    attr.accumulate = mode;
    y.push_back(conv2d(x, w, bias, attr));
  }
  EXPECT_EQ(differences(y[0], y[1]), 0);
  EXPECT_LT(differences(y[0], y[2]), y[0].numel() / 20);  // the same numbers, rounded otherwise
  const Tensor exact = conv2d(cast(x, DType::f64), cast(w, DType::f64), cast(bias, DType::f64),
                              attr.stride, attr.padding, 1, 2);
  EXPECT_LE(differences(y[0], cast(exact, DType::posit16)), 1);  // f64 rounds, too
  const std::vector<double> steps = y[3].values<double>(), e = exact.values<double>();
  for (size_t i = 0; i < e.size(); ++i) EXPECT_NEAR(steps[i], e[i], 0.05);
}

TEST(PositGemm, WrongModesSayWhatIsWrong) {
  const Tensor a = Tensor::ones({2, 2}), p = cast(a, DType::posit16);
  EXPECT_THROW(product(a, a, "quire"), dtype_error);
  EXPECT_THROW(product(p, cast(a, DType::posit8), "quire"), dtype_error);
  EXPECT_THROW(product(p, p, "kulisch"), value_error);
}

// A quire has room for fewer than 2^31 products; nothing is read before that is known.
TEST(PositGemm, SumsTooLongForTheQuireAreRefused) {
  quant::PositGemm j{};
  j.m = j.n = 1, j.k = int64_t{1} << 31;
  for (const char* mode : {"quire", "certified"}) {
    try {
      quant::posit_gemm(j, mode, DType::posit16);
      ADD_FAILURE() << mode;
    } catch (const value_error& e) {
      EXPECT_NE(std::string(e.what()).find("2147483648 products found"), std::string::npos)
          << e.what();
    }
  }
}

// Every code but NaR times an identity: what any kernel keeps of a number is all of it. Units that
// keep 8 or 11 bits (bf16, TF32) lose some of the 12 of posit16; the planted one shows how many.
TEST(PositGemm, EveryCodeComesBackFromEveryProduct) {
  for (const DType t : {DType::posit8, DType::posit16}) {
    const int64_t n = info(t).bytes == 1 ? 16 : 256, nar = info(t).bytes == 1 ? 0x80 : 0x8000;
    const Tensor codes = Tensor::empty({n, n}, t), eye = Tensor::zeros({n, n});
    for (int64_t i = 0; i < n * n; ++i) {
      const int64_t code = i == nar ? 0 : i;
      std::memcpy(static_cast<char*>(codes.raw()) + i * info(t).bytes, &code,
                  static_cast<size_t>(info(t).bytes));
    }
    for (int64_t i = 0; i < n; ++i) eye.data<float>()[i * n + i] = 1;
    const Tensor one = cast(eye, t);
    const simd::Level best = simd::level();
    for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512}) {
      if (l > best) continue;
      simd::set_level(l);
      for (const char* mode : {"f32", "certified", "quire", "per_op"}) {
        const Tensor y = matmul(codes, one, MatmulAttr{.accumulate = mode});
        EXPECT_EQ(bytes_of(y), bytes_of(codes))
            << name(t) << " " << simd::level_name(l) << " " << mode;
        const Tensor z = linear(codes, one, {}, LinearAttr{.accumulate = mode});
        EXPECT_EQ(bytes_of(z), bytes_of(codes))
            << name(t) << " " << simd::level_name(l) << " " << mode;
      }
    }
    simd::set_level(best);
    const Tensor short_of_bits = cast(cast(cast(codes, DType::f32), DType::bf16), t);
    EXPECT_EQ(bytes_of(short_of_bits) == bytes_of(codes), t == DType::posit8);
  }
}

}  // namespace
}  // namespace wattle
