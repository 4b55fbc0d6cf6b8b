// Shapiro and Wilk's test (Biometrika 52, 1965) with the approximations of Royston (Statistics and
// Computing 2, 1992; Applied Statistics 44, 1995, AS R94), whose coefficients stand below.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "green/hypothesis.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <size_t N>
double polynomial(const std::array<double, N>& c, double x) {
  double y = 0;
  for (size_t i = N; i-- > 0;) y = y * x + c[i];
  return y;
}

// Weights of the upper half of the order statistics, largest first: a_n, a_{n-1}, ... Those of the
// lower half are their negatives. m are the expected normal scores (Blom 1958); all weights are
// proportional to them but the outer one (n > 5: two), which is a polynomial in 1 / sqrt(n).
Vec upper_weights(size_t n) {
  constexpr std::array outer = {0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056};
  constexpr std::array second = {0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633};
  if (n == 3) return {std::sqrt(0.5)};
  const double nd = static_cast<double>(n), u = 1 / std::sqrt(nd);
  Vec m;
  double squares = 0;  // over all n scores
  for (size_t i = 0; i < n / 2; ++i) {
    m.push_back(-normal_quantile((static_cast<double>(i) + 0.625) / (nd + 0.25)));
    squares += 2 * m.back() * m.back();
  }
  Vec a = m;
  const size_t fitted = n > 5 ? 2 : 1;
  a[0] = m[0] / std::sqrt(squares) + polynomial(outer, u);
  if (fitted == 2) a[1] = m[1] / std::sqrt(squares) + polynomial(second, u);
  double rest_m = squares, rest_a = 1;  // the weights have the sum of squares 1
  for (size_t i = 0; i < fitted; ++i) rest_m -= 2 * m[i] * m[i], rest_a -= 2 * a[i] * a[i];
  for (size_t i = fitted; i < a.size(); ++i) a[i] = m[i] * std::sqrt(rest_a / rest_m);
  return a;
}

// 1 - W for sorted x: one minus the squared correlation of the values with their weights, as a
// product, so that it keeps its digits when W is near 1.
double one_minus_w(const Vec& x) {
  const Vec a = upper_weights(x.size());
  const double m = mean(x), range = x.back() - x.front();
  double aa = 0, xx = 0, ax = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    aa += 2 * a[i] * a[i];
    ax += a[i] * ((x[x.size() - 1 - i] - x[i]) / range);
  }
  for (const double v : x) xx += (v - m) / range * ((v - m) / range);
  const double root = std::sqrt(aa * xx);
  return std::max(0.0, (root - ax) * (root + ax) / (aa * xx));
}

// P(W < w) for normal data: a function of 1 - W is close to normal, and its mean and standard
// deviation are polynomials in n (n <= 11) or log n.
double p_of(double gap, size_t n) {
  const double nd = static_cast<double>(n);
  if (n == 3) {  // exact; W of three values is at least 0.75
    const double p = 6 / M_PI * (std::asin(std::sqrt(1 - gap)) - std::asin(std::sqrt(0.75)));
    return std::clamp(p, 0.0, 1.0);
  }
  if (gap == 0) return 1;
  double y = std::log(gap), mu = 0, log_sigma = 0;
  if (n <= 11) {
    constexpr std::array mu_n = {0.544, -0.39978, 0.025054, -6.714e-4};
    constexpr std::array sigma_n = {1.3822, -0.77857, 0.062767, -0.0020322};
    const double gamma = -2.273 + 0.459 * nd;
    if (y >= gamma) return 0;  // beyond the least W there is
    y = -std::log(gamma - y);
    mu = polynomial(mu_n, nd), log_sigma = polynomial(sigma_n, nd);
  } else {
    constexpr std::array mu_n = {-1.5861, -0.31082, -0.083751, 0.0038915};
    constexpr std::array sigma_n = {-0.4803, -0.082676, 0.0030302};
    mu = polynomial(mu_n, std::log(nd)), log_sigma = polynomial(sigma_n, std::log(nd));
  }
  return normal_cdf(-(y - mu) / std::exp(log_sigma));
}

}  // namespace

ShapiroWilk shapiro_wilk(Vec x) {
  for (const double v : x) {
    if (!std::isfinite(v)) return {nan, nan};
  }
  if (x.size() < 3 || x.size() > 5000) return {nan, nan};
  std::sort(x.begin(), x.end());
  if (x.front() == x.back()) return {nan, nan};
  const double gap = one_minus_w(x);
  return {1 - gap, p_of(gap, x.size())};
}

}  // namespace wattle::green
