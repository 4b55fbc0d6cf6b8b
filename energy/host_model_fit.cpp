// The fit behind `wattle calibrate`; what is refused here is never used to model a joule.
#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "energy/host_model.h"
#include "energy/least_squares.h"

namespace wattle::energy {
namespace {

// Columns of all windows: seconds, bytes, operations by dtype.
std::vector<std::string> columns_of(const std::vector<CalibrationWindow>& windows) {
  std::set<std::string> dtypes;
  for (const CalibrationWindow& w : windows)
    for (const auto& [dtype, n] : w.work.operations)
      if (n > 0) dtypes.insert(dtype);
  std::vector<std::string> columns{"seconds", "bytes"};
  for (const std::string& d : dtypes) columns.push_back("operations " + d);
  return columns;
}

// A row per window, divided by its joules: the left side becomes 1 everywhere.
Matrix design(const std::vector<CalibrationWindow>& windows,
              const std::vector<std::string>& columns) {
  Matrix x(static_cast<int>(windows.size()), static_cast<int>(columns.size()));
  for (int i = 0; i < x.rows; ++i) {
    const CalibrationWindow& w = windows[static_cast<size_t>(i)];
    x(i, 0) = w.work.seconds / w.joules;
    x(i, 1) = w.work.bytes / w.joules;
    for (int c = 2; c < x.cols; ++c) {
      const std::string dtype = columns[static_cast<size_t>(c)].substr(sizeof "operations");
      const auto n = w.work.operations.find(dtype);
      if (n != w.work.operations.end()) x(i, c) = n->second / w.joules;
    }
  }
  return x;
}

std::vector<double> fit(const Matrix& x) {
  return nonnegative_least_squares(x, std::vector<double>(static_cast<size_t>(x.rows), 1.0));
}

// Mean relative error on the windows of each kernel by the fit without that kernel.
double leave_one_kernel_out(const Matrix& x, const std::vector<CalibrationWindow>& windows) {
  std::set<std::string> kernels;
  for (const CalibrationWindow& w : windows) kernels.insert(w.kernel);
  double error = 0;
  int n = 0;
  for (const std::string& left_out : kernels) {
    std::vector<int> kept;
    for (int i = 0; i < x.rows; ++i)
      if (windows[static_cast<size_t>(i)].kernel != left_out) kept.push_back(i);
    Matrix part(static_cast<int>(kept.size()), x.cols);
    for (int i = 0; i < part.rows; ++i)
      for (int j = 0; j < x.cols; ++j) part(i, j) = x(kept[static_cast<size_t>(i)], j);
    const std::vector<double> c = fit(part);
    for (int i = 0; i < x.rows; ++i) {
      if (windows[static_cast<size_t>(i)].kernel != left_out) continue;
      double predicted = 0;
      for (int j = 0; j < x.cols; ++j) predicted += x(i, j) * c[static_cast<size_t>(j)];
      error += std::fabs(predicted - 1);
      ++n;
    }
  }
  return n > 0 ? error / n : 1;
}

// Covariance of the coefficients from the residuals; returns the residuals' relative sd.
double covariance_of(const Matrix& x, const std::vector<double>& coef, std::vector<double>& out) {
  double rss = 0;
  for (int i = 0; i < x.rows; ++i) {
    double r = 1;
    for (int j = 0; j < x.cols; ++j) r -= x(i, j) * coef[static_cast<size_t>(j)];
    rss += r * r;
  }
  const double variance = rss / std::max(1, x.rows - x.cols);
  std::vector<double> norm(static_cast<size_t>(x.cols));
  Matrix scaled = x;  // inverted in scaled columns: watts and joules per byte differ by 1e10
  for (int j = 0; j < x.cols; ++j) {
    for (int i = 0; i < x.rows; ++i) norm[size_t(j)] += x(i, j) * x(i, j);
    norm[size_t(j)] = std::sqrt(norm[size_t(j)]);
    for (int i = 0; i < x.rows; ++i) scaled(i, j) /= norm[size_t(j)];
  }
  std::vector<int> all;
  for (int j = 0; j < x.cols; ++j) all.push_back(j);
  const Matrix inverse = inverse_spd(gram(scaled, all));
  out.assign(coef.size() * coef.size(), 0);
  for (int a = 0; a < inverse.rows; ++a)
    for (int b = 0; b < inverse.cols; ++b)
      out[size_t(a) * coef.size() + size_t(b)] =
          variance * inverse(a, b) / (norm[size_t(a)] * norm[size_t(b)]);
  return std::sqrt(variance);
}

std::string refusal(const HostModel& m) {
  if (!(m.condition <= max_condition))
    return str("the windows cannot tell time, bytes and operations apart: condition number ",
               m.condition, ", expected at most ", max_condition,
               "; mix kernels of other intensities and idle windows in");
  const size_t n = m.coef.size();
  for (size_t i = 0; i < n; ++i) {
    const double sd = std::sqrt(std::max(0.0, m.covariance[i * n + i]));
    if (!(m.coef[i] - 1.96 * sd > 0))
      return str("the coefficient of ", m.columns[i], " is ", m.coef[i], " +- ", 1.96 * sd,
                 " (95 %), which covers 0");
  }
  if (!(m.loo_mape <= max_loo_mape))
    return str("kernels left out of the fit are predicted ", 100 * m.loo_mape,
               " % off on average, expected at most ", 100 * max_loo_mape, " %");
  return {};
}

void check(const std::vector<CalibrationWindow>& windows) {
  for (const CalibrationWindow& w : windows)
    if (!(w.joules > 0) || !std::isfinite(w.joules) || !(w.work.seconds > 0))
      throw value_error(str("calibration: window '", w.kernel, "' of ", w.work.seconds, " s and ",
                            w.joules, " J found, expected both > 0"));
}

}  // namespace

FitReport fit_host_model(const std::vector<CalibrationWindow>& windows, const HostId& host) {
  check(windows);
  FitReport out;
  HostModel& m = out.model;
  m.host = host;
  m.columns = columns_of(windows);
  if (windows.size() < 2 * m.columns.size()) {
    out.refused =
        str(static_cast<int64_t>(windows.size()), " windows for ",
            static_cast<int64_t>(m.columns.size()), " coefficients, expected twice as many");
    return out;
  }
  const Matrix x = design(windows, m.columns);
  m.condition = scaled_condition(x);
  m.coef = fit(x);
  m.residual_rel_sd = covariance_of(x, m.coef, m.covariance);
  m.loo_mape = leave_one_kernel_out(x, windows);
  out.refused = refusal(m);
  return out;
}

}  // namespace wattle::energy
