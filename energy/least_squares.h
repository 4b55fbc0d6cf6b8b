// Small dense least squares for the calibration: a handful of columns, some dozen rows.
#pragma once
#include <cstddef>
#include <vector>

namespace wattle::energy {

/// Row-major matrix.
struct Matrix {
  int rows = 0, cols = 0;
  std::vector<double> v;
  Matrix() = default;
  Matrix(int r, int c)
      : rows(r), cols(c), v(static_cast<std::size_t>(r) * static_cast<std::size_t>(c)) {}
  double& operator()(int i, int j) {
    return v[std::size_t(i) * std::size_t(cols) + std::size_t(j)];
  }
  double operator()(int i, int j) const {
    return v[std::size_t(i) * std::size_t(cols) + std::size_t(j)];
  }
};

/// Eigenvalues of a symmetric matrix, ascending (cyclic Jacobi rotations).
std::vector<double> symmetric_eigenvalues(Matrix a);
/// Largest over smallest singular value of `x` with its columns scaled to norm 1; infinite for a
/// zero or dependent column.
double scaled_condition(const Matrix& x);
/// x'x of the columns in `use`.
Matrix gram(const Matrix& x, const std::vector<int>& use);
/// Inverse of a symmetric positive definite matrix; empty when it is not.
Matrix inverse_spd(const Matrix& a);
/// min |x c - y| with c >= 0 (Lawson and Hanson's active set).
std::vector<double> nonnegative_least_squares(const Matrix& x, const std::vector<double>& y);

}  // namespace wattle::energy
