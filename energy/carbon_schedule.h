// When to run: the start, or the hours, with the least carbon in an hourly forecast.
#pragma once
#include <string>
#include <vector>

namespace wattle::energy {

/// Hourly intensities, g/kWh, from the text of a CSV file: a header line, then one line an hour
/// whose last column is the figure ("time,g_per_kwh"). Throws value_error naming `what` and the
/// line.
std::vector<double> parse_intensity_csv(const std::string& text, const std::string& what);

struct Schedule {
  double start_hour = 0;      ///< from the first line; of the first piece when in pieces
  std::vector<int> hours;     ///< chosen hours, ascending; only when in pieces
  double mean_g_per_kwh = 0;  ///< over the run
  double now_g_per_kwh = 0;   ///< the same for starting at once
  /// Grams saved per kWh of the run, as a fraction of starting at once.
  double saved() const { return now_g_per_kwh > 0 ? 1 - mean_g_per_kwh / now_g_per_kwh : 0; }
};

/// The best start of a run of `hours` (fractions allowed) that ends by `deadline_hours`; earliest
/// of equals. Exact: the mean is piecewise linear in the start, so the best one begins or ends on
/// an hour. Throws value_error when the run does not fit the deadline or the deadline the forecast.
Schedule best_start(const std::vector<double>& g_per_kwh, double hours, double deadline_hours);

/// The run cut at checkpoints into whole hours: the lowest ones before the deadline.
Schedule best_hours(const std::vector<double>& g_per_kwh, int hours, int deadline_hours);

}  // namespace wattle::energy
