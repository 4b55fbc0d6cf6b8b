// Statistics of the studies against published and closed-form values.
#include "green/stats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/error.h"

namespace wattle::green {
namespace {

using Levels = std::vector<std::array<int, 3>>;
constexpr std::array<std::string_view, 3> factors = {"linear", "conv", "relu"};

// A balanced 2x2x2 design of 3072 observations with the published effects (+-1 coding) and a
// residual of the published size, orthogonal to every term: +r and -r in turn within each cell.
struct Published {
  double mean, residual_ss;
  std::array<double, 7> coef, ss, f, eta2;  // lin, conv, relu, lc, lr, cr, lcr
  double kw_conv;
};
const Published fashion = {
    1265.6716,
    401718.241,
    {30.5315, 408.4228, 17.1022, 18.1967, -.2540, 6.3041, -1.0168},
    {2.86364e6, 5.12438e8, 898510.474, 1.0172e6, 198.163, 122085.07, 3176.04},
    {21841.658, 3908484.4, 6853.152, 7758.395, 1.511, 931.172, 24.224},
    {.00553, .98975, .00174, .00196, 3.83e-7, 2.36e-4, 6.13e-6},
    2303.250};
const Published cifar = {3674.4319,
                         5793776.7,
                         {118.0279, 915.9874, 53.3097, 2.5803, -5.0802, 24.7301, -32.4735},
                         {4.27947e7, 2.57751e9, 8.7304e6, 20453.8, 79283.3, 1.87876e6, 3.23951e6},
                         {22631.706, 1363098.4, 4617.013, 10.817, 41.928, 993.572, 1713.193},
                         {.01621, .97631, .00331, 7.75e-6, 3.00e-5, 7.12e-4, .00123},
                         2303.250};

Levels balanced(int per_cell) {
  Levels l;
  for (int i = 0; i < 8 * per_cell; ++i) l.push_back({i & 1, i >> 1 & 1, i >> 2 & 1});
  return l;
}

Vec observations(const Published& d, const Levels& levels) {
  Vec y;
  const double r = std::sqrt(d.residual_ss / static_cast<double>(levels.size()));
  for (size_t i = 0; i < levels.size(); ++i) {
    const double l = levels[i][0] ? 1 : -1, c = levels[i][1] ? 1 : -1, u = levels[i][2] ? 1 : -1;
    const std::array<double, 7> x = {l, c, u, l * c, l * u, c * u, l * c * u};
    double v = d.mean + (i / 8 % 2 ? r : -r);
    for (size_t k = 0; k < 7; ++k) v += d.coef[k] * x[k];
    y.push_back(v);
  }
  return y;
}

void check_published(const Published& d) {
  const Levels levels = balanced(384);
  const Vec y = observations(d, levels);
  const Anova a = anova3(levels, y, factors);
  ASSERT_EQ(a.terms.size(), 7u);
  EXPECT_TRUE(a.has_f);
  EXPECT_EQ(a.note, "");
  EXPECT_EQ(a.residual_df, 3064);
  EXPECT_NEAR(a.residual_ss, d.residual_ss, 1e-6 * d.residual_ss);
  for (size_t k = 0; k < 7; ++k) {
    // the sheet gives effects to 4 decimals: SS = 3072 coef^2 is known to 2 * 0.00005 / |coef|
    const double rel = 1e-5 + 2 * 0.00005 / std::fabs(d.coef[k]);
    EXPECT_NEAR(a.terms[k].coef, d.coef[k], 1e-9) << k;
    EXPECT_NEAR(a.terms[k].ss, d.ss[k], rel * d.ss[k]) << a.terms[k].name;
    EXPECT_NEAR(a.terms[k].f, d.f[k], (rel + 1e-3 / d.f[k]) * d.f[k]) << a.terms[k].name;
    EXPECT_NEAR(a.terms[k].eta2, d.eta2[k], 0.005 * d.eta2[k]) << a.terms[k].name;
  }
  EXPECT_EQ(a.terms[1].p, 0);  // underflows: printed as "< 1e-300"
}

TEST(Anova, PublishedFashionMnist) {
  check_published(fashion);
  const Levels levels = balanced(384);
  const Anova a = anova3(levels, observations(fashion, levels), factors);
  EXPECT_EQ(a.terms[4].name, "linear x relu");
  EXPECT_NEAR(a.terms[4].p, 0.219, 5e-4);
}
TEST(Anova, PublishedCifar10) { check_published(cifar); }

TEST(Anova, TypeThreeOnUnbalancedCellsIgnoresOrder) {
  // y = 3 + 2 linear exactly, unequal cell counts, noise symmetric within cells: SS of the others 0
  Levels levels;
  Vec y;
  for (int cell = 0; cell < 8; ++cell) {
    for (int i = 0; i < 2 + 2 * (cell % 3); ++i) {
      levels.push_back({cell & 1, cell >> 1 & 1, cell >> 2 & 1});
      y.push_back(3 + (cell & 1 ? 2 : -2) + (i % 2 ? 0.1 : -0.1));
    }
  }
  const Anova a = anova3(levels, y, factors);
  ASSERT_EQ(a.terms.size(), 7u);
  EXPECT_NEAR(a.terms[0].coef, 2, 1e-12);
  for (size_t k = 1; k < 7; ++k) EXPECT_NEAR(a.terms[k].ss, 0, 1e-10) << a.terms[k].name;
  EXPECT_GT(a.terms[0].eta2, 0.99);
}

TEST(Anova, DeterministicQuantityHasNoF) {
  const Levels levels = balanced(3);
  Vec y;
  for (const auto& l : levels) y.push_back(1e9 + 1e7 * l[0] + 5e8 * l[1] + 3e5 * l[2]);
  const Anova a = anova3(levels, y, factors);
  ASSERT_EQ(a.terms.size(), 7u);
  EXPECT_FALSE(a.has_f);
  EXPECT_NE(a.note.find("identical"), std::string::npos);
  EXPECT_TRUE(std::isnan(a.terms[0].f));
  EXPECT_GT(a.terms[1].eta2, 0.99);
  double all = 0;
  for (const AnovaTerm& t : a.terms) all += t.eta2;
  EXPECT_NEAR(all, 1, 1e-12);
}

TEST(Anova, SmallAndBrokenDesigns) {
  const Anova single = anova3(balanced(1), {1, 2, 3, 4, 5, 6, 7, 9}, factors);
  EXPECT_EQ(single.terms.size(), 7u);
  EXPECT_FALSE(single.has_f);
  EXPECT_NE(single.note.find("One run per cell"), std::string::npos);

  // one cell missing: main effects only
  Levels seven = balanced(2);
  seven.erase(seven.begin() + 7), seven.pop_back();
  Vec y;
  for (size_t i = 0; i < seven.size(); ++i)
    y.push_back(seven[i][1] * 10.0 + static_cast<double>(i % 3));
  const Anova missing = anova3(seven, y, factors);
  EXPECT_EQ(missing.terms.size(), 3u);
  EXPECT_TRUE(missing.has_f);
  EXPECT_NE(missing.note.find("7 of the 8"), std::string::npos);

  // only conv varies, and linear is confounded with it
  const Anova alias = anova3({{0, 0, 1}, {1, 1, 1}, {0, 0, 1}, {1, 1, 1}}, {1, 4, 2, 5}, factors);
  ASSERT_EQ(alias.terms.size(), 1u);
  EXPECT_EQ(alias.terms[0].name, "linear");
  const Anova constant = anova3({{0, 0, 1}, {0, 0, 1}}, {1, 2}, factors);
  EXPECT_TRUE(constant.terms.empty());
  EXPECT_FALSE(constant.note.empty());
  EXPECT_TRUE(anova3({}, {}, factors).terms.empty());
  EXPECT_THROW(anova3({{0, 0, 0}}, {}, factors), shape_error);
}

// The planted fault: sequential (type I) sums of squares differ on unbalanced data, and 0/1 coding
// changes the main effects; both would pass a balanced-only test without interactions.
TEST(Anova, TellsTypeThreeFromSequential) {
  const Levels levels = {{0, 0, 0}, {0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {1, 1, 0}, {1, 1, 0},
                         {0, 0, 1}, {1, 0, 1}, {0, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}};
  const Vec y = {1, 1.5, 3, 2.2, 7, 7.4, 1.1, 2.7, 2.0, 9, 9.1, 2.4};
  const Anova a = anova3(levels, y, factors);
  // reference: numpy.linalg.lstsq on the same columns
  const Vec ss = {38.50666666666666,   26.46,
                  0.32666666666666644, 12.041666666666668,
                  0.4816666666666668,  0.8816666666666668,
                  0.6666666666666664};
  for (size_t k = 0; k < 7; ++k) EXPECT_NEAR(a.terms[k].ss, ss[k], 1e-9) << a.terms[k].name;
  EXPECT_NEAR(a.residual_ss, 0.29, 1e-9);
}

TEST(KruskalWallis, PublishedConvEffect) {
  // complete separation of 1536 against 1536: the study's H for conv on both data sets
  const Levels levels = balanced(384);
  for (const Published* d : {&fashion, &cifar}) {
    Vec y = observations(*d, levels);
    for (size_t i = 0; i < y.size(); ++i) y[i] += 1e-7 * static_cast<double>(i);  // no ties
    std::vector<Vec> groups(2);
    for (size_t i = 0; i < y.size(); ++i) groups[static_cast<size_t>(levels[i][1])].push_back(y[i]);
    EXPECT_NEAR(kruskal_wallis(groups).h, d->kw_conv, 1e-3);
  }
}

TEST(KruskalWallis, TiesAndDegenerateGroups) {
  // ranks 1 2.5 2.5 | 4.5 4.5 6: H = (12/42 * 2 * 3 * 1.5^2) / (1 - 12/210) = 3.857143/0.942857
  const KruskalWallis k = kruskal_wallis({{1, 2, 2}, {3, 3, 4}});
  EXPECT_NEAR(k.h, 3.8571428571428572 / (1 - 12.0 / 210), 1e-12);
  EXPECT_EQ(k.df, 1);
  EXPECT_NEAR(k.p, std::erfc(std::sqrt(k.h / 2)), 1e-12);  // chi^2 with 1 df
  EXPECT_TRUE(std::isnan(kruskal_wallis({{1, 1}, {1, 1}}).h));
  EXPECT_TRUE(std::isnan(kruskal_wallis({{1, 2, 3}}).h));
  EXPECT_TRUE(std::isnan(kruskal_wallis({}).h));
}

TEST(Special, ClosedForms) {
  for (const double x : {1e-12, 0.01, 0.3, 0.5, 0.77, 0.999}) {
    for (const double b : {0.5, 1.0, 3.0, 47.5, 1532.0}) {
      EXPECT_NEAR(incomplete_beta(1, b, x), -std::expm1(b * std::log1p(-x)), 1e-11);
      EXPECT_NEAR(incomplete_beta(b, 1, x), std::pow(x, b), 1e-11);
      EXPECT_NEAR(incomplete_beta(b, 2.5, x) + incomplete_beta(2.5, b, 1 - x), 1, 1e-10);
    }
  }
  EXPECT_NEAR(incomplete_beta(0.5, 0.5, 0.2), 2 / M_PI * std::asin(std::sqrt(0.2)), 1e-14);
  for (const double x : {1e-9, 0.4, 1.0, 3.7, 20.0, 300.0}) {
    EXPECT_NEAR(incomplete_gamma_q(1, x), std::exp(-x), 1e-14);
    EXPECT_NEAR(incomplete_gamma_q(0.5, x), std::erfc(std::sqrt(x)), 1e-14);
    EXPECT_NEAR(incomplete_gamma_q(2, x), (1 + x) * std::exp(-x), 1e-14);
  }
  // relative accuracy in the tail
  EXPECT_NEAR(incomplete_gamma_q(0.5, 300) / std::erfc(std::sqrt(300.0)), 1, 1e-10);
  EXPECT_THROW(incomplete_beta(0, 1, 0.5), value_error);
  EXPECT_THROW(incomplete_gamma_q(1, -1), value_error);
}

TEST(Special, CriticalValuesOfTheTables) {
  EXPECT_NEAR(chi2_survival(3.841458820694124, 1), 0.05, 1e-12);
  EXPECT_NEAR(chi2_survival(5.991464547107979, 2), 0.05, 1e-12);
  EXPECT_NEAR(f_survival(4.964602743730711, 1, 10), 0.05, 1e-9);
  EXPECT_NEAR(f_survival(2.866081402, 4, 20), 0.05, 1e-8);
  // F(1, d) is the square of t(d): t = 1 with 1 degree of freedom has 2-sided p = 1/2
  EXPECT_NEAR(f_survival(1, 1, 1), 0.5, 1e-14);
  EXPECT_EQ(f_survival(0, 1, 5), 1);
  EXPECT_TRUE(std::isnan(f_survival(NAN, 1, 5)));
  EXPECT_EQ(f_survival(INFINITY, 1, 5), 0);
}

TEST(Correlation, KnownValues) {
  const Vec x = {10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5};  // Anscombe 1973, set I
  const Vec y = {8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68};
  EXPECT_NEAR(pearson(x, y), 0.81642051634484, 1e-12);
  EXPECT_NEAR(spearman(x, y), 0.81818181818182, 1e-12);
  const Fit f = least_squares({x}, y);
  EXPECT_NEAR(f.coef[0], 3.0000909090909, 1e-10);
  EXPECT_NEAR(f.coef[1], 0.50009090909091, 1e-12);
  EXPECT_NEAR(f.r2, 0.66654245950833, 1e-12);
  EXPECT_NEAR(pearson(x, y) * pearson(x, y), f.r2, 1e-12);
  EXPECT_NEAR(spearman({1, 2, 3, 4}, {1, 4, 9, 16}), 1, 1e-15);
  EXPECT_TRUE(std::isnan(pearson({1, 1}, {1, 2})));
  EXPECT_TRUE(std::isnan(pearson({}, {})));
  EXPECT_THROW(pearson({1}, {}), shape_error);
}

TEST(LeastSquares, RecoversAcrossScalesAndSurvivesCollinearity) {
  std::mt19937_64 rng(3);
  std::uniform_real_distribution<double> u(0, 1);
  Vec flops, bytes, y;
  for (int i = 0; i < 50; ++i) {
    flops.push_back(1e12 * u(rng)), bytes.push_back(1e9 * u(rng));
    y.push_back(5 + 4.6e-12 * flops.back() + 2.4e-10 * bytes.back());
  }
  const Fit f = least_squares({flops, bytes}, y);
  EXPECT_NEAR(f.coef[0], 5, 1e-9);
  EXPECT_NEAR(f.coef[1] / 4.6e-12, 1, 1e-9);
  EXPECT_NEAR(f.coef[2] / 2.4e-10, 1, 1e-9);
  EXPECT_NEAR(f.r2, 1, 1e-12);
  const Fit twice = least_squares({flops, flops, bytes}, y);
  EXPECT_EQ(twice.rank, 3);
  EXPECT_NEAR(twice.r2, 1, 1e-12);
  EXPECT_TRUE(std::isnan(least_squares({{1, 2, 3}}, {4, 4, 4}).r2));
  EXPECT_THROW(least_squares({{1, 2}}, {1}), shape_error);
}

TEST(Summary, MeanSdQuantileRanks) {
  EXPECT_DOUBLE_EQ(mean({1, 2, 6}), 3);
  EXPECT_DOUBLE_EQ(sd({1, 2, 6}), std::sqrt(7.0));
  EXPECT_TRUE(std::isnan(mean({})));
  EXPECT_TRUE(std::isnan(sd({1})));
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.25), 1.75);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 1), 4);
  EXPECT_THROW(quantile({}, 0.5), value_error);
  EXPECT_EQ(ranks({30, 10, 30, 20}), (Vec{3.5, 1, 3.5, 2}));
}

