#include "green/hypothesis.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();
constexpr size_t exact_limit = 20;  // values on a side up to which all orders are counted

bool has_nan(const Vec& x) {
  return std::any_of(x.begin(), x.end(), [](double v) { return std::isnan(v); });
}

// Variance of the mean.
double mean_variance(const Vec& x) {
  const double s = sd(x);
  return s * s / static_cast<double>(x.size());
}

// In how many orders of na + nb different values a wins u of the na nb pairs, for u = 0 .. na nb.
// The largest of all values is in a and wins nb pairs, or in b and wins none:
// N(na, nb, u) = N(na - 1, nb, u - nb) + N(na, nb - 1, u).
Vec order_counts(size_t na, size_t nb) {
  std::vector<Vec> row(nb + 1, Vec{1});  // na = 0
  for (size_t a = 1; a <= na; ++a) {
    row[0] = {1};
    for (size_t b = 1; b <= nb; ++b) {
      Vec next(a * b + 1, 0.0);
      for (size_t u = 0; u < row[b].size(); ++u) next[u + b] += row[b][u];
      for (size_t u = 0; u < row[b - 1].size(); ++u) next[u] += row[b - 1][u];
      row[b] = std::move(next);
    }
  }
  return row[nb];
}

double exact_p(double u, size_t na, size_t nb) {
  const Vec counts = order_counts(na, nb);
  const double low = std::min(u, static_cast<double>(na * nb) - u);
  double all = 0, tail = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    all += counts[i];
    if (static_cast<double>(i) <= low) tail += counts[i];
  }
  return std::min(1.0, 2 * tail / all);
}

// Sum of t^3 - t over the groups of t equal values.
double tie_sum(Vec all) {
  std::sort(all.begin(), all.end());
  double ties = 0;
  for (size_t i = 0; i < all.size();) {
    size_t end = i + 1;
    while (end < all.size() && all[end] == all[i]) ++end;
    const double t = static_cast<double>(end - i);
    ties += t * t * t - t, i = end;
  }
  return ties;
}

std::string_view magnitude(double size, double small, double medium, double large) {
  if (std::isnan(size)) return "unknown";
  if (size < small) return "negligible";
  return size < medium ? "small" : size < large ? "medium" : "large";
}

}  // namespace

double normal_cdf(double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; }

double normal_quantile(double p) {
  if (!(p >= 0 && p <= 1)) {
    throw value_error(str("normal_quantile: found p = ", p, ", expected p in [0, 1]"));
  }
  if (p == 0) return -inf;
  if (p > 0.5) return -normal_quantile(1 - p);
  // start: Hastings 1955 (Abramowitz and Stegun 26.2.23), off by at most 4.5e-4
  const double s = std::sqrt(-2 * std::log(p));
  double z = (2.515517 + s * (0.802853 + s * 0.010328)) /
                 (1 + s * (1.432788 + s * (0.189269 + s * 0.001308))) -
             s;
  // Halley's steps treble the digits: z'' / z' of the quantile is z
  for (int step = 0; step < 2; ++step) {
    const double e = (normal_cdf(z) - p) * std::sqrt(2 * M_PI) * std::exp(z * z / 2);
    if (std::isfinite(e)) z -= e / (1 + z * e / 2);  // exp overflows for the smallest p
  }
  return z;
}

double student_t_two_sided(double t, double df) {
  if (std::isnan(t) || !(df > 0)) return nan;
  if (std::isinf(t)) return 0;
  return incomplete_beta(df / 2, 0.5, df / (df + t * t));  // DLMF 8.17, F = t^2
}

Welch welch_t(const Vec& a, const Vec& b) {
  const double va = mean_variance(a), vb = mean_variance(b), v = va + vb;
  if (!(v > 0)) return {nan, nan, nan};
  const double na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  const double t = (mean(a) - mean(b)) / std::sqrt(v);
  // shares of v, so that tiny variances do not underflow when squared
  const double wa = va / v, wb = vb / v;
  const double df = 1 / (wa * wa / (na - 1) + wb * wb / (nb - 1));
  return {t, df, student_t_two_sided(t, df)};
}

