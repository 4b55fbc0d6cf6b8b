#include "energy/carbon_schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace wattle::energy {
namespace {

// Integral of the hourly steps from 0 to t.
double integral(const std::vector<double>& g, double t) {
  const auto whole = static_cast<size_t>(t);
  double sum = std::accumulate(g.begin(), g.begin() + static_cast<std::ptrdiff_t>(whole), 0.0);
  if (whole < g.size()) sum += g[whole] * (t - static_cast<double>(whole));
  return sum;
}

void check(const std::vector<double>& g, double hours, double deadline) {
  if (!(hours > 0) || !(hours <= deadline))
    throw value_error(str("schedule: found a run of ", hours, " h before a deadline of ", deadline,
                          " h, expected it to fit"));
  if (!(deadline <= static_cast<double>(g.size())))
    throw value_error(str("schedule: found a deadline of ", deadline, " h, expected it within the ",
                          static_cast<int64_t>(g.size()), " h of the forecast"));
}

}  // namespace

std::vector<double> parse_intensity_csv(const std::string& text, const std::string& what) {
  std::vector<double> out;
  int64_t line_number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line_number == 1) continue;
    const std::string field = line.substr(line.rfind(',') + 1);
    const size_t from = std::min(field.find_first_not_of(' '), field.size());
    double v = 0;
    const auto r = std::from_chars(field.data() + from, field.data() + field.size(), v);
    if (r.ec != std::errc() || r.ptr != field.data() + field.size() || !(v >= 0) ||
        !std::isfinite(v))
      throw value_error(
          str(what, " line ", line_number, ": found '", field, "', expected grams per kWh >= 0"));
    out.push_back(v);
  }
  if (out.empty()) throw value_error(str(what, ": no hour found below the header line"));
  return out;
}

Schedule best_start(const std::vector<double>& g, double hours, double deadline) {
  check(g, hours, deadline);
  const double last = deadline - hours;
  std::vector<double> starts{0, last};
  for (size_t h = 0; h <= g.size(); ++h) {
    const double hour = static_cast<double>(h);
    if (hour <= last) starts.push_back(hour);
    if (hour - hours >= 0 && hour - hours <= last) starts.push_back(hour - hours);
  }
  std::sort(starts.begin(), starts.end());
  const auto mean = [&](double s) { return (integral(g, s + hours) - integral(g, s)) / hours; };
  Schedule out;
  out.now_g_per_kwh = out.mean_g_per_kwh = mean(0);
  for (const double s : starts) {
    const double m = mean(s);
    if (m < out.mean_g_per_kwh * (1 - 1e-12)) out.mean_g_per_kwh = m, out.start_hour = s;
  }
  return out;
}

Schedule best_hours(const std::vector<double>& g, int hours, int deadline) {
  check(g, hours, deadline);
  std::vector<int> order(static_cast<size_t>(deadline));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return g[size_t(a)] < g[size_t(b)]; });
  Schedule out;
  out.hours.assign(order.begin(), order.begin() + hours);
  std::sort(out.hours.begin(), out.hours.end());
  for (const int h : out.hours) out.mean_g_per_kwh += g[size_t(h)] / hours;
  for (int h = 0; h < hours; ++h) out.now_g_per_kwh += g[size_t(h)] / hours;
  out.start_hour = out.hours[0];
  return out;
}

}  // namespace wattle::energy
