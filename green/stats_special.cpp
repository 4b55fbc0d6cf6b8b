// Incomplete beta and gamma functions, and the tails of F and chi^2 that they give.
#include <cmath>
#include <limits>

#include "core/error.h"
#include "green/stats.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double tiny =
    1e-300;  // stands for 0 in a denominator (Lentz 1976, Thompson & Barnett 1986)
constexpr double eps = 1e-16;
constexpr int max_steps = 100000;

double not_zero(double v) { return std::fabs(v) < tiny ? tiny : v; }

// Continued fraction of I_x(a, b) (DLMF 8.17.22) by the modified Lentz method:
//   d_{2m} = m (b-m) x / ((a+2m-1)(a+2m)),  d_{2m+1} = -(a+m)(a+b+m) x / ((a+2m)(a+2m+1))
double beta_fraction(double a, double b, double x) {
  double c = 1, d = 1 / not_zero(1 - (a + b) * x / (a + 1)), h = d;
  for (int m = 1; m < max_steps; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / not_zero(1 + even * d), c = not_zero(1 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / not_zero(1 + odd * d), c = not_zero(1 + odd / c);
    h *= d * c;
    if (std::fabs(d * c - 1) < eps) break;
  }
  return h;
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  if (!(a > 0) || !(b > 0) || !(x >= 0 && x <= 1)) {
    throw value_error(str("incomplete_beta: found a = ", a, ", b = ", b, ", x = ", x,
                          ", expected a, b > 0 and x in [0, 1]"));
  }
  if (x == 0 || x == 1) return x;
  // x^a (1-x)^b / B(a, b); log1p keeps the digits of 1 - x
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  // the fraction converges fast below the mean; above it, I_x(a, b) = 1 - I_{1-x}(b, a)
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double incomplete_gamma_q(double a, double x) {
  if (!(a > 0) || !(x >= 0)) {
    throw value_error(
        str("incomplete_gamma_q: found a = ", a, ", x = ", x, ", expected a > 0 and x >= 0"));
  }
  if (x == 0) return 1;
  const double front = std::exp(a * std::log(x) - x - std::lgamma(a));
  if (x < a + 1) {  // P(a, x) = x^a e^-x / Gamma(a) sum x^n / (a (a+1) ... (a+n)), DLMF 8.11.4
    double term = 1 / a, total = term;
    for (int n = 1; n < max_steps && term > total * eps; ++n) total += term *= x / (a + n);
    return 1 - front * total;
  }
  // Q(a, x) = x^a e^-x / Gamma(a) * 1/(x+1-a- 1(1-a)/(x+3-a- 2(2-a)/(x+5-a- ...))), DLMF 8.9.2
  double b = x + 1 - a, c = 1 / tiny, d = 1 / not_zero(b), h = d;
  for (int n = 1; n < max_steps; ++n) {
    const double an = -n * (n - a);
    b += 2;
    d = 1 / not_zero(an * d + b), c = not_zero(b + an / c);
    h *= d * c;
    if (std::fabs(d * c - 1) < eps) break;
  }
  return front * h;
}

double f_survival(double f, double df1, double df2) {
  if (std::isnan(f) || !(df1 > 0) || !(df2 > 0)) return nan;
  if (f <= 0) return 1;
  return incomplete_beta(df2 / 2, df1 / 2, df2 / (df2 + df1 * f));
}

double chi2_survival(double x, double df) {
  if (std::isnan(x) || !(df > 0)) return nan;
  return x <= 0 ? 1 : incomplete_gamma_q(df / 2, x / 2);
}

}  // namespace wattle::green
