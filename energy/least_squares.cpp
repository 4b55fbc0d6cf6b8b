#include "energy/least_squares.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace wattle::energy {
namespace {

std::vector<double> norms(const Matrix& x) {
  std::vector<double> n(static_cast<size_t>(x.cols));
  for (int i = 0; i < x.rows; ++i)
    for (int j = 0; j < x.cols; ++j) n[size_t(j)] += x(i, j) * x(i, j);
  for (double& e : n) e = std::sqrt(e);
  return n;
}

// One Jacobi rotation in the plane (p, q) that makes a(p, q) zero.
void rotate(Matrix& a, int p, int q) {
  const double theta = (a(q, q) - a(p, p)) / (2 * a(p, q));
  const double t = (theta >= 0 ? 1 : -1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  for (int k = 0; k < a.rows; ++k) {
    const double kp = a(k, p), kq = a(k, q);
    a(k, p) = c * kp - s * kq;
    a(k, q) = s * kp + c * kq;
  }
  for (int k = 0; k < a.rows; ++k) {
    const double pk = a(p, k), qk = a(q, k);
    a(p, k) = c * pk - s * qk;
    a(q, k) = s * pk + c * qk;
  }
}

// Solution of the normal equations on the columns in `use`; empty when they are dependent.
std::vector<double> solve_on(const Matrix& x, const std::vector<double>& y,
                             const std::vector<int>& use) {
  const Matrix inverse = inverse_spd(gram(x, use));
  if (inverse.rows == 0) return {};
  std::vector<double> xty(use.size()), c(use.size());
  for (size_t j = 0; j < use.size(); ++j)
    for (int i = 0; i < x.rows; ++i) xty[j] += x(i, use[j]) * y[size_t(i)];
  for (size_t i = 0; i < use.size(); ++i)
    for (size_t j = 0; j < use.size(); ++j) c[i] += inverse(int(i), int(j)) * xty[j];
  return c;
}

}  // namespace

std::vector<double> symmetric_eigenvalues(Matrix a) {
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0, all = 0;
    for (int i = 0; i < a.rows; ++i)
      for (int j = 0; j < a.cols; ++j) {
        all += a(i, j) * a(i, j);
        if (i != j) off += a(i, j) * a(i, j);
      }
    if (off <= 1e-30 * all) break;
    for (int p = 0; p < a.rows; ++p)
      for (int q = p + 1; q < a.cols; ++q)
        if (a(p, q) != 0) rotate(a, p, q);
  }
  std::vector<double> e;
  for (int i = 0; i < a.rows; ++i) e.push_back(a(i, i));
  std::sort(e.begin(), e.end());
  return e;
}

double scaled_condition(const Matrix& x) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const std::vector<double> n = norms(x);
  Matrix scaled = x;
  std::vector<int> all;
  for (int j = 0; j < x.cols; ++j) {
    if (!(n[size_t(j)] > 0)) return infinite;
    for (int i = 0; i < x.rows; ++i) scaled(i, j) /= n[size_t(j)];
    all.push_back(j);
  }
  const std::vector<double> e = symmetric_eigenvalues(gram(scaled, all));
  return e.empty() || !(e.front() > 1e-15 * e.back()) ? infinite : std::sqrt(e.back() / e.front());
}

Matrix gram(const Matrix& x, const std::vector<int>& use) {
  const int n = static_cast<int>(use.size());
  Matrix g(n, n);
  for (int a = 0; a < n; ++a)
    for (int b = 0; b < n; ++b)
      for (int i = 0; i < x.rows; ++i) g(a, b) += x(i, use[size_t(a)]) * x(i, use[size_t(b)]);
  return g;
}

Matrix inverse_spd(const Matrix& a) {
  const int n = a.rows;
  Matrix l(n, n);  // Cholesky: a = l l'
  for (int j = 0; j < n; ++j) {
    for (int i = j; i < n; ++i) {
      double s = a(i, j);
      for (int k = 0; k < j; ++k) s -= l(i, k) * l(j, k);
      if (i == j && !(s > 1e-14 * a(j, j))) return {};
      l(i, j) = i == j ? std::sqrt(s) : s / l(j, j);
    }
  }
  Matrix inverse(n, n);
  for (int c = 0; c < n; ++c) {
    std::vector<double> z(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) {
      double s = i == c ? 1 : 0;
      for (int k = 0; k < i; ++k) s -= l(i, k) * z[size_t(k)];
      z[size_t(i)] = s / l(i, i);
    }
    for (int i = n - 1; i >= 0; --i) {
      double s = z[size_t(i)];
      for (int k = i + 1; k < n; ++k) s -= l(k, i) * inverse(k, c);
      inverse(i, c) = s / l(i, i);
    }
  }
  return inverse;
}

std::vector<double> nonnegative_least_squares(const Matrix& given, const std::vector<double>& y) {
  Matrix x = given;  // columns scaled, so that one tolerance fits watts and joules per byte
  std::vector<double> scale = norms(x);
  for (int j = 0; j < x.cols; ++j)
    if (!(scale[size_t(j)] > 0)) scale[size_t(j)] = 1;
  for (int i = 0; i < x.rows; ++i)
    for (int j = 0; j < x.cols; ++j) x(i, j) /= scale[size_t(j)];
  const size_t n = static_cast<size_t>(x.cols);
  std::vector<double> c(n);
  std::vector<int> free;
  for (size_t round = 0; round < 3 * n + 3; ++round) {
    // The column outside the set along which the error falls fastest.
    int best = -1;
    double steepest = 1e-12;
    for (int j = 0; j < x.cols; ++j) {
      if (std::find(free.begin(), free.end(), j) != free.end()) continue;
      double slope = 0;
      for (int i = 0; i < x.rows; ++i) {
        double r = y[size_t(i)];
        for (int k = 0; k < x.cols; ++k) r -= x(i, k) * c[size_t(k)];
        slope += x(i, j) * r;
      }
      if (slope > steepest) best = j, steepest = slope;
    }
    if (best < 0) break;
    free.push_back(best);
    for (;;) {
      const std::vector<double> z = solve_on(x, y, free);
      if (z.empty()) {  // dependent on the others: it explains nothing that they do not
        free.pop_back();
        break;
      }
      double step = 1;
      for (size_t k = 0; k < z.size(); ++k)
        if (z[k] <= 0) {
          const double at = c[size_t(free[k])];
          step = std::min(step, at > 0 ? at / (at - z[k]) : 0.0);
        }
      for (size_t k = 0; k < z.size(); ++k)
        c[size_t(free[k])] += step * (z[k] - c[size_t(free[k])]);
      if (step >= 1) break;
      std::erase_if(free, [&](int j) {
        const bool leaves = c[size_t(j)] <= 1e-14;
        if (leaves) c[size_t(j)] = 0;
        return leaves;
      });
      if (free.empty()) break;
    }
  }
  for (size_t j = 0; j < n; ++j) c[j] /= scale[j];
  return c;
}

}  // namespace wattle::energy
