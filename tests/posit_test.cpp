// Posits against published vectors and checksums, and against an oracle that rounds by searching a
// table of thresholds, which shares no line with the arithmetic.
#include "quant/posit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "quant/quire.h"

namespace wattle::quant {
namespace {

using p8e0 = Posit<8, 0>;
using p16e1 = Posit<16, 1>;

uint64_t fnv(uint64_t h, uint8_t byte) { return (h ^ byte) * 0x100000001b3; }
constexpr uint64_t fnv_basis = 0xcbf29ce484222325;

// ---- vectors ----

TEST(Posit, Vectors) {
  struct Case {
    double x;
    uint32_t p8, p8_0, p16, p16_1;
  };
  const Case cases[] = {
      {1, 0x40, 0x40, 0x4000, 0x4000},    {-1, 0xc0, 0xc0, 0xc000, 0xc000},
      {0.5, 0x38, 0x20, 0x3800, 0x3000},  {2, 0x48, 0x60, 0x4800, 0x5000},
      {5, 0x52, 0x72, 0x5200, 0x6200},    {3.14159265358979, 0x4d, 0x69, 0x4c91, 0x5922},
      {0.1, 0x25, 0x06, 0x24cd, 0x14cd},  {0.001, 0x0c, 0x01, 0x0c0c, 0x0206},
      {100, 0x6a, 0x7f, 0x6a40, 0x7920},  {1e-20, 0x01, 0x01, 0x0001, 0x0001},
      {1e30, 0x7f, 0x7f, 0x7fff, 0x7fff}, {4096.5, 0x78, 0x7f, 0x7800, 0x7f00}};
  for (const Case& c : cases) {
    EXPECT_EQ(posit8::from(c.x).bits, c.p8) << c.x;
    EXPECT_EQ(p8e0::from(c.x).bits, c.p8_0) << c.x;
    EXPECT_EQ(posit16::from(c.x).bits, c.p16) << c.x;
    EXPECT_EQ(p16e1::from(c.x).bits, c.p16_1) << c.x;
  }
  EXPECT_EQ(posit8::of(0x6C).to_double(), 128);
  EXPECT_EQ(posit16::of(posit16::from(4096).bits + 1u).to_double(), 4112);
}

TEST(Posit, ThresholdsAreThoseOfTheWordNotOfTheValue) {
  EXPECT_EQ(posit8::from(0x1p22).bits, 0x7E);  // a tie, to the even word
  EXPECT_EQ(posit8::from(0x1p22 + 1).bits, 0x7F);
  EXPECT_EQ(posit8::from(0x1p23).bits, 0x7F);  // although 2^20 is nearer
}

TEST(Posit, NeverRoundsToZeroOrNaR) {
  for (const double tiny : {1e-300, 5e-324, 0x1p-149}) {
    EXPECT_EQ(posit8::from(tiny), posit8::minpos());
    EXPECT_EQ(posit16::from(-tiny), -posit16::minpos());
    EXPECT_EQ(posit32::from(tiny), posit32::minpos());
  }
  EXPECT_EQ(posit32::from(1e300), posit32::maxpos());
  EXPECT_EQ(posit16::from(-1e300), -posit16::maxpos());
  EXPECT_EQ(posit16::from(-0.0).bits, 0);
  for (const double v : {double(INFINITY), -double(INFINITY), double(NAN)}) {
    EXPECT_TRUE(posit8::from(v).is_nar());
    EXPECT_TRUE(posit32::from(v).is_nar());
  }
  EXPECT_TRUE(std::isnan(posit16::nar().to_double()));
}

TEST(Posit, SpecialOperands) {
  const auto one = posit16::from(1), zero = posit16::of(0), nar = posit16::nar();
  EXPECT_TRUE((one / zero).is_nar());
  EXPECT_TRUE((zero / zero).is_nar());
  EXPECT_TRUE(sqrt(-one).is_nar());
  EXPECT_EQ(sqrt(zero), zero);
  for (const auto& r : {nar + one, one - nar, nar * zero, nar / one, fma(zero, nar, one)})
    EXPECT_TRUE(r.is_nar());
  EXPECT_EQ(-nar, nar);
  EXPECT_EQ(-zero, zero);
  EXPECT_TRUE(nar == nar);
  EXPECT_TRUE(nar < -posit16::maxpos());
}

TEST(Posit, FmaKeepsTheStickyBit) {
  const uint32_t cases[][4] = {{0x9600, 0x81d4, 0x0008, 0x7f69},
                               {0x048a, 0x7fe8, 0x0009, 0x7ea3},
                               {0x80b6, 0x0424, 0xffff, 0x8b01},
                               {0x7f10, 0x7e80, 0x005d, 0x7ffb}};
  for (const auto& c : cases)
    EXPECT_EQ(fma(posit16::of(c[0]), posit16::of(c[1]), posit16::of(c[2])).bits, c[3]);
}

// ---- checksums of whole tables ----

template <class P, class F>
uint64_t pair_checksum(F op) {
  uint64_t h = fnv_basis;
  for (uint32_t a = 0; a < 256; ++a)
    for (uint32_t b = 0; b < 256; ++b) h = fnv(h, op(P::of(a), P::of(b)).bits);
  return h;
}

TEST(Posit, ChecksumsOfAllPosit8Pairs) {
  const auto add = [](auto a, auto b) { return a + b; };
  const auto mul = [](auto a, auto b) { return a * b; };
  const auto div = [](auto a, auto b) { return a / b; };
  EXPECT_EQ(pair_checksum<p8e0>(add), 0x4268967f42cba337);
  EXPECT_EQ(pair_checksum<p8e0>(mul), 0x137f2033b8887fd5);
  EXPECT_EQ(pair_checksum<p8e0>(div), 0xe8d311e89a4e4da5);
  EXPECT_EQ(pair_checksum<posit8>(add), 0x445436191241258b);
  EXPECT_EQ(pair_checksum<posit8>(mul), 0xd5feaa6339156ca5);
  EXPECT_EQ(pair_checksum<posit8>(div), 0x02b72ce77c15ce25);
}

template <class P>
uint64_t decode_checksum() {
  uint64_t h = fnv_basis;
  for (uint32_t w = 0; w < 65536; ++w) {
    const float v = static_cast<float>(P::of(w).to_double());
    uint32_t bits = 0;
    std::memcpy(&bits, &v, 4);
    if (std::isnan(v)) bits = 0x7fc00000;
    for (int i = 0; i < 4; ++i) h = fnv(h, static_cast<uint8_t>(bits >> (8 * i)));
  }
  return h;
}
template <class P>
uint64_t sqrt_checksum() {
  uint64_t h = fnv_basis;
  for (uint32_t w = 0; w < 65536; ++w) {
    const uint16_t r = sqrt(P::of(w)).bits;
    h = fnv(fnv(h, static_cast<uint8_t>(r)), static_cast<uint8_t>(r >> 8));
  }
  return h;
}

TEST(Posit, ChecksumsOfAllPosit16Words) {
  EXPECT_EQ(decode_checksum<p16e1>(), 0xd09308e51e6674f8);
  EXPECT_EQ(decode_checksum<posit16>(), 0xeb67dd62704db518);
  EXPECT_EQ(sqrt_checksum<p16e1>(), 0x456244ff71c8eb2d);
  EXPECT_EQ(sqrt_checksum<posit16>(), 0x8778035423fdda7d);
}

TEST(Posit, EveryWordSurvivesItsValue) {
  for (uint32_t w = 0; w < 65536; ++w) {
    ASSERT_EQ(posit16::from(posit16::of(w).to_double()).bits, w);
    ASSERT_EQ(p16e1::from(p16e1::of(w).to_double()).bits, w);
  }
  std::mt19937 rng(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const uint32_t w = static_cast<uint32_t>(rng());
    ASSERT_EQ(posit32::from(posit32::of(w).to_double()).bits, w);
  }
}

TEST(Posit, ValuesAreOrderedAsTheWordsAreAsIntegers) {
  for (int32_t w = -32767; w < 32767; ++w) {
    const auto a = posit16::of(static_cast<uint32_t>(w)),
               b = posit16::of(static_cast<uint32_t>(w + 1));
    ASSERT_LT(a.to_double(), b.to_double());
    ASSERT_TRUE(a < b);
  }
}

// ---- the oracle: exact values in long double, rounded by search ----
// Thresholds between words of N bits are the odd words of N + 1 bits; their values come from the
// definition, bit by bit.
template <int N, int ES>
long double value_by_definition(uint32_t word) {
  int at = N - 2;  // below the sign; positive words only
  const bool first = word >> at & 1;
  int run = 0;
  while (at >= 0 && bool(word >> at & 1) == first) ++run, --at;
  --at;  // the terminator
  int e = 0;
  for (int i = 0; i < ES; ++i, --at) e = 2 * e + (at >= 0 ? int(word >> at & 1) : 0);
  long double f = 1, bit = 0.5L;
  for (; at >= 0; --at, bit /= 2) f += bit * (word >> at & 1);
  return std::ldexp(f, (first ? run - 1 : -run) * (1 << ES) + e);
}

template <int N, int ES>
class Oracle {
 public:
  Oracle() {
    for (uint32_t w = 1; w < 1u << (N - 1); ++w) {
      value_.push_back(value_by_definition<N, ES>(w));
      threshold_.push_back(value_by_definition<N + 1, ES>(2 * w + 1));
    }
  }
  // Word for a finite exact value x.
  uint32_t round(long double x) const {
    if (x == 0) return 0;
    const long double a = std::fabs(x);
    // The first word whose threshold is not below a; the last word has none.
    const auto t = std::lower_bound(threshold_.begin(), threshold_.end() - 1, a);
    uint32_t w = static_cast<uint32_t>(t - threshold_.begin()) + 1;
    if (t != threshold_.end() - 1 && *t == a && w % 2 == 1) ++w;  // tie to the even word
    return x < 0 ? (~w + 1) & Posit<N, ES>::mask : w;
  }

