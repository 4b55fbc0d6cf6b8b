// Shapiro and Wilk's W with Royston's approximations: P. Royston, "Remark AS R94: a remark on
// algorithm AS 181", Applied Statistics 44 (1995).
#include <algorithm>
#include <cmath>
#include <limits>

#include "green/hypothesis.h"

namespace wattle::green {
namespace {

// c[0] + c[1] x + c[2] x^2 + ...
template <size_t N>
double polynomial(const double (&c)[N], double x) {
  double y = 0;
  for (size_t i = N; i-- > 0;) y = y * x + c[i];
  return y;
}

// Weights of the n order statistics, antisymmetric; only the upper half is returned, largest first.
Vec royston_weights(size_t n) {
  if (n == 3) return {std::sqrt(0.5)};
  const size_t half = n / 2;
  Vec m(half);
  double sum = 0;
  for (size_t i = 0; i < half; ++i) {
    m[i] = -normal_quantile((double(i + 1) - 0.375) / (double(n) + 0.25));
    sum += 2 * m[i] * m[i];
  }
  const double root = std::sqrt(sum), u = 1 / std::sqrt(double(n));
  constexpr double c1[] = {0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056};
  constexpr double c2[] = {0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633};
  Vec a(half);
  const double first = m[0] / root + polynomial(c1, u);
  const size_t corrected = n > 5 ? 2 : 1;
  double left = sum - 2 * m[0] * m[0], taken = 1 - 2 * first * first;
  a[0] = first;
  if (corrected == 2) {
    a[1] = m[1] / root + polynomial(c2, u);
    left -= 2 * m[1] * m[1];
    taken -= 2 * a[1] * a[1];
  }
  const double scale = std::sqrt(left / taken);
  for (size_t i = corrected; i < half; ++i) a[i] = m[i] / scale;
  return a;
}

double p_value(double w, size_t count) {
  const double n = double(count);
  if (count == 3) {
    constexpr double six_over_pi = 1.90985931710274, least = 1.04719755119660;  // asin(sqrt(3/4))
    return std::clamp(six_over_pi * (std::asin(std::sqrt(w)) - least), 0.0, 1.0);
  }
  double y = std::log1p(-w), mu = 0, sigma = 0;
  if (count <= 11) {
    constexpr double g[] = {-2.273, 0.459};
    constexpr double cm[] = {0.544, -0.39978, 0.025054, -6.714e-4};
    constexpr double cs[] = {1.3822, -0.77857, 0.062767, -0.0020322};
    const double gamma = polynomial(g, n);
    if (y >= gamma) return 1e-99;
    y = -std::log(gamma - y);
    mu = polynomial(cm, n);
    sigma = std::exp(polynomial(cs, n));
  } else {
    constexpr double cm[] = {-1.5861, -0.31082, -0.083751, 0.0038915};
    constexpr double cs[] = {-0.4803, -0.082676, 0.0030302};
    mu = polynomial(cm, std::log(n));
    sigma = std::exp(polynomial(cs, std::log(n)));
  }
  return 0.5 * std::erfc((y - mu) / sigma / std::sqrt(2.0));
}

}  // namespace

double normal_quantile(double p) {
  if (!(p > 0 && p < 1)) return std::numeric_limits<double>::quiet_NaN();
  // A rational start is polished by Newton's method on erfc; two steps reach double precision.
  const double tail = std::min(p, 1 - p);
  const double t = std::sqrt(-2 * std::log(tail));
  double z = t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                     (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  for (int k = 0; k < 4; ++k) {
    const double error = 0.5 * std::erfc(z / std::sqrt(2.0)) - tail;
    const double density = std::exp(-z * z / 2) / std::sqrt(2 * 3.14159265358979323846);
    if (!(density > 0)) break;
    const double step = error / density;
    z += step / (1 - z * step / 2);  // Halley's correction
  }
  return p < 0.5 ? -z : z;
}

ShapiroWilk shapiro_wilk(const Vec& given) {
  constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
  const size_t n = given.size();
  Vec x = given;
  std::sort(x.begin(), x.end());
  if (n < 3 || n > 5000 || !(x.back() > x.front())) return {nan_value, nan_value};
  const Vec a = royston_weights(n);
  const double m = mean(x), range = x.back() - x.front();
  double num = 0, ss = 0;
  for (size_t i = 0; i < a.size(); ++i) num += a[i] * (x[n - 1 - i] - x[i]) / range;
  for (const double v : x) ss += (v - m) / range * ((v - m) / range);
  const double w = std::min(1.0, num * num / ss);
  return {w, p_value(w, n)};
}

}  // namespace wattle::green
