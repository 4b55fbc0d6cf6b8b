#include "green/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

void same_length(const char* what, size_t a, size_t b) {
  if (a != b) throw shape_error(str(what, ": found ", a, " and ", b, " values, expected as many"));
}

// Indices of x in ascending order.
std::vector<size_t> sorted_order(const Vec& x) {
  std::vector<size_t> order(x.size());
  for (size_t i = 0; i < x.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
  return order;
}

// splitmix64 (Steele, Lea, Flood 2014): one 64-bit word per call.
uint64_t next_random(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// One resampled mean; `state` advances, so the same state draws the same indices.
double resampled_mean(const Vec& x, uint64_t& state) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[next_random(state) % x.size()];
  return sum / static_cast<double>(x.size());
}

}  // namespace

double mean(const Vec& x) {
  if (x.empty()) return nan;
  double sum = 0;
  for (const double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

double sd(const Vec& x) {
  if (x.size() < 2) return nan;
  const double m = mean(x);
  double ss = 0;
  for (const double v : x) ss += (v - m) * (v - m);
  return std::sqrt(ss / static_cast<double>(x.size() - 1));
}

double quantile(Vec x, double p) {
  if (x.empty() || !(p >= 0 && p <= 1)) {
    throw value_error(str("quantile: found ", x.size(), " values and p = ", p,
                          ", expected at least one value and p in [0, 1]"));
  }
  std::sort(x.begin(), x.end());
  const double at = p * static_cast<double>(x.size() - 1);
  const auto i = static_cast<size_t>(at);
  if (i + 1 >= x.size()) return x.back();
  return x[i] + (at - static_cast<double>(i)) * (x[i + 1] - x[i]);
}

Vec ranks(const Vec& x) {
  const std::vector<size_t> order = sorted_order(x);
  Vec r(x.size());
  for (size_t i = 0; i < x.size();) {
    size_t end = i + 1;
    while (end < x.size() && x[order[end]] == x[order[i]]) ++end;
    const double shared = static_cast<double>(i + 1 + end) / 2;  // mean of i+1 .. end
    for (; i < end; ++i) r[order[i]] = shared;
  }
  return r;
}

double pearson(const Vec& x, const Vec& y) {
  same_length("pearson", x.size(), y.size());
  const double mx = mean(x), my = mean(y);
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx), yy += (y[i] - my) * (y[i] - my);
    xy += (x[i] - mx) * (y[i] - my);
  }
  if (x.size() < 2 || !(xx > 0) || !(yy > 0)) return nan;
  return std::clamp(xy / (std::sqrt(xx) * std::sqrt(yy)), -1.0, 1.0);
}

double spearman(const Vec& x, const Vec& y) {
  same_length("spearman", x.size(), y.size());
  return pearson(ranks(x), ranks(y));
}

KruskalWallis kruskal_wallis(const std::vector<Vec>& groups) {
  Vec all;
  int k = 0;
  for (const Vec& g : groups) all.insert(all.end(), g.begin(), g.end()), k += !g.empty();
  const double n = static_cast<double>(all.size());
  const Vec r = ranks(all);
  // H = 12 / (N (N+1)) sum n_g (mean rank_g - (N+1)/2)^2, over 1 - sum (t^3 - t) / (N^3 - N)
  double spread = 0;
  size_t at = 0;
  for (const Vec& g : groups) {
    double sum = 0;
    for (size_t i = 0; i < g.size(); ++i) sum += r[at++];
    const double ng = static_cast<double>(g.size());
    if (ng > 0) spread += ng * (sum / ng - (n + 1) / 2) * (sum / ng - (n + 1) / 2);
  }
  std::sort(all.begin(), all.end());
  double ties = 0;
  for (size_t i = 0; i < all.size();) {
    size_t end = i + 1;
    while (end < all.size() && all[end] == all[i]) ++end;
    const double t = static_cast<double>(end - i);
    ties += t * t * t - t, i = end;
  }
  const double correction = 1 - ties / (n * n * n - n);
  if (k < 2 || !(correction > 0)) return {nan, nan, std::max(k - 1, 0)};
  const double h = 12 / (n * (n + 1)) * spread / correction;
  return {h, chi2_survival(h, k - 1), k - 1};
}

std::vector<size_t> pareto_front(const Vec& value, const Vec& cost) {
  same_length("pareto_front", value.size(), cost.size());
  std::vector<size_t> front;
  for (const size_t i : sorted_order(cost)) {
    if (std::isnan(value[i]) || std::isnan(cost[i])) continue;
    bool beaten = false;
    for (size_t j = 0; j < value.size() && !beaten; ++j) {
      beaten =
          value[j] >= value[i] && cost[j] <= cost[i] && (value[j] > value[i] || cost[j] < cost[i]);
    }
    if (!beaten) front.push_back(i);
  }
  return front;
}

Interval bootstrap_ratio(const Vec& a, const Vec& b, bool paired, int resamples, double level,
                         uint64_t seed) {
  if (paired) same_length("bootstrap_ratio", a.size(), b.size());
  const double mid = mean(a) / mean(b);
  if (a.size() < 2 || b.size() < 2 || resamples < 1) return {nan, mid, nan};
  Vec draws(static_cast<size_t>(resamples));
  uint64_t state = seed;
  for (double& d : draws) {
    uint64_t other = state;  // paired: b is drawn with the indices of a
    const double top = resampled_mean(a, state);
    d = top / resampled_mean(b, paired ? other : state);
  }
  const double tail = (1 - level) / 2;
  return {quantile(draws, tail), mid, quantile(draws, 1 - tail)};
}

}  // namespace wattle::green
