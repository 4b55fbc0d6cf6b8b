// study.json, runs.csv and layers.csv of the study of spiking nets.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/snn_study.h"

namespace wattle::green {
namespace {

using json = nlohmann::ordered_json;
constexpr const char* kFormat = "wattle snn study 1";

template <class L, class F>
void layer_fields(L& l, F&& f) {
  f("layer", l.name), f("conv", l.is_conv), f("inputs", l.inputs), f("outputs", l.outputs);
  f("weights", l.weights), f("steps", l.steps), f("of_spikes", l.of_spikes);
  f("dense_ops_per_step", l.dense_ops), f("ops_per_image", l.ops), f("rate", l.rate);
  f("active_in_any_step", l.any), f("neuron_adds_per_image", l.neuron_add);
  f("neuron_muls_per_image", l.neuron_mul), f("neuron_cmps_per_image", l.neuron_cmp);
  f("neurons", l.neurons), f("neuron_steps", l.neuron_steps), f("fires", l.fires);
  f("silent_share", l.silent);
}

template <class R, class F>
void run_fields(R& r, F&& f) {
  f("point", r.point), f("seed", r.seed), f("lr", r.lr), f("epoch", r.epoch), f("test", r.test);
  f("test_passes", r.test_passes), f("silenced_validation", r.silenced);
  f("train_seconds", r.train_seconds), f("ms_per_image_batch1", r.ms_batch1);
  f("ms_per_image_batch64", r.ms_batch64), f("footprint_bytes", r.bench.footprint_bytes);
  f("connection_sparsity", r.bench.connection_sparsity);
  f("activation_sparsity", r.bench.activation_sparsity);
  f("effective_macs_per_image", r.bench.effective_macs);
  f("effective_acs_per_image", r.bench.effective_acs);
  f("dense_operations_per_image", r.bench.dense_operations);
}

json to_json(const Joules& j) { return json::parse(j.json()); }
Joules joules_from(const json& j) {
  Joules out;
  out.kind = energy::joule_kind_from_name(j.at("kind").get<std::string>());
  if (!out.available()) return out;
  j.at("uj").get_to(out.uj), j.at("sd_uj").get_to(out.sd_uj), j.at("source").get_to(out.source);
  return out;
}

json to_json(const SnnRun& r) {
  json j = json::object();
  const auto put = [&](const char* name, const auto& v) { j[name] = v; };
  run_fields(r, put);
  j["validation"] = r.validation, j["raster"] = r.raster;
  j["train_joules"] = to_json(r.train_joules), j["joules_batch64"] = to_json(r.joules_batch64);
  for (const SnnLayer& l : r.layers) {
    json one = json::object();
    layer_fields(l, [&](const char* name, const auto& v) { one[name] = v; });
    j["layers"].push_back(one);
  }
  return j;
}

SnnRun run_from(const json& j) {
  SnnRun r;
  run_fields(r, [&](const char* name, auto& v) { j.at(name).get_to(v); });
  j.at("validation").get_to(r.validation), j.at("raster").get_to(r.raster);
  r.train_joules = joules_from(j.at("train_joules"));
  r.joules_batch64 = joules_from(j.at("joules_batch64"));
  for (const json& one : j.at("layers")) {
    SnnLayer l;
    layer_fields(l, [&](const char* name, auto& v) { one.at(name).get_to(v); });
    r.layers.push_back(l);
  }
  return r;
}

template <class S, class F>
void option_fields(S& o, F&& f) {
  f("dataset", o.dataset), f("steps", o.steps), f("rate_weight", o.rate_weight);
  f("rate_goal", o.rate_goal);
  f("seeds", o.seeds), f("epochs", o.epochs), f("rows", o.rows), f("batch", o.batch);
  f("lrs", o.lrs), f("sample", o.sample);
}

std::string quoted(const json& v) {
  if (!v.is_string()) return v.dump();
  const std::string s = v.get<std::string>();
  return s.find(',') == std::string::npos ? s : "\"" + s + "\"";
}

// A line of values, and once the line of their names.
void add_line(std::string& out, const std::vector<std::pair<std::string, json>>& cells) {
  if (out.empty()) {
    for (const auto& [name, value] : cells) out += (out.empty() ? "" : ",") + name;
    out += "\n";
  }
  for (size_t i = 0; i < cells.size(); ++i) out += (i ? "," : "") + quoted(cells[i].second);
  out += "\n";
}

}  // namespace

std::string snn_study_json(const SnnStudy& s) {
  json j{{"format", kFormat}};
  option_fields(s.options, [&](const char* name, const auto& v) { j[name] = v; });
  j["first_validation_row"] = s.first_validation_row;
  j["cpu"] = s.cpu, j["isa"] = s.isa, j["energy"] = s.energy;
  j["device"] = s.device, j["device_option"] = s.options.device, j["math"] = s.options.math;
  j["verdicts"] = verdict_sentences(s);
  j["runs"] = json::array();
  for (const SnnRun& r : s.runs) j["runs"].push_back(to_json(r));
  return j.dump(1) + "\n";
}

SnnStudy snn_study_from_json(const std::string& text, const std::string& path) {
  try {
    const json j = json::parse(text);
    if (j.at("format") != kFormat)
      throw io_error(
          str(path, ": found format ", j.at("format").dump(), ", expected \"", kFormat, "\""));
    SnnStudy s;
    option_fields(s.options, [&](const char* name, auto& v) { j.at(name).get_to(v); });
    j.at("first_validation_row").get_to(s.first_validation_row);
    j.at("cpu").get_to(s.cpu), j.at("isa").get_to(s.isa), j.at("energy").get_to(s.energy);
    s.device = j.value("device", "cpu");
    s.options.device = j.value("device_option", "cpu"), s.options.math = j.value("math", "f32");
    for (const json& r : j.at("runs")) s.runs.push_back(run_from(r));
    return s;
  } catch (const json::exception& e) {
    throw io_error(str(path, ": ", e.what()));
  } catch (const value_error& e) { throw io_error(str(path, ": ", e.what())); }
}

std::string snn_runs_csv(const SnnStudy& s) {
  std::string out;
  for (const SnnRun& r : s.runs) {
    std::vector<std::pair<std::string, json>> cells;
    run_fields(r, [&](const char* name, const auto& v) { cells.emplace_back(name, v); });
    cells.emplace_back("best_validation", r.validation[static_cast<size_t>(r.epoch - 1)]);
    cells.emplace_back("train_uj", r.train_joules.uj);
    cells.emplace_back("train_uj_kind", std::string(energy::name(r.train_joules.kind)));
    add_line(out, cells);
  }
  return out;
}

std::string snn_layers_csv(const SnnStudy& s) {
  std::string out;
  for (const SnnRun& r : s.runs)
    for (const SnnLayer& l : r.layers) {
      std::vector<std::pair<std::string, json>> cells{{"point", r.point}, {"seed", r.seed}};
      layer_fields(l, [&](const char* name, const auto& v) { cells.emplace_back(name, v); });
      add_line(out, cells);
    }
  return out;
}

}  // namespace wattle::green
