// Tests of two samples against published values and against SciPy 1.17.1. Its figures were computed
// on sequences that this file makes anew, so no data has to be stored.
#include "green/hypothesis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/error.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

// Multiples of the golden ratio, modulo 1: spread evenly over (0, 1), in no order.
Vec uniform(int n, double start = 0) {
  Vec x;
  for (int i = 1; i <= n; ++i) x.push_back(std::fmod(start + i * 0.6180339887498949, 1.0));
  return x;
}
template <class Fn>
Vec map(Vec x, Fn fn) {
  for (double& v : x) v = fn(v);
  return x;
}
Vec exponential(int n, double start = 0) {
  return map(uniform(n, start), [](double u) { return -std::log(u); });
}
Vec times_plus(Vec x, double factor, double plus) {
  return map(std::move(x), [=](double v) { return factor * v + plus; });
}

void expect_close(double found, double expected, double relative) {
  EXPECT_NEAR(found, expected, relative * std::fabs(expected)) << expected;
}

// The vector of the protocol's fact sheet: two variants, six runs each.
const Vec run_a = {100.2, 99.8, 101.1, 100.5, 99.9, 100.7};
const Vec run_b = {98.1, 97.5, 98.9, 98.4, 97.9, 98.6};

TEST(Hypothesis, ProtocolVector) {
  const Welch w = welch_t(run_a, run_b);
  EXPECT_NEAR(w.t, 7.380250, 1e-6);
  EXPECT_NEAR(w.df, 9.997454, 1e-6);
  expect_close(w.p, 2.3721426870732645e-05, 1e-9);  // 2.3721e-5 in the sheet; digits: SciPy
  EXPECT_NEAR(cohens_d(run_a, run_b), 4.260989, 1e-6);
  EXPECT_NEAR(hedges_g(run_a, run_b), 3.933221, 1e-6);
  const MannWhitney u = mann_whitney(run_a, run_b);
  EXPECT_EQ(u.u, 36);
  EXPECT_TRUE(u.exact);
  expect_close(u.p, 2.0 / 924, 1e-12);  // 2 of the C(12, 6) orders are this far out
  EXPECT_EQ(vargha_delaney_a12(run_a, run_b), 1);
  EXPECT_EQ(cliffs_delta(run_a, run_b), 1);
  const Welch back = welch_t(run_b, run_a);
  EXPECT_DOUBLE_EQ(back.t, -w.t);
  EXPECT_DOUBLE_EQ(back.p, w.p);
  EXPECT_EQ(vargha_delaney_a12(run_b, run_a), 0);
}

TEST(Hypothesis, NormalDistribution) {
  const double ppf[][2] = {{1e-300, -37.0470962993612}, {1e-20, -9.262340089798409},
                           {1e-05, -4.264890793922825}, {0.025, -1.9599639845400545},
                           {0.3, -0.5244005127080409},  {0.8, 0.8416212335729143},
                           {0.999, 3.090232306167813}};
  for (const auto& [p, z] : ppf) expect_close(normal_quantile(p), z, 1e-13);
  EXPECT_NEAR(normal_quantile(0.5), 0, 1e-15);
  EXPECT_EQ(normal_quantile(0), -inf);
  EXPECT_EQ(normal_quantile(1), inf);
  EXPECT_TRUE(std::isfinite(normal_quantile(5e-324)));
  EXPECT_THROW(normal_quantile(1.1), value_error);
  EXPECT_THROW(normal_quantile(nan), value_error);
  const double cdf[][2] = {{-37, 5.7255712225239266e-300},
                           {-10, 7.61985302416047e-24},
                           {-1.5, 0.06680720126885807},
                           {0, 0.5},
                           {2, 0.9772498680518208}};
  for (const auto& [z, p] : cdf) expect_close(normal_cdf(z), p, 1e-12);
  for (double p = 0.001; p < 1; p += 0.007) EXPECT_NEAR(normal_cdf(normal_quantile(p)), p, 1e-14);
}