 private:
  std::vector<long double> value_, threshold_;
};

// Sums and products of posit8 are exact in long double's 64 bits (es 2: 2^-48 to 2^48, 4 bits
// each); a quotient is compared through its product with the threshold, so it never rounds near
// one.
template <int ES>
void check_all_pairs() {
  using P = Posit<8, ES>;
  const Oracle<8, ES> oracle;
  for (uint32_t a = 0; a < 256; ++a)
    for (uint32_t b = 0; b < 256; ++b) {
      const P x = P::of(a), y = P::of(b);
      if (x.is_nar() || y.is_nar()) continue;
      const long double u = x.to_double(), v = y.to_double();
      ASSERT_EQ((x + y).bits, oracle.round(u + v)) << a << " + " << b;
      ASSERT_EQ((x - y).bits, oracle.round(u - v)) << a << " - " << b;
      ASSERT_EQ((x * y).bits, oracle.round(u * v)) << a << " * " << b;
      if (v == 0) continue;
      ASSERT_EQ((x / y).bits, oracle.round(u / v)) << a << " / " << b;
    }
}
TEST(Posit, AllPosit8PairsAgainstTheOracle) {
  check_all_pairs<0>();
  check_all_pairs<1>();
  check_all_pairs<2>();
}

TEST(Posit, AllFloatsOfAGridToPosit16AgainstTheOracle) {
  const Oracle<16, 2> oracle;
  for (uint64_t bits = 0; bits < 1ull << 32; bits += 4099) {  // prime: meets every exponent
    float v;
    const auto b = static_cast<uint32_t>(bits);
    std::memcpy(&v, &b, 4);
    if (!std::isfinite(v)) continue;
    ASSERT_EQ(posit16::from(v).bits, oracle.round(v)) << v;
  }
}

// Products and sums of posit16 need 24 and up to 124 bits: the quire is exact for both.
TEST(Posit, RandomPosit16TriplesAgainstTheQuire) {
  std::mt19937 rng(3);
  Quire<16> q;
  for (int i = 0; i < 1'000'000; ++i) {
    const uint32_t r = static_cast<uint32_t>(rng());
    const auto a = posit16::of(r), b = posit16::of(r >> 16),
               c = posit16::of(static_cast<uint32_t>(rng()));
    q.clear();
    q.add_product(a, b);
    ASSERT_EQ(q.to_posit(), a * b);
    q.add(c);
    ASSERT_EQ(q.to_posit(), fma(a, b, c)) << a.bits << " " << b.bits << " " << c.bits;
    q.clear();
    q.add(a);
    q.subtract(c);
    ASSERT_EQ(q.to_posit(), a - c);
  }
}

TEST(Posit, RandomPosit32AgainstTheQuire) {
  std::mt19937 rng(4);
  Quire<32> q;
  for (int i = 0; i < 300'000; ++i) {
    // Words near each other cancel; words of all regimes come up.
    const auto a = posit32::of(static_cast<uint32_t>(rng())),
               b = posit32::of(static_cast<uint32_t>(rng()));
    const auto c = i % 2 ? -(a * b) : posit32::of(static_cast<uint32_t>(rng()));
    q.clear();
    q.add_product(a, b);
    ASSERT_EQ(q.to_posit(), a * b);
    q.add(c);
    ASSERT_EQ(q.to_posit(), fma(a, b, c));
  }
}

// ---- the quire ----

TEST(Quire, KeepsWhatRoundingWouldLose) {
  const auto p = [](double v) { return posit16::from(v); };
  Quire<16> q;
  q.add_product(p(4096), p(1));
  q.add_product(p(1), p(0.5));
  q.subtract_product(p(4096), p(1));
  EXPECT_EQ(q.to_posit().to_double(), 0.5);
  EXPECT_EQ(((p(4096) + p(0.5)) - p(4096)).to_double(), 0);  // operation by operation it is lost
}

TEST(Quire, DoesNotDependOnTheOrder) {
  std::mt19937 rng(9);
  std::vector<std::pair<uint32_t, uint32_t>> terms;
  for (int i = 0; i < 200; ++i) {
    terms.push_back({static_cast<uint32_t>(rng()), static_cast<uint32_t>(rng())});
    if (i % 3 == 0) terms.push_back({terms.back().first, ~terms.back().second + 1});  // cancels
  }
  const auto sum = [&] {
    Quire<16> q;
    for (const auto& [a, b] : terms)
      if (!posit16::of(a).is_nar() && !posit16::of(b).is_nar())
        q.add_product(posit16::of(a), posit16::of(b));
    return q.to_posit();
  };
  const posit16 first = sum();
  for (int k = 0; k < 20; ++k) {
    std::shuffle(terms.begin(), terms.end(), rng);
    EXPECT_EQ(sum(), first);
  }
}

TEST(Quire, NaRStaysAndOverflowBecomesNaR) {
  Quire<8> q;
  q.add(posit8::nar());
  q.add(posit8::from(1));
  EXPECT_TRUE(q.to_posit().is_nar());
  q.clear();
  EXPECT_EQ(q.to_posit().bits, 0);
  Quire<8> big;  // doubling: 2^48 maxpos products reach 2^31 of them in 31 steps
  big.add_product(posit8::maxpos(), posit8::maxpos());
  int steps = 0;
  while (!big.is_nar() && steps < 64) {
    const Quire<8> copy = big;
    big.add(copy);
    ++steps;
  }
  EXPECT_EQ(steps, 31);
}

}  // namespace
}  // namespace wattle::quant
