// Least squares and analysis of variance.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "green/stats.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double dot(const Vec& a, const Vec& b, size_t from) {
  double s = 0;
  for (size_t i = from; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

// The Householder reflection that maps v[from..] onto a multiple of e_from, applied to c.
void reflect(const Vec& v, double vv, size_t from, Vec& c) {
  const double k = 2 * dot(v, c, from) / vv;
  for (size_t i = from; i < c.size(); ++i) c[i] -= k * v[i];
}

struct Solution {
  Vec coef;
  double rss = 0;
  int rank = 0;
};

// min |y - columns coef|^2. Columns are scaled to unit length and taken by greatest remaining
// length; one whose remainder is below 1e-10 depends on the others and gets coefficient 0.
Solution solve(std::vector<Vec> columns, Vec y) {
  const size_t p = columns.size();
  Vec scale(p, 1);
  std::vector<size_t> order(p);
  for (size_t j = 0; j < p; ++j) {
    order[j] = j;
    const double length = std::sqrt(dot(columns[j], columns[j], 0));
    if (length > 0) scale[j] = length;
    for (double& v : columns[j]) v /= scale[j];
  }
  size_t rank = 0;
  for (; rank < std::min(p, y.size()); ++rank) {
    size_t best = rank;
    double best_norm = -1;
    for (size_t j = rank; j < p; ++j) {
      const double norm = dot(columns[order[j]], columns[order[j]], rank);
      if (norm > best_norm) best = j, best_norm = norm;
    }
    if (!(best_norm > 1e-20)) break;
    std::swap(order[rank], order[best]);
    Vec v = columns[order[rank]];
    const double length = std::sqrt(best_norm);
    v[rank] += v[rank] < 0 ? -length : length;
    const double vv = dot(v, v, rank);
    for (size_t j = rank; j < p; ++j) reflect(v, vv, rank, columns[order[j]]);
    reflect(v, vv, rank, y);
  }
  Solution s{Vec(p, 0), dot(y, y, rank), static_cast<int>(rank)};
  for (size_t i = rank; i-- > 0;) {  // back substitution, R[i][j] = columns[order[j]][i]
    double t = y[i];
    for (size_t j = i + 1; j < rank; ++j) t -= columns[order[j]][i] * s.coef[order[j]];
    s.coef[order[i]] = t / columns[order[i]][i];
  }
  for (size_t j = 0; j < p; ++j) s.coef[j] /= scale[j];
  return s;
}

double total_ss(const Vec& y) {
  const double m = mean(y);
  double ss = 0;
  for (const double v : y) ss += (v - m) * (v - m);
  return ss;
}

// The terms of the design as index masks over the factors: bit 0 linear, 1 conv, 2 relu.
constexpr std::array<int, 7> all_terms = {1, 2, 4, 3, 5, 6, 7};

std::string term_name(int mask, const std::array<std::string_view, 3>& names) {
  std::string s;
  for (size_t f = 0; f < 3; ++f) {
    if (mask >> f & 1) s += str(s.empty() ? "" : " x ", names[f]);
  }
  return s;
}

Vec term_column(int mask, const std::vector<std::array<int, 3>>& levels) {
  Vec c(levels.size(), 1);
  for (size_t i = 0; i < c.size(); ++i) {
    for (size_t f = 0; f < 3; ++f) {
      if (mask >> f & 1) c[i] *= levels[i][f] ? 1 : -1;
    }
  }
  return c;
}

// Which terms the data can tell apart: all seven with 8 filled cells, else the main effects whose
// two levels both occur and that are not confounded with each other.
std::vector<int> estimable_terms(const std::vector<std::array<int, 3>>& levels, std::string& note) {
  std::array<bool, 8> cell{};
  for (const auto& l : levels) cell[static_cast<size_t>(l[0] + 2 * l[1] + 4 * l[2])] = true;
  const auto filled = std::count(cell.begin(), cell.end(), true);
  if (filled == 8) return {all_terms.begin(), all_terms.end()};
  note = str("Only ", filled, " of the 8 cells have runs: interactions are not estimated.");
  std::vector<int> terms;
  std::vector<Vec> columns = {Vec(levels.size(), 1)};
  for (const int mask : {1, 2, 4}) {
    columns.push_back(term_column(mask, levels));
    if (solve(columns, Vec(levels.size(), 0)).rank == static_cast<int>(columns.size())) {
      terms.push_back(mask);
    } else {
      columns.pop_back();
    }
  }
  return terms;
}

}  // namespace

Fit least_squares(const std::vector<Vec>& predictors, const Vec& y) {
  std::vector<Vec> columns = {Vec(y.size(), 1)};
  for (const Vec& x : predictors) {
    if (x.size() != y.size()) {
      throw shape_error(
          str("least_squares: found a predictor of ", x.size(), " values, expected ", y.size()));
    }
    columns.push_back(x);
  }
  const Solution s = solve(columns, y);
  const double tss = total_ss(y);
  return {s.coef, s.rss, tss, s.rank, tss > 0 ? 1 - s.rss / tss : nan};
}

Anova anova3(const std::vector<std::array<int, 3>>& levels, const Vec& y,
             const std::array<std::string_view, 3>& names) {
  if (levels.size() != y.size()) {
    throw shape_error(str("anova3: found ", levels.size(), " rows of levels and ", y.size(),
                          " values, expected as many"));
  }
  Anova a;
  const std::vector<int> masks = estimable_terms(levels, a.note);
  if (masks.empty()) {
    a.note = "The runs do not vary any factor: nothing to analyse.";
    return a;
  }
  std::vector<Vec> full = {Vec(y.size(), 1)};
  for (const int m : masks) full.push_back(term_column(m, levels));
  const Solution fit = solve(full, y);
  a.residual_ss = fit.rss;
  a.residual_df = static_cast<int>(y.size()) - fit.rank;
  double all = fit.rss;
  for (size_t k = 0; k < masks.size(); ++k) {
    std::vector<Vec> without = full;
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(k + 1));
    const double ss = std::max(0.0, solve(without, y).rss - fit.rss);
    a.terms.push_back({term_name(masks[k], names), fit.coef[k + 1], ss, nan, nan, nan});
    all += ss;
  }
  for (AnovaTerm& t : a.terms) t.eta2 = all > 0 ? t.ss / all : nan;

  // rounding leaves some 1e-30 of the scale of y; below 1e-18 the residual is none
  const double scale = std::max(total_ss(y), dot(y, y, 0) * 1e-10);
  const bool deterministic = !(a.residual_ss > 1e-18 * scale);
  const char* why = a.residual_df < 1 ? "One run per cell leaves no residual: F and p need repeats."
                    : deterministic   ? "Repeats are identical, so the residual is zero: F and p "
                                        "do not exist, and \u03b7\u00b2 is exact."
                                      : nullptr;
  if (why) {
    a.note += str(a.note.empty() ? "" : " ", why);
    a.residual_ss = 0;
    return a;
  }
  a.has_f = true;
  for (AnovaTerm& t : a.terms) {
    t.f = t.ss / (a.residual_ss / a.residual_df);
    t.p = f_survival(t.f, 1, a.residual_df);
  }
  return a;
}

}  // namespace wattle::green