MannWhitney mann_whitney(const Vec& a, const Vec& b) {
  if (a.empty() || b.empty() || has_nan(a) || has_nan(b)) return {nan, nan, false};
  Vec all = a;
  all.insert(all.end(), b.begin(), b.end());
  const Vec r = ranks(all);
  const double na = static_cast<double>(a.size()), nb = static_cast<double>(b.size()), n = na + nb;
  double rank_sum = 0;
  for (size_t i = 0; i < a.size(); ++i) rank_sum += r[i];
  MannWhitney result;
  result.u = rank_sum - na * (na + 1) / 2;
  const double ties = tie_sum(std::move(all));
  if (ties == 0 && std::max(a.size(), b.size()) <= exact_limit) {
    result.exact = true;
    result.p = exact_p(result.u, a.size(), b.size());
    return result;
  }
  const double variance = na * nb / 12 * (n + 1 - ties / (n * (n - 1)));
  if (!(variance > 0)) {
    result.p = 1;
    return result;
  }
  const double off = std::max(0.0, std::fabs(result.u - na * nb / 2) - 0.5);
  result.p = std::min(1.0, 2 * normal_cdf(-off / std::sqrt(variance)));
  return result;
}

double cohens_d(const Vec& a, const Vec& b) {
  if (a.size() < 2 || b.size() < 2) return nan;
  const double na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  const double sa = sd(a), sb = sd(b);
  const double pooled = std::sqrt(((na - 1) * sa * sa + (nb - 1) * sb * sb) / (na + nb - 2));
  return pooled > 0 ? (mean(a) - mean(b)) / pooled : nan;
}

double hedges_g(const Vec& a, const Vec& b) {
  const double df = static_cast<double>(a.size() + b.size()) - 2;
  return cohens_d(a, b) * (1 - 3 / (4 * df - 1));
}

double vargha_delaney_a12(const Vec& a, const Vec& b) {
  return mann_whitney(a, b).u / (static_cast<double>(a.size()) * static_cast<double>(b.size()));
}

double cliffs_delta(const Vec& a, const Vec& b) { return 2 * vargha_delaney_a12(a, b) - 1; }

std::string_view d_magnitude(double d) { return magnitude(std::fabs(d), 0.2, 0.5, 0.8); }
std::string_view a12_magnitude(double a12) {
  return magnitude(0.5 + std::fabs(a12 - 0.5), 0.56, 0.64, 0.71);
}
std::string_view cliff_magnitude(double delta) {
  return magnitude(std::fabs(delta), 0.147, 0.33, 0.474);
}

Vec holm(const Vec& p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return p[x] < p[y]; });
  Vec out(p.size(), nan);
  double highest = 0;  // a larger p never gets a smaller corrected one
  for (size_t k = 0; k < order.size(); ++k) {
    highest = std::max(highest, p[order[k]] * static_cast<double>(order.size() - k));
    out[order[k]] = std::min(1.0, highest);
  }
  return out;
}

RankCorrelation spearman_test(const Vec& x, const Vec& y) {
  const double rho = has_nan(x) || has_nan(y) ? nan : spearman(x, y);
  if (x.size() < 3 || std::isnan(rho)) return {nan, nan};
  const double df = static_cast<double>(x.size()) - 2;
  const double rest = 1 - rho * rho;
  const double t = rest > 0 ? rho * std::sqrt(df / rest) : inf;
  return {rho, student_t_two_sided(t, df)};
}

std::vector<bool> within_three_sigma(const Vec& x) {
  const double m = mean(x), limit = 3 * sd(x);
  std::vector<bool> keep(x.size());
  // written so that an undefined deviation (one value) keeps it
  for (size_t i = 0; i < x.size(); ++i) keep[i] = !(std::fabs(x[i] - m) > limit);
  return keep;
}

}  // namespace wattle::green
