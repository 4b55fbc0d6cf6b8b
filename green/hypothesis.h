// Tests of hypotheses and effect sizes for comparing repeated runs. NaN where a test does not exist
// (too few values, no variance), never a made-up 0 or 1.
#pragma once
#include <string>
#include <vector>

#include "green/stats.h"

namespace wattle::green {

double normal_cdf(double z);
/// Inverse of normal_cdf for p in (0, 1): Abramowitz and Stegun 26.2.23, polished on erfc.
double normal_quantile(double p);
/// P(|T| > |t|) for Student's t with df degrees of freedom.
double student_t_two_sided(double t, double df);

struct ShapiroWilk {
  double w = 0, p = 0;
};
/// Test of normality (Royston 1995, AS R94). NaN for n < 3, n > 5000 or values all equal.
ShapiroWilk shapiro_wilk(const Vec& x);

struct Welch {
  double t = 0, df = 0, p = 0;
};
/// Difference of means without assuming equal variances, two-sided. NaN for fewer than 2 values on
/// a side or no variance at all.
Welch welch(const Vec& a, const Vec& b);

struct MannWhitney {
  double u = 0;  ///< pairs in which a exceeds b, ties count half
  double p = 0;  ///< two-sided
  bool exact = false;
};
/// Rank-sum test. Exact when there are no ties and both sides have at most 20 values; otherwise the
/// normal approximation with tie and continuity correction.
MannWhitney mann_whitney(const Vec& a, const Vec& b);

/// (mean a - mean b) / pooled standard deviation.
double cohens_d(const Vec& a, const Vec& b);
/// Cohen's d times the small-sample factor 1 - 3 / (4 (na + nb) - 9).
double hedges_g(const Vec& a, const Vec& b);
/// Probability that a value of a exceeds one of b, ties half (Vargha and Delaney 2000).
double a12(const Vec& a, const Vec& b);
/// 2 A12 - 1 (Cliff 1993).
double cliffs_delta(const Vec& a, const Vec& b);
/// "negligible", "small", "medium" or "large": |delta| below .147, .33, .474 (Romano et al. 2006).
std::string magnitude_of_delta(double delta);
/// The same for Cohen's d: below .2, .5, .8 (Cohen 1988).
std::string magnitude_of_d(double d);

/// Holm's step-down correction (Holm 1979); in the order given. NaN stays NaN and does not count.
Vec holm(const Vec& p);

/// Indices of the values within `sigmas` standard deviations of the mean, one pass. All of them
/// when there is no variance.
std::vector<size_t> within_sigmas(const Vec& x, double sigmas = 3);

}  // namespace wattle::green