TEST(Pareto, PublishedMeansLeaveEverySevenLinearCellDominated) {
  // cells 310 311 710 711 340 341 740 741 (linear, conv, relu), Fashion-MNIST
  const Vec joules = {834.9, 854.9, 858.0, 881.1, 1600.7, 1650.0, 1700.7, 1745.0};
  const Vec accuracy = {.8660, .8681, .8605, .8627, .8764, .8710, .8727, .8669};
  EXPECT_EQ(pareto_front(accuracy, joules), (std::vector<size_t>{0, 1, 4}));
  const Vec joules10 = {2641.8, 2644.2, 2817.9, 2929.9, 4354.2, 4585.4, 4670.5, 4751.5};
  const Vec accuracy10 = {.5589, .5812, .5684, .5794, .6520, .6543, .6227, .6258};
  EXPECT_EQ(pareto_front(accuracy10, joules10), (std::vector<size_t>{0, 1, 4, 5}));
}

TEST(Pareto, EqualPointsStayAndNanLeaves) {
  EXPECT_EQ(pareto_front({1, 1, NAN, 2}, {5, 5, 1, NAN}), (std::vector<size_t>{0, 1}));
  EXPECT_TRUE(pareto_front({}, {}).empty());
}

TEST(Bootstrap, RatioCoversAndIsRepeatable) {
  std::mt19937_64 rng(5);
  std::normal_distribution<double> noise(0, 1);
  int covered = 0;
  for (int t = 0; t < 200; ++t) {
    Vec a, b;
    for (int i = 0; i < 30; ++i) a.push_back(10 + noise(rng)), b.push_back(20 + noise(rng));
    const Interval ci = bootstrap_ratio(a, b, false, 400);
    covered += ci.lo <= 0.5 && 0.5 <= ci.hi;
    ASSERT_LE(ci.lo, ci.hi);
  }
  EXPECT_GE(covered, 178);  // 95 % nominal; binomial lower bound at about 4 sd
  EXPECT_EQ(bootstrap_ratio({1, 2, 3}, {2, 3, 5}, false).lo,
            bootstrap_ratio({1, 2, 3}, {2, 3, 5}, false).lo);
  // pairs in a fixed ratio have no spread when resampled together
  const Interval paired = bootstrap_ratio({1, 2, 3}, {2, 4, 6}, true);
  EXPECT_NEAR(paired.lo, 0.5, 1e-12);
  EXPECT_NEAR(paired.hi, 0.5, 1e-12);
  EXPECT_TRUE(std::isnan(bootstrap_ratio({1}, {2}, true).lo));
  EXPECT_THROW(bootstrap_ratio({1, 2}, {1}, true), shape_error);
}

}  // namespace
}  // namespace wattle::green