TEST(Hypothesis, StudentT) {
  const double table[][3] = {{0, 5, 1},
                             {1, 1, 0.5},  // Cauchy: 1 - 2 atan(1) / pi
                             {2.228, 10, 0.05001177181711132},
                             {0.001, 3.7, 0.9992536770590863},
                             {50, 2, 0.00039976015988808057},
                             {-3, 1e6, 0.0026998625414218},
                             {12, 40, 7.82417130425598e-15}};
  for (const auto& [t, df, p] : table) expect_close(student_t_two_sided(t, df), p, 1e-9);
  EXPECT_EQ(student_t_two_sided(inf, 3), 0);
  EXPECT_TRUE(std::isnan(student_t_two_sided(nan, 3)));
  EXPECT_TRUE(std::isnan(student_t_two_sided(1, 0)));
}

TEST(ShapiroWilk, PublishedVector) {
  // weights of 11 men, the example of Shapiro and Wilk 1965: W = 0.79
  const ShapiroWilk s = shapiro_wilk({148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236});
  EXPECT_NEAR(s.w, 0.79, 0.005);
  expect_close(s.w, 0.7888146948631716, 1e-6);
  expect_close(s.p, 0.006703814061898823, 1e-5);
}

TEST(ShapiroWilk, AgreesWithScipy) {
  struct Case {
    int n;
    const char* shape;
    double w, p;
  };
  const Case cases[] = {{3, "uniform", 0.9817627457812104, 0.7412918697654969},
                        {3, "exponential", 0.9239692438453184, 0.4664691817570765},
                        {3, "normal", 0.9925846142149014, 0.8353330423495964},
                        {5, "uniform", 0.980207146561593, 0.9357239688372867},
                        {5, "exponential", 0.9307043723351663, 0.6011817483040117},
                        {5, "normal", 0.9931182052643873, 0.989393943926105},
                        {10, "uniform", 0.9625392449500876, 0.8143940230440662},
                        {10, "exponential", 0.9237838895213287, 0.38959726068258715},
                        {10, "normal", 0.9850429799046482, 0.9864129937030698},
                        {11, "exponential", 0.8985310164319019, 0.17735607753385352},
                        {12, "exponential", 0.9125514887765521, 0.23000729343351456},
                        {30, "uniform", 0.958007319613173, 0.2752495594441101},
                        {30, "exponential", 0.8692221437621727, 0.0016098466186800437},
                        {30, "normal", 0.9943476332742504, 0.9998071094875817},
                        {50, "uniform", 0.9526428093512075, 0.0438483945863401},
                        {50, "exponential", 0.845957736721308, 1.2046614011985661e-05},
                        {50, "normal", 0.9951998747378178, 0.9992484430866623},
                        {200, "uniform", 0.9550108983501413, 5.9205703852422e-06},
                        {200, "exponential", 0.8360177148306734, 9.455887241762939e-14},
                        {200, "normal", 0.9989531776420888, 0.9999903236657796},
                        {5000, "uniform", 0.9548989166284827, 9.363454684741487e-37},
                        {5000, "exponential", 0.8165912346147242, 5.787761366010458e-60}};
  for (const Case& c : cases) {
    Vec x = uniform(c.n);
    if (c.shape[0] == 'e') x = exponential(c.n);
    if (c.shape[0] == 'n') x = map(x, normal_quantile);
    const ShapiroWilk s = shapiro_wilk(x);
    SCOPED_TRACE(testing::Message() << c.n << " " << c.shape);
    expect_close(s.w, c.w, 1e-6);
    expect_close(s.p, c.p, 1e-4);  // its normal quantile has 7 digits, and p magnifies that
    const ShapiroWilk moved = shapiro_wilk(times_plus(x, -1e-9, 5e-9));
    EXPECT_NEAR(moved.w, s.w, 1e-9) << "unit and sign do not matter";
  }
}

