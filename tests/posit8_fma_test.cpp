// All 2^24 fused multiply-adds of posit8 against whole numbers: every posit8 is a multiple of 2^-24
// below 2^25, so a b + c is a whole number of 2^-48 that fits into 128 bits. The oracle shares no
// code with quant/posit.h: it reads words bit by bit and rounds by a search through the thresholds.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "core/simd.h"
#include "ops/ops.h"
#include "quant/posit.h"

namespace wattle::quant {
namespace {

__extension__ typedef __int128 int128;

// Value of a positive posit<n, 2>, n <= 9, in units of 2^-28, by the text of the standard.
int64_t value_of(unsigned word, int n) {
  int at = n - 2, run = 0;
  const auto bit = [&](int i) { return i >= 0 ? word >> i & 1u : 0u; };
  const unsigned first = bit(at);
  while (at >= 0 && bit(at) == first) ++run, --at;
  --at;  // the bit that ended the run
  int exponent = 4 * (first ? run - 1 : -run);
  exponent += static_cast<int>(2 * bit(at) + bit(at - 1));
  at -= 2;
  int64_t v = int64_t{1} << (exponent + 28);
  for (int half = exponent + 27; at >= 0; --at, --half)
    if (bit(at)) v += int64_t{1} << half;
  return v;
}

struct Oracle {
  std::array<int128, 256> value{};     // of every word, in units of 2^-24
  std::array<int128, 127> boundary{};  // between words i and i + 1, in units of 2^-48
  Oracle() {
    for (unsigned w = 1; w < 128; ++w) {
      value[w] = value_of(w, 8) >> 4;
      value[256 - w] = -value[w];
      if (w < 127) boundary[w] = int128{value_of(2 * w + 1, 9)} << 20;
    }
  }
  // Standard 4.1: never to 0 nor to NaR; the posit of one bit more between two words decides.
  unsigned rounded(int128 x) const {
    if (x == 0) return 0;
    const int128 m = x < 0 ? -x : x;
    unsigned w = 1;
    for (unsigned step = 64; step > 0; step /= 2)
      if (w + step <= 127 && m > boundary[w + step - 1]) w += step;
    if (w < 127 && m == boundary[w] && w % 2 == 1) ++w;  // a tie goes to the even word
    return x < 0 ? 256 - w : w;
  }
  unsigned fma(unsigned a, unsigned b, unsigned c) const {
    if (a == 128 || b == 128 || c == 128) return 128;
    return rounded(value[a] * value[b] + value[c] * (int128{1} << 24));
  }
};

// Number of triples in which `fused` differs from the oracle.
template <class Fused>
int64_t differences(const Fused& fused) {
  const Oracle oracle;
  int64_t wrong = 0;
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b)
      for (unsigned c = 0; c < 256; ++c)
        wrong += fused(posit8::of(a), posit8::of(b), posit8::of(c)).bits != oracle.fma(a, b, c);
  return wrong;
}

TEST(Posit8, EveryFusedMultiplyAdd) {
  EXPECT_EQ(differences([](posit8 a, posit8 b, posit8 c) { return fma(a, b, c); }), 0);
}

TEST(Posit8, RoundingTwiceIsFound) {
  EXPECT_GT(differences([](posit8 a, posit8 b, posit8 c) { return a * b + c; }), 100000);
}

// The op's vector kernels, on every instruction set of this machine.
TEST(Posit8, EveryFusedMultiplyAddInVectors) {
  const Oracle oracle;
  constexpr int64_t n = 1 << 16;
  const Tensor a = Tensor::zeros({n}, DType::posit8), b = Tensor::zeros({n}, DType::posit8),
               c = Tensor::zeros({n}, DType::posit8);
  for (int64_t i = 0; i < n; ++i) {
    static_cast<uint8_t*>(b.raw())[i] = static_cast<uint8_t>(i >> 8);
    static_cast<uint8_t*>(c.raw())[i] = static_cast<uint8_t>(i);
  }
  const simd::Level before = simd::level();
  int64_t wrong = 0;
  for (unsigned word = 0; word < 256; ++word) {
    std::fill_n(static_cast<uint8_t*>(a.raw()), n, static_cast<uint8_t>(word));
    for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512}) {
      if (!simd::machine_has(l)) continue;
      simd::set_level(l);
      const Tensor y = wattle::fma(a, b, c);
      for (unsigned i = 0; i < n; ++i)
        wrong += static_cast<const uint8_t*>(y.raw())[i] != oracle.fma(word, i >> 8, i & 255);
    }
  }
  simd::set_level(before);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace wattle::quant
