// study.json and runs.csv of the study of mixtures of experts.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/moe_study.h"

namespace wattle::green {
namespace {

using json = nlohmann::ordered_json;

// Lists every field of a run once, for reading and for writing.
template <class R, class F>
void fields(R& r, F&& f) {
  f("arm", r.arm), f("seed", r.seed), f("loss", r.loss), f("train_loss", r.train_loss);
  f("seconds", r.seconds), f("tokens", r.tokens), f("params_total", r.params_total);
  f("params_active", r.params_active), f("active_flops_per_token", r.active_flops);
  f("gate_flops_per_token", r.gate_flops), f("bytes", r.bytes);
  f("optimizer_bytes", r.optimizer_bytes), f("index_bytes", r.index_bytes);
  f("experts_touched", r.experts_touched), f("weight_bytes_touched", r.weight_bytes_touched);
  f("resident_bytes", r.resident_bytes), f("max_vio_global", r.max_vio), f("load", r.load);
  f("uj", r.joules.uj), f("sd_uj", r.joules.sd_uj), f("source", r.joules.source);
}

json to_json(const MoeRun& run) {
  json j = json::object();
  fields(run, [&](const char* name, const auto& field) { j[name] = field; });
  j["kind"] = static_cast<int>(run.joules.kind);
  json probes = json::array();
  for (const MoeProbePoint& p : run.probes) probes.push_back({{"what", p.what}, {"loss", p.loss}});
  j["probes"] = probes;
  return j;
}

MoeRun run_from(const json& j) {
  MoeRun r;
  fields(r, [&](const char* name, auto& field) { j.at(name).get_to(field); });
  const int kind = j.at("kind");
  if (kind < 0 || kind > static_cast<int>(JouleKind::unavailable))
    throw io_error(str("found joule kind ", kind));
  r.joules.kind = static_cast<JouleKind>(kind);
  for (const json& p : j.at("probes")) r.probes.push_back({p.at("what"), p.at("loss")});
  return r;
}

constexpr const char* kFormat = "wattle moe study 1";

}  // namespace

std::string moe_study_json(const MoeStudy& s) {
  const MoeStudyOptions& o = s.options;
  json j{{"format", kFormat},
         {"arms", o.arms},
         {"text", o.text},
         {"text_about", s.text_about},
         {"text_sha256", s.text_sha256},
         {"seeds", o.seeds},
         {"tokens", o.tokens},
         {"validation_tokens", o.validation_tokens},
         {"lr", o.lr},
         {"cpu", s.cpu},
         {"isa", s.isa},
         {"threads", s.threads},
         {"energy", s.energy},
         {"device", s.device},
         {"device_option", o.device},
         {"math", o.math}};
  json runs = json::array();
  for (const MoeRun& r : s.runs) runs.push_back(to_json(r));
  j["runs"] = runs;
  return j.dump(1) + "\n";
}

MoeStudy moe_study_from_json(const std::string& text, const std::string& path) {
  try {
    const json j = json::parse(text);
    if (j.at("format") != kFormat)
      throw io_error(
          str(path, ": found format ", j.at("format").dump(), ", expected \"", kFormat, "\""));
    MoeStudy s;
    MoeStudyOptions& o = s.options;
    j.at("arms").get_to(o.arms), j.at("text").get_to(o.text), j.at("seeds").get_to(o.seeds);
    j.at("tokens").get_to(o.tokens), j.at("validation_tokens").get_to(o.validation_tokens);
    j.at("lr").get_to(o.lr), j.at("cpu").get_to(s.cpu), j.at("isa").get_to(s.isa);
    j.at("threads").get_to(s.threads), j.at("energy").get_to(s.energy);
    j.at("text_about").get_to(s.text_about), j.at("text_sha256").get_to(s.text_sha256);
    s.device = j.value("device", "cpu");
    o.device = j.value("device_option", "cpu"), o.math = j.value("math", "f32");
    for (const json& r : j.at("runs")) s.runs.push_back(run_from(r));
    return s;
  } catch (const json::exception& e) { throw io_error(str(path, ": ", e.what())); }
}

std::string moe_study_csv(const MoeStudy& s) {
  std::string out;
  for (const MoeRun& run : s.runs) {
    std::string names, values;
    fields(run, [&](const char* name, const auto& field) {
      using F = std::remove_cvref_t<decltype(field)>;
      if constexpr (!std::is_same_v<F, std::vector<std::vector<int64_t>>>) {
        names += (names.empty() ? "" : ",") + std::string(name);
        values += values.empty() ? "" : ",";
        if constexpr (std::is_same_v<F, std::string>)
          values += field.find(',') == F::npos ? field : "\"" + field + "\"";
        else values += json(field).dump();
      }
    });
    if (out.empty()) out = names + ",kind\n";
    out += values + "," + std::string(word(run.joules.kind)) + "\n";
  }
  return out;
}

}  // namespace wattle::green
