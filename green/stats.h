// Statistics of the studies. Everything is deterministic; resampling takes a seed.
// Undefined results (correlation with a constant, sd of one value) are NaN, never 0.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace wattle::green {

using Vec = std::vector<double>;

double mean(const Vec& x);  ///< NaN when empty
double sd(const Vec& x);    ///< sample standard deviation, n - 1; NaN for fewer than 2 values
/// Quantile by linear interpolation between order statistics (type 7 of Hyndman & Fan 1996, the
/// default of R and NumPy). Throws value_error when x is empty or p is outside [0, 1].
double quantile(Vec x, double p);
/// Ranks 1..n, ties get their mean rank.
Vec ranks(const Vec& x);

/// Pearson's correlation; NaN for fewer than 2 pairs or a constant side. Throws shape_error on
/// different lengths.
double pearson(const Vec& x, const Vec& y);
/// Spearman's correlation: Pearson's of the ranks.
double spearman(const Vec& x, const Vec& y);

/// Least squares with intercept.
struct Fit {
  Vec coef;        ///< intercept first, then one per predictor
  double rss = 0;  ///< residual sum of squares
  double tss = 0;  ///< total sum of squares about the mean
  int rank = 0;    ///< below coef.size() when predictors are collinear
  double r2 = 0;   ///< 1 - rss / tss; NaN when y is constant
};
/// y ~ 1 + x_1 + ... + x_p by Householder QR with column pivoting on scaled columns. A collinear
/// predictor gets the coefficient 0. Throws shape_error on different lengths.
Fit least_squares(const std::vector<Vec>& predictors, const Vec& y);

/// Regularised incomplete beta function I_x(a, b), a, b > 0, x in [0, 1] (DLMF 8.17.22).
double incomplete_beta(double a, double b, double x);
/// Upper regularised incomplete gamma function Q(a, x), a > 0, x >= 0 (DLMF 8.11.4 and 8.9.2).
double incomplete_gamma_q(double a, double x);
double f_survival(double f, double df1, double df2);  ///< P(F > f)
double chi2_survival(double x, double df);            ///< P(X > x)

/// One line of an ANOVA table; each term of a 2 x 2 x 2 design has one degree of freedom.
struct AnovaTerm {
  std::string name;  ///< "linear", "linear x conv", ...
  double coef = 0;   ///< effect in +-1 coding: half the difference between the two levels
  double ss = 0;     ///< type III: RSS(without the term) - RSS(full)
  double f = 0, p = 0;
  double eta2 = 0;  ///< ss / (sum of all ss + residual ss)
};
struct Anova {
  std::vector<AnovaTerm> terms;
  double residual_ss = 0;
  int residual_df = 0;
  /// Why F and p are NaN, or why terms are missing; empty when all is well.
  std::string note;
  bool has_f = false;
};
/// Type-III analysis of variance of a 2 x 2 x 2 design with sum (+-1) coding.
///
/// levels[i] = the three factors of observation i, each 0 or 1. Unbalanced cells are fine. Where
/// not all 8 cells are present, only main effects are fitted, and of those only what the data can
/// tell apart; where a cell has no replicate, or replicates are identical (a deterministic
/// quantity), F and p do not exist and `note` says why. Throws shape_error on different lengths.
Anova anova3(const std::vector<std::array<int, 3>>& levels, const Vec& y,
             const std::array<std::string_view, 3>& names);

struct KruskalWallis {
  double h = 0, p = 0;
  int df = 0;
};
/// Kruskal-Wallis rank test with tie correction; NaN for fewer than two non-empty groups or all
/// values equal.
KruskalWallis kruskal_wallis(const std::vector<Vec>& groups);

/// Indices of the points that no other point beats: value as high and cost as low as possible.
/// Sorted by cost; NaN points are left out; of equal points all stay.
std::vector<size_t> pareto_front(const Vec& value, const Vec& cost);

struct Interval {
  double lo = 0, mid = 0, hi = 0;
};
/// mean(a) / mean(b) with a percentile bootstrap interval. Paired resampling (the same indices on
/// both sides) needs equal lengths. NaN bounds for fewer than 2 values on a side.
Interval bootstrap_ratio(const Vec& a, const Vec& b, bool paired, int resamples = 2000,
                         double level = 0.95, uint64_t seed = 1);

}  // namespace wattle::green