TEST(ShapiroWilk, UndefinedIsNan) {
  for (const Vec& x :
       {Vec{}, Vec{1, 2}, Vec{3, 3, 3, 3}, Vec{1, 2, nan, 4}, Vec{1, 2, inf, 4}, Vec(5001, 1.0)}) {
    EXPECT_TRUE(std::isnan(shapiro_wilk(x).w));
    EXPECT_TRUE(std::isnan(shapiro_wilk(x).p));
  }
}

// W must reject normal data at its level, and see skewness.
TEST(ShapiroWilk, RejectsNormalDataAtItsLevel) {
  std::mt19937_64 rng(5);
  std::normal_distribution<double> normal;
  std::lognormal_distribution<double> skewed(0, 1);
  for (const int n : {5, 11, 12, 30}) {
    int rejected = 0, found = 0;
    for (int trial = 0; trial < 2000; ++trial) {
      Vec x, y;
      for (int i = 0; i < n; ++i) x.push_back(normal(rng)), y.push_back(skewed(rng));
      rejected += shapiro_wilk(x).p < 0.05, found += shapiro_wilk(y).p < 0.05;
    }
    EXPECT_NEAR(rejected / 2000.0, 0.05, 0.015) << n;
    EXPECT_GT(found / 2000.0, n < 10 ? 0.15 : 0.5) << n;
  }
}

TEST(Welch, UnequalSizes) {
  const Welch w = welch_t(exponential(12, .1), times_plus(uniform(25, .3), 3, 0));
  expect_close(w.t, -2.032607534995481, 1e-10);
  expect_close(w.df, 22.41453831119598, 1e-10);
  expect_close(w.p, 0.05410529509339485, 1e-9);
}

TEST(Welch, UndefinedIsNanAndOneConstantSideIsNot) {
  EXPECT_TRUE(std::isnan(welch_t({1}, {1, 2}).p));
  EXPECT_TRUE(std::isnan(welch_t({2, 2, 2}, {3, 3, 3}).p));
  EXPECT_TRUE(std::isnan(welch_t({1, nan, 2}, {1, 2, 3}).p));
  EXPECT_TRUE(std::isnan(cohens_d({2, 2, 2}, {3, 3, 3})));
  EXPECT_TRUE(std::isnan(hedges_g({}, {})));
  const Welch w = welch_t({1, 2, 3}, {5, 5, 5});
  EXPECT_NEAR(w.t, -3 * std::sqrt(3), 1e-12);
  EXPECT_NEAR(w.df, 2, 1e-12);  // only the side that varies counts
}

TEST(MannWhitney, AgreesWithScipy) {
  struct Case {
    Vec a, b;
    double u, p;
    bool exact;
  };
  const auto dice = [](int n, double start, double plus) {
    return map(uniform(n, start), [=](double u) { return std::floor(6 * u) + plus; });
  };
  const Case cases[] = {
      {{1, 2, 3}, {4, 5}, 0, 0.2, true},
      {exponential(9, .1), times_plus(uniform(7, .3), 1.5, .8), 14, 0.07115384615384615, true},
      {exponential(20, .2), times_plus(uniform(20, .7), 1, .5), 134, 0.07626619026241793, true},
      {exponential(30, .2), times_plus(uniform(30, .7), 1, .7), 274, 0.009468269708615267, false},
      {exponential(6, .2), times_plus(uniform(25, .7), 1, .9), 34, 0.04286736422830597, false},
      {dice(15, .1, 0), dice(18, .4, 1), 97.5, 0.17547293709527223, false},
      {{1, 2, 2, 3}, {2, 4, 5}, 2, 0.19908985214820463, false}};
  for (const Case& c : cases) {
    const MannWhitney m = mann_whitney(c.a, c.b), back = mann_whitney(c.b, c.a);
    EXPECT_EQ(m.u, c.u);
    EXPECT_EQ(m.exact, c.exact);
    expect_close(m.p, c.p, 1e-10);
    EXPECT_EQ(back.u, static_cast<double>(c.a.size() * c.b.size()) - c.u);
    EXPECT_DOUBLE_EQ(back.p, m.p);
  }
}

