// Tests and effect sizes for comparing two samples, as energy experiments need them. Everything is
// deterministic. Undefined results (a test of one value, of constants, of NaN) are NaN, never 0.
#pragma once
#include <string_view>
#include <utility>
#include <vector>

#include "green/stats.h"

namespace wattle::green {

/// Distribution function of the standard normal, accurate in the lower tail.
double normal_cdf(double z);
/// Its inverse; -inf and inf at 0 and 1. Throws value_error outside [0, 1].
double normal_quantile(double p);
/// P(|T| > |t|) of Student's t with `df` > 0 degrees of freedom, which need not be whole.
double student_t_two_sided(double t, double df);

/// Shapiro and Wilk's test of normality.
struct ShapiroWilk {
  double w = 0;  ///< near 1 for normal data
  double p = 0;  ///< small: not normal
};
/// By Royston's approximation (1995, AS R94); its p is exact for n = 3. NaN for fewer than 3 or
/// more than 5000 values, for constants and where a value is not finite.
ShapiroWilk shapiro_wilk(Vec x);

/// Welch's test: do the means differ, whatever the variances?
struct Welch {
  double t = 0;   ///< sign of mean(a) - mean(b)
  double df = 0;  ///< Welch and Satterthwaite
  double p = 0;   ///< two-sided
};
/// NaN for fewer than 2 values on a side, or when both sides are constant.
Welch welch_t(const Vec& a, const Vec& b);

/// Mann and Whitney's test: is a value of one sample more often the larger one?
struct MannWhitney {
  double u = 0;        ///< pairs in which a is larger, ties count half
  double p = 0;        ///< two-sided
  bool exact = false;  ///< p by counting all orders: no ties, at most 20 values on a side
};
/// Otherwise p comes from the normal approximation with tie and continuity correction. NaN when a
/// side is empty or holds a NaN; p = 1 when all values are equal.
MannWhitney mann_whitney(const Vec& a, const Vec& b);

/// Difference of the means in pooled standard deviations (Cohen 1988); NaN when both are constant.
double cohens_d(const Vec& a, const Vec& b);
/// cohens_d times 1 - 3 / (4 df - 1), which takes out its bias in small samples (Hedges 1981).
double hedges_g(const Vec& a, const Vec& b);
/// P(a > b) + P(a = b) / 2 for a value of each (Vargha and Delaney 2000); 0.5: no difference.
double vargha_delaney_a12(const Vec& a, const Vec& b);
/// P(a > b) - P(a < b) = 2 A12 - 1 (Cliff 1993).
double cliffs_delta(const Vec& a, const Vec& b);

// "negligible", "small", "medium", "large"; "unknown" for NaN. The limits are conventions.
std::string_view d_magnitude(double d);          ///< 0.2, 0.5, 0.8 (Cohen 1988)
std::string_view a12_magnitude(double a12);      ///< 0.56, 0.64, 0.71 (Vargha and Delaney 2000)
std::string_view cliff_magnitude(double delta);  ///< 0.147, 0.33, 0.474 (Romano et al. 2006)

/// p values corrected for their number by Holm's method (1979), in the order given. NaN stays NaN
/// and is not counted.
Vec holm(const Vec& p);

/// Spearman's rank correlation with its two-sided p by Student's t on n - 2 degrees of freedom.
struct RankCorrelation {
  double rho = 0, p = 0;
};
/// NaN for fewer than 3 pairs or a constant side. Throws shape_error on different lengths.
RankCorrelation spearman_test(const Vec& x, const Vec& y);

/// For every value whether it stays: false where it is more than 3 sample standard deviations from
/// the mean of all. One pass: removing shrinks the deviation, and repeating it would cut good
/// values. Fewer than 11 values cannot be so far out ((n - 1) / sqrt(n) <= 3), so all stay.
std::vector<bool> within_three_sigma(const Vec& x);

}  // namespace wattle::green
