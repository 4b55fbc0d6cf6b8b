// samples.csv and experiment.json.
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/csv.h"
#include "green/experiment.h"

namespace wattle::green {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* header =
    "variant,round,order,started_s,seconds,joules,joules_sd,joules_kind,joules_source,celsius";

template <class T>
T parsed(const std::string& s, const char* column, const std::string& where) {
  if (s.empty() && std::is_floating_point_v<T>) return std::numeric_limits<T>::quiet_NaN();
  T v{};
  const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
  if (r.ec != std::errc() || r.ptr != s.data() + s.size())
    throw value_error(str(where, ": ", column, ": found '", s, "', expected a number"));
  return v;
}

json value(double v) { return std::isfinite(v) ? json(v) : json(); }

json to_json(const QuantityAnalysis& q) {
  json variants = json::array(), pairs = json::array();
  for (const Distribution& d : q.variants)
    variants.push_back({{"variant", d.variant},
                        {"n", d.values.size()},
                        {"removed", d.removed},
                        {"mean", value(mean(d.values))},
                        {"sd", value(sd(d.values))},
                        {"median", d.values.empty() ? json() : value(quantile(d.values, 0.5))},
                        {"shapiro_p", value(d.shapiro_p)}});
  for (const Comparison& c : q.pairs)
    pairs.push_back(
        {{"a", c.a},
         {"b", c.b},
         {"test", c.by_ranks ? "mann-whitney" : "welch"},
         {"t", value(c.welch.t)},
         {"df", value(c.welch.df)},
         {"u", value(c.ranks.u)},
         {"p", value(c.p)},
         {"p_holm", value(c.p_holm)},
         {"cohens_d", value(c.d)},
         {"a12", value(c.a12)},
         {"ratio",
          {{"lo", value(c.ratio.lo)}, {"mean", value(c.ratio.mid)}, {"hi", value(c.ratio.hi)}}},
         {"sentence", c.sentence}});
  return {{"quantity", q.quantity}, {"unit", q.unit}, {"refused", q.refused},
          {"variants", variants},   {"pairs", pairs}, {"warnings", q.warnings}};
}

}  // namespace

std::string samples_csv(const std::vector<Sample>& samples) {
  CsvWriter w(header);
  for (const Sample& s : samples) {
    w.field(s.variant).field(int64_t{s.round}).field(int64_t{s.order}).field(s.started_s);
    w.field(s.seconds).field(s.joules).field(s.joules.source).field(s.celsius).end_row();
  }
  return w.take();
}

std::vector<Sample> samples_from_csv(const std::string& text, const std::string& what) {
  std::vector<Sample> out;
  if (text.substr(0, text.find('\n')) != header)
    throw value_error(str(what, ": expected the header ", header));
  int line = 1;
  for (const std::vector<std::string>& f : parse_csv(text)) {
    const std::string where = str(what, " record ", line);
    if (line++ == 1) continue;
    if (f.size() != 10)
      throw value_error(
          str(where, ": found ", static_cast<int64_t>(f.size()), " fields, expected 10"));
    Sample s;
    s.variant = f[0];
    s.round = parsed<int>(f[1], "round", where);
    s.order = parsed<int>(f[2], "order", where);
    s.started_s = parsed<double>(f[3], "started_s", where);
    s.seconds = parsed<double>(f[4], "seconds", where);
    s.joules.kind = energy::joule_kind_from_name(f[7]);
    s.joules.source = f[8];
    if (s.joules.available()) {
      const double joules = parsed<double>(f[5], "joules", where);
      if (!(std::fabs(joules) < 9e12))  // beyond 64 bits of microjoules
        throw value_error(str(where, ": joules: found '", f[5], "', expected below 9e12"));
      s.joules.uj = std::llround(joules * 1e6);
      s.joules.sd_uj = parsed<double>(f[6], "joules_sd", where) * 1e6;
    }
    s.celsius = parsed<double>(f[9], "celsius", where);
    out.push_back(s);
  }
  return out;
}

std::string experiment_json(const ExperimentAnalysis& a, const ExperimentOptions& o) {
  const json j{{"energy", a.energy_sentence},
               {"options",
                {{"repetitions", o.repetitions},
                 {"warmup", o.warmup},
                 {"rest_s", o.rest_s},
                 {"seed", o.seed},
                 {"outlier_sigmas", o.outlier_sigmas},
                 {"alpha", o.alpha}}},
               {"joules", to_json(a.joules)},
               {"seconds", to_json(a.seconds)}};
  return j.dump(1) + "\n";
}

}  // namespace wattle::green
