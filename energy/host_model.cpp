#include "energy/host_model.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace wattle::energy {
namespace {

using json = nlohmann::ordered_json;

// Values of the model's columns for some work; empty when a dtype with operations has no column.
std::vector<double> row_of(const HostModel& m, const Work& w) {
  std::vector<double> x(m.columns.size());
  x[0] = w.seconds;
  x[1] = w.bytes;
  for (const auto& [dtype, n] : w.operations) {
    if (n == 0) continue;
    const int c = m.column("operations " + dtype);
    if (c < 0) return {};
    x[static_cast<size_t>(c)] = n;
  }
  return x;
}

Joules predicted(const HostModel& m, const Work& w) {
  const std::string source = m.date;
  const std::vector<double> x = row_of(m, w);
  if (x.empty()) return {0, 0, JouleKind::unavailable, source};
  double joules = 0, variance = 0;
  const size_t n = x.size();
  for (size_t i = 0; i < n; ++i) {
    joules += m.coef[i] * x[i];
    for (size_t j = 0; j < n; ++j) variance += x[i] * m.covariance[i * n + j] * x[j];
  }
  const double sd = std::hypot(std::sqrt(std::max(0.0, variance)), m.residual_rel_sd * joules);
  if (!(joules < 9e12)) throw value_error(str("calibration: predicts ", joules, " J"));
  return {std::llround(joules * 1e6), sd * 1e6, JouleKind::modelled_calibrated, source};
}

json number(double v) { return std::isfinite(v) ? json(v) : json(nullptr); }

std::vector<double> numbers(const json& j, const char* key, size_t n, const std::string& what) {
  const json& list = j.at(key);
  if (!list.is_array() || list.size() != n)
    throw value_error(str(what, ": ", key, " has ", static_cast<int64_t>(list.size()),
                          " entries, expected ", static_cast<int64_t>(n)));
  std::vector<double> v;
  for (const json& e : list) {
    v.push_back(e.get<double>());
    if (!std::isfinite(v.back())) throw value_error(str(what, ": ", key, " is not finite"));
  }
  return v;
}

double number_or_nan(const json& j, const char* key) {
  const json& v = j.at(key);
  return v.is_null() ? std::numeric_limits<double>::quiet_NaN() : v.get<double>();
}

HostModel parse(const json& j, const std::string& what) {
  if (!j.is_object() || j.value("format", "") != "wattle calibration 1")
    throw value_error(str(what, ": expected \"format\": \"wattle calibration 1\""));
  HostModel m;
  const json& h = j.at("host");
  m.host = {h.at("cpu").get<std::string>(), h.at("governor").get<std::string>(),
            h.at("threads").get<int>(), h.at("meter").get<std::string>()};
  m.date = j.at("date").get<std::string>();
  m.columns = j.at("columns").get<std::vector<std::string>>();
  const size_t n = m.columns.size();
  if (n < 2 || m.columns[0] != "seconds" || m.columns[1] != "bytes")
    throw value_error(str(what, ": columns must start with seconds and bytes"));
  m.coef = numbers(j, "coefficients", n, what);
  for (const double c : m.coef)
    if (c < 0) throw value_error(str(what, ": found coefficient ", c, ", expected >= 0"));
  m.covariance = numbers(j, "covariance", n * n, what);
  m.residual_rel_sd = j.at("residual_rel_sd").get<double>();
  m.condition = j.at("condition").get<double>();
  m.loo_mape = j.at("loo_mape").get<double>();
  m.coldest_c = number_or_nan(j, "coldest_c");
  m.hottest_c = number_or_nan(j, "hottest_c");
  return m;
}

}  // namespace

Work& Work::operator+=(const Work& o) {
  seconds += o.seconds;
  bytes += o.bytes;
  for (const auto& [dtype, n] : o.operations) operations[dtype] += n;
  return *this;
}

double operations_of(const Cost& c) {
  return 2.0 * static_cast<double>(c.mac) + static_cast<double>(c.add) +
         static_cast<double>(c.mul) + static_cast<double>(c.cmp) + static_cast<double>(c.special) +
         static_cast<double>(c.iop);
}

Work work_of(const Cost& cost, const std::string& dtype, double seconds) {
  Work w;
  w.seconds = seconds;
  w.operations[dtype] = operations_of(cost);
  w.bytes = static_cast<double>(cost.bytes());
  return w;
}

double HostModel::sd_idle_watts() const { return std::sqrt(std::max(0.0, covariance[0])); }

int HostModel::column(const std::string& name) const {
  for (size_t i = 0; i < columns.size(); ++i)
    if (columns[i] == name) return static_cast<int>(i);
  return -1;
}

Joules HostModel::predict(const Work& w) const { return predicted(*this, w); }

Joules HostModel::predict_dynamic(const Work& w) const {
  Work work = w;
  work.seconds = 0;
  return predicted(*this, work);
}

std::string to_json(const HostModel& m) {
  const json j{{"format", "wattle calibration 1"},
               {"host",
                {{"cpu", m.host.cpu},
                 {"governor", m.host.governor},
                 {"threads", m.host.threads},
                 {"meter", m.host.meter}}},
               {"date", m.date},
               {"columns", m.columns},
               {"coefficients", m.coef},
               {"covariance", m.covariance},
               {"residual_rel_sd", m.residual_rel_sd},
               {"condition", m.condition},
               {"loo_mape", m.loo_mape},
               {"coldest_c", number(m.coldest_c)},
               {"hottest_c", number(m.hottest_c)}};
  return j.dump(1) + "\n";
}

HostModel host_model_from_json(const std::string& text, const std::string& what) {
  try {
    return parse(json::parse(text), what);
  } catch (const json::exception& e) {
    throw value_error(str(what, ": not a calibration: ", e.what()));
  }
}

std::string mismatch(const HostModel& m, const HostId& h) {
  const auto differs = [](const char* what, const auto& then, const auto& now) {
    return str("calibrated with ", what, " '", then, "', now '", now, "'");
  };
  if (m.host.cpu != h.cpu) return differs("CPU", m.host.cpu, h.cpu);
  if (m.host.governor != h.governor) return differs("governor", m.host.governor, h.governor);
  if (m.host.threads != h.threads) return differs("threads", m.host.threads, h.threads);
  return {};
}

}  // namespace wattle::energy