// The exact p against counting every order one by one.
TEST(MannWhitney, ExactIsTheShareOfOrders) {
  for (const auto& [na, nb] : {std::pair{2, 3}, {4, 4}, {3, 6}, {1, 5}}) {
    const int n = na + nb;
    for (int wanted = 0; wanted < 1 << n; ++wanted) {
      if (__builtin_popcount(wanted) != na) continue;
      const auto u_of = [&](int mask) {
        int u = 0;
        for (int i = 0; i < n; ++i)
          for (int j = 0; j < i; ++j) u += (mask >> i & 1) && !(mask >> j & 1);
        return u;
      };
      Vec a, b;
      for (int i = 0; i < n; ++i) (wanted >> i & 1 ? a : b).push_back(i);
      const int low = std::min(u_of(wanted), na * nb - u_of(wanted));
      double tail = 0, all = 0;
      for (int mask = 0; mask < 1 << n; ++mask) {
        if (__builtin_popcount(mask) != na) continue;
        all += 1, tail += u_of(mask) <= low;
      }
      const MannWhitney m = mann_whitney(a, b);
      EXPECT_EQ(m.u, u_of(wanted));
      EXPECT_NEAR(m.p, std::min(1.0, 2 * tail / all), 1e-12);
    }
  }
}

TEST(MannWhitney, Edges) {
  EXPECT_TRUE(std::isnan(mann_whitney({}, {1, 2}).p));
  EXPECT_TRUE(std::isnan(mann_whitney({1, nan}, {1, 2}).u));
  EXPECT_TRUE(std::isnan(vargha_delaney_a12({}, {1})));
  const MannWhitney same = mann_whitney({3, 3, 3}, {3, 3});
  EXPECT_EQ(same.p, 1);
  EXPECT_EQ(same.u, 3);
  EXPECT_EQ(vargha_delaney_a12({3, 3, 3}, {3, 3}), 0.5);
}

TEST(EffectSize, Magnitudes) {
  const std::pair<double, std::string_view> d[] = {
      {0, "negligible"}, {0.19, "negligible"}, {-0.2, "small"}, {0.49, "small"}, {0.5, "medium"},
      {-0.79, "medium"}, {0.8, "large"},       {inf, "large"},  {nan, "unknown"}};
  for (const auto& [v, word] : d) EXPECT_EQ(d_magnitude(v), word) << v;
  const std::pair<double, std::string_view> a12[] = {
      {0.5, "negligible"}, {0.55, "negligible"}, {0.57, "small"}, {0.43, "small"}, {0.65, "medium"},
      {0.35, "medium"},    {0.72, "large"},      {0, "large"},    {nan, "unknown"}};
  for (const auto& [v, word] : a12) EXPECT_EQ(a12_magnitude(v), word) << v;
  const std::pair<double, std::string_view> cliff[] = {
      {0.1, "negligible"}, {-0.147, "small"}, {0.33, "medium"}, {-0.48, "large"}, {nan, "unknown"}};
  for (const auto& [v, word] : cliff) EXPECT_EQ(cliff_magnitude(v), word) << v;
}

TEST(EffectSize, CliffCountsPairs) {
  const Vec a = {1, 4, 4, 6}, b = {2, 4, 5};
  double dominance = 0;
  for (const double x : a)
    for (const double y : b) dominance += (x > y) - (x < y);
  EXPECT_NEAR(cliffs_delta(a, b), dominance / 12, 1e-15);
}

TEST(Holm, StepsDown) {
  const Vec p = holm({0.01, 0.04, 0.03, 0.005});
  const Vec expected = {0.03, 0.06, 0.06, 0.02};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(p[i], expected[i], 1e-15);
  EXPECT_EQ(holm({0.9, 0.8}), (Vec{1, 1}));
  const Vec gap = holm({0.02, nan, 0.03});
  EXPECT_NEAR(gap[0], 0.04, 1e-15);  // two p values, not three
  EXPECT_TRUE(std::isnan(gap[1]));
  EXPECT_NEAR(gap[2], 0.04, 1e-15);
  EXPECT_TRUE(holm({}).empty());
}

