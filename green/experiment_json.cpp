// experiment.json: everything an experiment needs to go on, and what it says.
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/experiment_files.h"

namespace wattle::green {
namespace {

using Json = nlohmann::ordered_json;
constexpr int format_version = 1;
constexpr const char* format_name = "wattle experiment";

Json number(double v) { return std::isfinite(v) ? Json(v) : Json(nullptr); }
double number(const Json& j) {
  return j.is_null() ? std::numeric_limits<double>::quiet_NaN() : j.get<double>();
}

Json to_json(const Joules& j) {
  if (!j.available()) {
    return {{"uj", nullptr}, {"sd_uj", nullptr}, {"kind", name(j.kind)}, {"source", j.source}};
  }
  return {{"uj", j.uj}, {"sd_uj", number(j.sd_uj)}, {"kind", name(j.kind)}, {"source", j.source}};
}
Joules joules(const Json& j) {
  Joules out;
  out.kind = energy::joule_kind_from_name(j.at("kind").get<std::string>());
  j.at("source").get_to(out.source);
  if (out.available()) out.uj = j.at("uj").get<int64_t>(), out.sd_uj = number(j.at("sd_uj"));
  return out;
}

Json to_json(const ExperimentOptions& o) {
  return {{"repetitions", o.repetitions},
          {"warmup", o.warmup},
          {"rest_s", o.rest_s},
          {"seed", o.seed},
          {"outliers", name(o.outliers)}};
}
ExperimentOptions options(const Json& j) {
  ExperimentOptions o;
  j.at("repetitions").get_to(o.repetitions), j.at("warmup").get_to(o.warmup);
  j.at("rest_s").get_to(o.rest_s), j.at("seed").get_to(o.seed);
  o.outliers = outlier_rule_from_name(j.at("outliers").get<std::string>());
  return o;
}

Json to_json(const Sample& s) {
  Json values = Json::object();
  for (const auto& [n, v] : s.result.values) values[n] = number(v);
  return {{"order", s.order},
          {"round", s.round},
          {"variant", s.variant},
          {"seed", s.seed},
          {"start_s", number(s.start_s)},
          {"temperature_c", number(s.temperature_c)},
          {"joules", to_json(s.result.energy)},
          {"seconds", number(s.result.seconds)},
          {"values", values}};
}
Sample sample(const Json& j) {
  Sample s;
  j.at("order").get_to(s.order), j.at("round").get_to(s.round);
  j.at("variant").get_to(s.variant), j.at("seed").get_to(s.seed);
  s.start_s = number(j.at("start_s")), s.temperature_c = number(j.at("temperature_c"));
  s.result.energy = joules(j.at("joules")), s.result.seconds = number(j.at("seconds"));
  for (const auto& [n, v] : j.at("values").items()) s.result.values.push_back({n, number(v)});
  return s;
}

Json to_json(const VariantSummary& v) {
  return {{"name", v.name},
          {"runs", v.values.size()},
          {"missing", v.missing},
          {"kept", v.kept.size()},
          {"mean", number(v.mean)},
          {"sd", number(v.sd)},
          {"median", number(v.median)},
          {"shapiro_w", number(v.normality.w)},
          {"shapiro_p", number(v.normality.p)},
          {"shapiro_p_before_outliers", number(v.normality_all.p)},
          {"order_spearman", number(v.drift.rho)},
          {"order_p", number(v.drift.p)}};
}

Json to_json(const Quantity& q, const PairResult& p) {
  return {
      {"a", q.variants[p.a].name},
      {"b", q.variants[p.b].name},
      {"test", p.test},
      {"p", number(p.p)},
      {"p_holm", number(p.p_holm)},
      {"significant", p.significant},
      {"difference", number(p.difference)},
      {"ratio", {number(p.ratio.lo), number(p.ratio.mid), number(p.ratio.hi)}},
      {"welch", {{"t", number(p.welch.t)}, {"df", number(p.welch.df)}, {"p", number(p.welch.p)}}},
      {"mann_whitney",
       {{"u", number(p.mann_whitney.u)},
        {"p", number(p.mann_whitney.p)},
        {"exact", p.mann_whitney.exact}}},
      {"cohens_d", number(p.d)},
      {"hedges_g", number(p.g)},
      {"a12", number(p.a12)},
      {"cliffs_delta", number(p.cliff)},
      {"effect", p.effect},
      {"conclusion", p.conclusion}};
}

Json to_json(const ExperimentAnalysis& a) {
  Json quantities = Json::array();
  for (const Quantity& q : a.quantities) {
    Json j = {{"name", q.name}, {"unit", q.unit}};
    if (q.name == "joules") j["kind"] = name(q.kind), j["origin"] = q.origin;
    if (!q.refused.empty()) j["refused"] = q.refused;
    j["outliers_removed"] = q.outliers_removed;
    j["variants"] = Json::array(), j["pairs"] = Json::array();
    for (const VariantSummary& v : q.variants) j["variants"].push_back(to_json(v));
    for (const PairResult& p : q.pairs) j["pairs"].push_back(to_json(q, p));
    quantities.push_back(std::move(j));
  }
  return {{"energy", a.energy_line}, {"quantities", quantities}, {"warnings", a.warnings}};
}

}  // namespace

std::string experiment_json(const Experiment& e, const ExperimentAnalysis* a) {
  Json variants = Json::array(), settings = Json::object(), samples = Json::array();
  for (const auto& v : e.variants) variants.push_back({{"name", v.name}, {"what", v.what}});
  for (const auto& [k, v] : e.settings) settings[k] = v;
  for (const Sample& s : e.samples) samples.push_back(to_json(s));
  Json j = {{"format", format_name}, {"format_version", format_version},
            {"variants", variants},  {"options", to_json(e.options)},
            {"settings", settings},  {"samples", samples}};
  if (a) j["analysis"] = to_json(*a);
  // commands may hold any bytes: replace what is no UTF-8 rather than lose the experiment
  return j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Experiment experiment_from_json(std::string_view text, const std::string& path) {
  try {
    const Json j = Json::parse(text);
    if (!j.is_object() || j.value("format", "") != format_name) {
      throw io_error(str(path, ": found no \"format\": \"", format_name, "\""));
    }
    if (const int v = j.at("format_version").get<int>(); v != format_version) {
      throw io_error(str(path, ": found format_version ", v, ", expected ", format_version));
    }
    Experiment e;
    for (const Json& v : j.at("variants")) {
      e.variants.push_back({v.at("name").get<std::string>(), v.at("what").get<std::string>()});
    }
    e.options = options(j.at("options"));
    for (const auto& [k, v] : j.at("settings").items()) {
      e.settings.push_back({k, v.get<std::string>()});
    }
    for (const Json& s : j.at("samples")) e.samples.push_back(sample(s));
    check_samples(e);
    return e;
  } catch (const Json::exception& e) {
    throw io_error(str(path, ": not an experiment: ", e.what()));
  } catch (const value_error& e) { throw io_error(str(path, ": not an experiment: ", e.what())); }
}

}  // namespace wattle::green
