#include "green/hypothesis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace wattle::green {
namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

double variance(const Vec& x) {
  const double s = sd(x);
  return s * s;
}

// Number of ways in which the ranks of `m` of m + n values give each U from 0 to m n: the
// coefficients of the Gaussian binomial, by the recurrence over the larger side.
Vec u_counts(size_t m, size_t n) {
  Vec count(m * n + 1);
  count[0] = 1;
  // Multiply by (1 - q^(n+i)) and divide by (1 - q^i) for i = 1..m.
  for (size_t i = 1; i <= m; ++i) {
    for (size_t k = count.size(); k-- > n + i;) count[k] -= count[k - n - i];
    for (size_t k = i; k < count.size(); ++k) count[k] += count[k - i];
  }
  return count;
}

double exact_p(double u, size_t m, size_t n) {
  const Vec count = u_counts(m, n);
  double all = 0, below = 0;
  const double low = std::min(u, double(m * n) - u);
  for (size_t k = 0; k < count.size(); ++k) {
    all += count[k];
    if (double(k) <= low) below += count[k];
  }
  return std::min(1.0, 2 * below / all);
}

double approximate_p(double u, const Vec& all, size_t m, size_t n) {
  std::map<double, double> ties;
  for (const double v : all) ++ties[v];
  const double total = double(m + n);
  double tied = 0;
  for (const auto& [v, t] : ties) tied += t * t * t - t;
  const double var = double(m) * double(n) / 12 * (total + 1 - tied / (total * (total - 1)));
  if (!(var > 0)) return nan_value;
  const double off = std::fabs(u - double(m * n) / 2) - 0.5;
  return std::min(1.0, 2 * (1 - normal_cdf(off / std::sqrt(var))));
}

}  // namespace

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

double student_t_two_sided(double t, double df) {
  if (!(df > 0) || std::isnan(t)) return nan_value;
  return incomplete_beta(df / 2, 0.5, df / (df + t * t));
}

Welch welch(const Vec& a, const Vec& b) {
  const double va = variance(a) / double(a.size()), vb = variance(b) / double(b.size());
  if (a.size() < 2 || b.size() < 2 || !(va + vb > 0)) return {nan_value, nan_value, nan_value};
  Welch w;
  w.t = (mean(a) - mean(b)) / std::sqrt(va + vb);
  w.df = (va + vb) * (va + vb) / (va * va / double(a.size() - 1) + vb * vb / double(b.size() - 1));
  w.p = student_t_two_sided(w.t, w.df);
  return w;
}

MannWhitney mann_whitney(const Vec& a, const Vec& b) {
  MannWhitney r;
  if (a.empty() || b.empty()) return {nan_value, nan_value, false};
  Vec all = a;
  all.insert(all.end(), b.begin(), b.end());
  const Vec rank = ranks(all);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += rank[i];
  r.u = sum - double(a.size()) * double(a.size() + 1) / 2;
  Vec sorted = all;
  std::sort(sorted.begin(), sorted.end());
  const bool ties = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
  r.exact = !ties && a.size() <= 20 && b.size() <= 20;
  r.p = r.exact ? exact_p(r.u, a.size(), b.size()) : approximate_p(r.u, all, a.size(), b.size());
  return r;
}

double cohens_d(const Vec& a, const Vec& b) {
  if (a.size() < 2 || b.size() < 2) return nan_value;
  const double df = double(a.size() + b.size() - 2);
  const double pooled =
      std::sqrt((double(a.size() - 1) * variance(a) + double(b.size() - 1) * variance(b)) / df);
  return pooled > 0 ? (mean(a) - mean(b)) / pooled : nan_value;
}

double hedges_g(const Vec& a, const Vec& b) {
  return cohens_d(a, b) * (1 - 3 / (4 * double(a.size() + b.size()) - 9));
}

double a12(const Vec& a, const Vec& b) {
  if (a.empty() || b.empty()) return nan_value;
  return mann_whitney(a, b).u / (double(a.size()) * double(b.size()));
}

double cliffs_delta(const Vec& a, const Vec& b) { return 2 * a12(a, b) - 1; }

std::string magnitude_of_delta(double delta) {
  const double d = std::fabs(delta);
  if (std::isnan(d)) return "unknown";
  return d < 0.147 ? "negligible" : d < 0.33 ? "small" : d < 0.474 ? "medium" : "large";
}

std::string magnitude_of_d(double d) {
  d = std::fabs(d);
  if (std::isnan(d)) return "unknown";
  return d < 0.2 ? "negligible" : d < 0.5 ? "small" : d < 0.8 ? "medium" : "large";
}

Vec holm(const Vec& p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i)
    if (!std::isnan(p[i])) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  Vec out(p.size(), nan_value);
  double highest = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    highest = std::max(highest, std::min(1.0, p[order[k]] * double(order.size() - k)));
    out[order[k]] = highest;
  }
  return out;
}

std::vector<size_t> within_sigmas(const Vec& x, double sigmas) {
  const double m = mean(x), s = sd(x);
  std::vector<size_t> kept;
  for (size_t i = 0; i < x.size(); ++i)
    if (!(s > 0) || std::fabs(x[i] - m) <= sigmas * s) kept.push_back(i);
  return kept;
}

}  // namespace wattle::green
