// The calibrated model of one host: idle power, joules per operation and per byte, fitted on
// windows that a meter measured.
//
//   E = P0 T + sum over dtypes a_d F_d + b B        T seconds, F_d operations, B unique bytes
//
// A calibration belongs to the machine, governor and number of threads that it was made with; it
// says so in its file and is not used elsewhere.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/cost.h"
#include "energy/joules.h"

namespace wattle::energy {

/// The model's variables of some work.
struct Work {
  double seconds = 0;
  std::map<std::string, double> operations;  ///< by dtype name, see operations_of()
  double bytes = 0;                          ///< unique bytes, read and written
  Work& operator+=(const Work& o);
};

/// Operations that the model prices alike: every FLOP, comparison and integer operation once.
double operations_of(const Cost& cost);
Work work_of(const Cost& cost, const std::string& dtype, double seconds);

/// What a calibration is valid for.
struct HostId {
  std::string cpu;       ///< "model name" of /proc/cpuinfo
  std::string governor;  ///< cpufreq's scaling_governor, "unknown" where there is none
  int threads = 1;       ///< of the parallel loops
  std::string meter;     ///< Meter::describe()
  friend bool operator==(const HostId&, const HostId&) = default;
};

struct HostModel {
  HostId host;
  std::string date;                  ///< ISO 8601, UTC
  std::vector<std::string> columns;  ///< "seconds", "bytes", then "operations f32", ...
  std::vector<double> coef;          ///< W, J/byte, J/operation
  std::vector<double> covariance;    ///< row-major, columns x columns
  double residual_rel_sd = 0;  ///< of a single window, relative: what the three terms cannot say
  double condition = 0;        ///< of the scaled design
  double loo_mape = 0;         ///< mean error of kernels left out of the fit, 0.05 = 5 %
  double coldest_c = 0, hottest_c = 0;  ///< temperatures seen; NaN when not readable

  double idle_watts() const { return coef[0]; }
  double sd_idle_watts() const;
  /// Joules of the work. kind modelled_calibrated, source "calibration DATE". Unavailable when the
  /// work has operations of a dtype that was not calibrated.
  Joules predict(const Work& w) const;
  /// The same without idle power: what the work adds. Used as weight when sharing a window.
  Joules predict_dynamic(const Work& w) const;
  /// Index of a column, -1 when it is not there.
  int column(const std::string& name) const;
};

/// JSON of the file; `from_json` throws value_error naming what is wrong with the text.
std::string to_json(const HostModel& m);
HostModel host_model_from_json(const std::string& text, const std::string& what);

/// Empty when `m` may be used on `host`; otherwise the difference in one sentence.
std::string mismatch(const HostModel& m, const HostId& host);

/// A window of the calibration.
struct CalibrationWindow {
  std::string kernel;  ///< "gemm", "copy", "idle", ...: left out together when validating
  Work work;
  double joules = 0;  ///< measured
  double sd_joules = 0;
};

/// Outcome of a fit. `refused` is empty or says, in one sentence, why no model was made; `model`
/// then holds what was found, for reading only.
struct FitReport {
  HostModel model;
  std::string refused;
  std::vector<std::string> warnings;
};

constexpr double max_condition = 30;
constexpr double max_loo_mape = 0.15;

/// Non-negative weighted least squares; rows are divided by their energy (a meter's error is
/// relative), columns by their norm. Refuses when the scaled condition number exceeds
/// max_condition (the windows cannot tell time, operations and bytes apart), when a coefficient's
/// 95 % interval covers 0, or when a kernel left out is predicted worse than max_loo_mape on
/// average.
FitReport fit_host_model(const std::vector<CalibrationWindow>& windows, const HostId& host);

}  // namespace wattle::energy
