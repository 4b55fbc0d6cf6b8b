// Statistics against figures of SciPy 1.17.1 and against simulation.
#include "green/hypothesis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace wattle::green {
namespace {

const Vec a_sheet{100.2, 99.8, 101.1, 100.5, 99.9, 100.7};
const Vec b_sheet{98.1, 97.5, 98.9, 98.4, 97.9, 98.6};

void near(double found, double expected) {
  EXPECT_NEAR(found, expected, 1e-6 * std::fabs(expected));
}

TEST(Hypothesis, WelchAndEffectSizes) {
  const Welch w = welch(a_sheet, b_sheet);
  near(w.t, 7.380249664231113);
  near(w.df, 9.997454247164313);
  near(w.p, 2.3721426870732645e-05);
  EXPECT_NEAR(cohens_d(a_sheet, b_sheet), 4.260989, 1e-6);
  EXPECT_NEAR(hedges_g(a_sheet, b_sheet), 3.933221, 1e-6);
  EXPECT_EQ(a12(a_sheet, b_sheet), 1);
  EXPECT_EQ(cliffs_delta(b_sheet, a_sheet), -1);
  const Welch other = welch({1.1, 2.3, 3.7, 4.2, 5.5, 6.1, 7.9}, {2.0, 3.1, 4.4, 8.8});
  near(other.t, -0.10120259474583865);
  near(other.df, 5.1193615824262455);
  near(other.p, 0.9232342179431394);
  near(student_t_two_sided(2.5, 7.3), 0.03965023466560043);
}

TEST(Hypothesis, MannWhitneyExactAndTied) {
  const MannWhitney m = mann_whitney(a_sheet, b_sheet);
  EXPECT_EQ(m.u, 36);
  EXPECT_TRUE(m.exact);
  near(m.p, 0.0021645021645021645);
  const MannWhitney even = mann_whitney({1.1, 2.3, 3.7, 4.2, 5.5, 6.1, 7.9}, {2.0, 3.1, 4.4, 8.8});
  EXPECT_EQ(even.u, 14);
  near(even.p, 1);
  const MannWhitney tied = mann_whitney({1, 2, 2, 3, 4, 4, 5}, {2, 3, 3, 4, 6, 7, 7, 8});
  EXPECT_EQ(tied.u, 14);
  EXPECT_FALSE(tied.exact);
  near(tied.p, 0.11392892811978714);
  EXPECT_NEAR(a12({1, 2}, {2, 3}), 0.125, 1e-15);
}

TEST(Hypothesis, NormalQuantile) {
  near(normal_quantile(1e-9), -5.9978070150076865);
  near(normal_quantile(0.025), -1.9599639845400545);
  EXPECT_NEAR(normal_quantile(0.5), 0, 1e-15);
  near(normal_quantile(0.9), 1.2815515655446004);
  EXPECT_TRUE(std::isnan(normal_quantile(0)));
  for (double p = 0.001; p < 1; p += 0.0137) near(normal_cdf(normal_quantile(p)), p);
}

struct ShapiroCase {
  Vec x;
  double w, p;
};
// Normal and exponential samples; W and p by scipy.stats.shapiro.
const ShapiroCase shapiro_cases[] = {
    {{14.0818, 4.8887, 10.8362}, 0.9720124334312525, 0.6789809014605526},
    {{8.8645, 9.0947, 9.5688, 5.96, 9.5361}, 0.7206171090229967, 0.015543775470009128},
    {{8.2696, 16.646, 10.4516, 9.2947, 9.4374, 8.6639, 7.8897, 9.2184, 10.9639, 9.5229},
     0.7147015156592169,
     0.001328123667638103},
    {{0.2893, 0.1777, 0.0018, 1.165, 0.8944, 1.2162, 0.6536, 0.5746, 0.5898, 0.5839, 0.0414},
     0.935167283218317,
     0.4654523851831187},
    {{12.0046, 8.2271, 9.4166, 11.7651, 11.1607, 10.183, 11.3402, 4.3437, 12.0426, 8.0807, 6.6628,
      10.5529},
     0.8896648254209998,
     0.11667321222866706},
    {{11.4011, 9.1105,  7.8472,  10.0522, 9.8945, 12.8112, 11.4948, 10.3876, 12.2233, 9.589,
      8.1482,  11.1681, 11.1651, 9.5703,  8.4344, 10.4583, 5.0122,  11.3802, 10.9827, 6.7223,
      10.1227, 8.0718,  11.5144, 5.9317,  8.171,  11.4192, 12.3128, 5.684,   9.0039,  10.656},
     0.9411314011395255,
     0.09757183728004296},
    {{0.078,  0.1534, 0.1284, 0.3281, 0.311,  0.3445, 0.5679, 0.1974, 2.4341, 1.0351,
      1.6984, 2.0333, 0.0857, 0.9519, 0.962,  0.0437, 3.3578, 0.1313, 0.9271, 3.1096,
      0.4375, 0.5527, 1.6341, 0.1734, 0.7548, 0.5271, 1.4537, 1.108,  0.8015, 1.0018,
      0.0632, 2.0976, 0.6046, 2.8014, 1.1352, 2.4648, 2.9891, 1.2097, 0.4481, 0.4127,
      0.5597, 0.1535, 2.0916, 4.2015, 0.1316, 4.5707, 1.1438, 0.926,  1.716,  4.11},
     0.8490046229965789,
     1.454182841242511e-05},
    {{8.3977,  10.0866, 11.2819, 14.0958, 9.6051,  11.535,  10.3108, 13.5199, 11.4843, 12.7371,
      7.8446,  9.6155,  8.3725,  13.0099, 11.3153, 9.3897,  9.0951,  10.9693, 8.597,   8.1388,
      10.9625, 14.9263, 9.5077,  8.8883,  7.6577,  7.33,    11.05,   11.7016, 10.0183, 10.6652,
      10.2318, 10.2773, 6.9477,  9.0838,  10.223,  8.4337,  9.0471,  8.3618,  9.333,   11.7062,
      9.1868,  9.6923,  11.6274, 11.2895, 13.3904, 5.819,   11.7137, 9.0354,  10.2694, 11.6754,
      12.1665, 12.0787, 10.3102, 13.2193, 9.4341,  9.718,   11.5987, 8.8973,  14.3218, 12.0384,
      14.3512, 9.9468,  9.2338,  10.3341, 11.4692, 8.8251,  10.7594, 9.9664,  13.2314, 8.6746,
      12.0923, 8.7123,  8.0787,  8.5794,  7.6196,  10.2927, 12.0625, 10.3286, 11.2487, 13.2643,
      10.5401, 10.3903, 9.4499,  6.7835,  11.5195, 6.4871,  11.3054, 9.9714,  12.2536, 9.8645,
      8.3536,  10.7158, 8.8795,  9.6381,  10.0837, 9.7309,  9.6224,  8.3351,  9.6217,  5.7233,
      9.6853,  7.6039,  12.2405, 12.5399, 6.0979,  10.2898, 9.7473,  7.9066,  11.0633, 9.0766,
      6.4648,  9.4666,  9.7035,  10.2129, 7.5375,  11.2314, 11.4709, 7.7083,  8.6823,  9.8393,
      8.8681,  13.4875, 10.4167, 7.9788,  8.4238,  9.8851,  14.5916, 9.6435,  10.255,  11.0281,
      9.9197,  14.5613, 8.937,   11.4884, 10.3209, 11.2424, 7.6467,  13.5362, 9.7569,  10.0683,
      8.13,    8.5406,  11.1285, 11.973,  11.5065, 12.4179, 11.429,  10.0569, 11.6731, 11.1872,
      9.7988,  11.4521, 12.5714, 10.4691, 9.2876,  11.4374, 13.8014, 9.5789,  9.8154,  9.7272,
      12.446,  6.3256,  10.7317, 12.3845, 8.3732,  12.978,  11.0706, 8.9019,  10.4083, 6.931,
      8.8689,  13.6538, 8.2124,  13.6891, 9.8369,  11.9893, 10.0878, 5.517,   8.8547,  10.3797,
      7.6981,  7.3052,  10.7324, 8.7012,  6.6083,  8.6318,  11.7215, 9.0525,  11.8695, 13.0545,
      10.065,  7.7406,  7.3969,  9.9475,  11.7621, 10.538,  11.0945, 9.1133,  10.6008, 9.0574},
     0.9937857386096378,
     0.5691508130199106},
};

TEST(Hypothesis, ShapiroWilk) {
  for (const ShapiroCase& c : shapiro_cases) {
    const ShapiroWilk s = shapiro_wilk(c.x);
    EXPECT_NEAR(s.w, c.w, 1e-6) << "n = " << c.x.size();
    EXPECT_NEAR(s.p, c.p, 1e-6) << "n = " << c.x.size();
  }
  EXPECT_TRUE(std::isnan(shapiro_wilk({1, 2}).p));
  EXPECT_TRUE(std::isnan(shapiro_wilk({3, 3, 3, 3}).p));
}

TEST(Hypothesis, Holm) {
  const Vec p = holm({0.01, 0.04, 0.03, 0.005});
  EXPECT_NEAR(p[0], 0.03, 1e-15);
  EXPECT_NEAR(p[1], 0.06, 1e-15);
  EXPECT_NEAR(p[2], 0.06, 1e-15);
  EXPECT_NEAR(p[3], 0.02, 1e-15);
  const Vec with_nan = holm({0.5, NAN, 0.9});
  EXPECT_NEAR(with_nan[0], 1, 1e-15);
  EXPECT_TRUE(std::isnan(with_nan[1]));
}

TEST(Hypothesis, Outliers) {
  Vec x(30, 10.0);
  for (size_t i = 0; i < x.size(); ++i) x[i] += 0.1 * double(i % 3);
  x[7] = 50;
  EXPECT_EQ(within_sigmas(x).size(), 29u);
  EXPECT_EQ(within_sigmas(Vec(5, 2.0)).size(), 5u);
}

TEST(Hypothesis, Words) {
  EXPECT_EQ(magnitude_of_d(-0.19), "negligible");
  EXPECT_EQ(magnitude_of_d(0.6), "medium");
  EXPECT_EQ(magnitude_of_delta(0.5), "large");
  EXPECT_EQ(magnitude_of_delta(-0.2), "small");
}

TEST(Hypothesis, WhatDoesNotExistIsNaN) {
  EXPECT_TRUE(std::isnan(welch({1}, {2, 3}).p));
  EXPECT_TRUE(std::isnan(welch({1, 1}, {1, 1}).p));
  EXPECT_TRUE(std::isnan(cohens_d({1, 1}, {1, 1})));
  EXPECT_TRUE(std::isnan(mann_whitney({}, {1}).p));
  EXPECT_TRUE(std::isnan(mann_whitney({1, 1}, {1, 1}).p));
}

// Two samples of one population: a test at 5 % must reject in about 5 % of experiments, no more and
// no less; a real difference of one standard deviation must be found.
TEST(Hypothesis, TwoThousandAAExperiments) {
  std::mt19937_64 rng(42);
  std::normal_distribution<double> normal(100, 2);
  int by_welch = 0, by_ranks = 0, found = 0, not_normal = 0, peeking = 0;
  constexpr int experiments = 2000;
  for (int e = 0; e < experiments; ++e) {
    Vec a(30), b(30), c(30);
    for (double& v : a) v = normal(rng);
    for (double& v : b) v = normal(rng);
    for (double& v : c) v = normal(rng) + 2;
    by_welch += welch(a, b).p < 0.05;
    by_ranks += mann_whitney(a, b).p < 0.05;
    found += welch(a, c).p < 0.05;
    not_normal += shapiro_wilk(a).p < 0.05;
    // Planted fault: looking after 10, 20 and 30 repetitions and stopping at the first success.
    bool any = false;
    for (const size_t n : {10, 20, 30})
      any =
          any ||
          welch(Vec(a.begin(), a.begin() + long(n)), Vec(b.begin(), b.begin() + long(n))).p < 0.05;
    peeking += any;
  }
  for (const int rejected : {by_welch, by_ranks, not_normal}) {
    EXPECT_GE(rejected, 0.035 * experiments);
    EXPECT_LE(rejected, 0.065 * experiments);
  }
  EXPECT_GT(peeking, 0.065 * experiments);  // the band catches it
  EXPECT_GE(found, 0.95 * experiments);
  RecordProperty("welch_rejects", by_welch);
  RecordProperty("ranks_reject", by_ranks);
}

}  // namespace
}  // namespace wattle::green