TEST(Spearman, TestAgreesWithScipy) {
  const Vec x = uniform(15, .1), other = uniform(15, .35);
  Vec y;
  for (size_t i = 0; i < 15; ++i) y.push_back(x[i] + 0.7 * other[i]);
  const RankCorrelation r = spearman_test(x, y);
  expect_close(r.rho, 0.7357142857142855, 1e-12);
  expect_close(r.p, 0.001769868642144271, 1e-9);
  EXPECT_NEAR(spearman_test({1, 2, 3}, {4, 5, 6}).p, 0, 1e-6);
  EXPECT_TRUE(std::isnan(spearman_test({1, 2}, {4, 5}).rho));
  EXPECT_TRUE(std::isnan(spearman_test({1, 2, 3}, {4, 4, 4}).p));
  EXPECT_THROW(spearman_test({1, 2, 3}, {4, 5}), shape_error);
}

TEST(ThreeSigma, CutsOnceAndOnlyWhatIsFarOut) {
  Vec x(30, 10.0);
  for (size_t i = 0; i < 30; ++i) x[i] += i % 2 ? 1 : -1;
  x[7] = 100, x[12] = 45;  // 45 is far out only once 100 is gone
  const auto keep = within_three_sigma(x);
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(keep[i], i != 7) << i;
  EXPECT_EQ(within_three_sigma({1, 1, 1, 1e9}), std::vector<bool>(4, true));
  EXPECT_EQ(within_three_sigma({5}), std::vector<bool>(1, true));
  EXPECT_EQ(within_three_sigma({2, 2, 2}), std::vector<bool>(3, true));
}

// Two samples of one distribution must be called different in 5 % of experiments, no more.
TEST(Rates, SameDistributionIsRejectedAtTheLevel) {
  std::mt19937_64 rng(17);
  std::normal_distribution<double> normal(100, 2);
  std::lognormal_distribution<double> skewed(0, 0.8);
  int welch = 0, rank = 0, welch_unequal = 0;
  constexpr int trials = 2000;
  for (int trial = 0; trial < trials; ++trial) {
    Vec a, b, wide, sa, sb;
    for (int i = 0; i < 30; ++i) {
      a.push_back(normal(rng)), b.push_back(normal(rng));
      sa.push_back(skewed(rng)), sb.push_back(skewed(rng));
    }
    for (int i = 0; i < 12; ++i) wide.push_back(100 + 4 * (normal(rng) - 100));
    welch += welch_t(a, b).p < 0.05;
    welch_unequal += welch_t(a, wide).p < 0.05;  // where Student's test would fail
    rank += mann_whitney(sa, sb).p < 0.05;
  }
  EXPECT_NEAR(welch / double(trials), 0.05, 0.015);
  EXPECT_NEAR(welch_unequal / double(trials), 0.05, 0.015);
  EXPECT_NEAR(rank / double(trials), 0.05, 0.015);
}

TEST(Rates, RealDifferenceIsFound) {
  std::mt19937_64 rng(23);
  std::normal_distribution<double> normal(100, 2);
  std::lognormal_distribution<double> skewed(0, 0.8);
  int welch = 0, rank = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Vec a, b, sa, sb;
    for (int i = 0; i < 30; ++i) {
      a.push_back(normal(rng)), b.push_back(normal(rng) + 2);  // d = 1
      sa.push_back(skewed(rng)), sb.push_back(2 * skewed(rng));
    }
    welch += welch_t(a, b).p < 0.05, rank += mann_whitney(sa, sb).p < 0.05;
  }
  EXPECT_GT(welch, 280);  // power 97 %
  EXPECT_GT(rank, 250);
}

}  // namespace
}  // namespace wattle::green
