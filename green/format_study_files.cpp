// study.json and runs.csv of the format study.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/format_study.h"

namespace wattle::green {
namespace {

using json = nlohmann::ordered_json;

json to_json(const FormatRun& r) {
  return {{"net", r.net},
          {"precision", r.precision},
          {"seed", r.seed},
          {"accuracy", r.accuracy},
          {"loss", r.loss},
          {"seconds", r.seconds},
          {"weight_bytes", r.weight_bytes},
          {"bytes", r.bytes},
          {"flops", r.flops},
          {"executed_flops", r.executed_flops},
          {"executed_iops", r.executed_iops},
          {"rounded", r.rounding.n},
          {"inexact", r.rounding.inexact},
          {"to_max", r.rounding.to_max},
          {"to_min", r.rounding.to_min},
          {"to_zero", r.rounding.to_zero},
          {"nar", r.rounding.nar},
          {"loss_scale", r.loss_scale},
          {"skipped", r.skipped},
          {"uj", r.joules.uj},
          {"sd_uj", r.joules.sd_uj},
          {"kind", static_cast<int>(r.joules.kind)},
          {"source", r.joules.source},
          {"hardware_lo", r.hardware_lo},
          {"hardware_hi", r.hardware_hi}};
}

FormatRun run_from(const json& j) {
  FormatRun r;
  r.net = j.at("net"), r.precision = j.at("precision"), r.seed = j.at("seed");
  r.accuracy = j.at("accuracy"), r.loss = j.at("loss"), r.seconds = j.at("seconds");
  r.weight_bytes = j.at("weight_bytes"), r.bytes = j.at("bytes"), r.flops = j.at("flops");
  r.executed_flops = j.at("executed_flops"), r.executed_iops = j.at("executed_iops");
  r.rounding = {j.at("rounded"), j.at("inexact"), j.at("to_max"),
                j.at("to_min"),  j.at("to_zero"), j.at("nar")};
  r.loss_scale = j.at("loss_scale"), r.skipped = j.at("skipped");
  const int kind = j.at("kind");
  if (kind < 0 || kind > static_cast<int>(JouleKind::unavailable))
    throw io_error(str("found joule kind ", kind));
  r.joules = {j.at("uj"), j.at("sd_uj"), static_cast<JouleKind>(kind), j.at("source")};
  r.hardware_lo = j.at("hardware_lo"), r.hardware_hi = j.at("hardware_hi");
  return r;
}

}  // namespace

std::string format_study_json(const FormatStudy& s) {
  const FormatStudyOptions& o = s.options;
  json j{{"format", "wattle format study 1"},
         {"dataset", o.dataset},
         {"nets", o.nets},
         {"precisions", o.precisions},
         {"seeds", o.seeds},
         {"epochs", o.epochs},
         {"batch", o.batch},
         {"rows", o.rows},
         {"lr", o.lr},
         {"optimizer", o.optimizer},
         {"schedule", o.schedule},
         {"cpu", s.cpu},
         {"isa", s.isa},
         {"threads", s.threads},
         {"energy", s.energy},
         {"device", s.device},
         {"device_option", o.device},
         {"math", o.math},
         {"runs", json::array()}};
  for (const FormatRun& r : s.runs) j["runs"].push_back(to_json(r));
  return j.dump(1) + "\n";
}

FormatStudy format_study_from_json(const std::string& text, const std::string& path) {
  try {
    const json j = json::parse(text);
    if (j.at("format") != "wattle format study 1")
      throw io_error(str(path, ": found another format, expected 'wattle format study 1'"));
    FormatStudy s;
    FormatStudyOptions& o = s.options;
    o.dataset = j.at("dataset");
    o.nets = j.at("nets").get<std::vector<std::string>>();
    o.precisions = j.at("precisions").get<std::vector<std::string>>();
    o.seeds = j.at("seeds"), o.epochs = j.at("epochs"), o.batch = j.at("batch");
    o.rows = j.at("rows"), o.lr = j.at("lr");
    o.optimizer = j.at("optimizer"), o.schedule = j.at("schedule");
    s.cpu = j.at("cpu"), s.isa = j.at("isa"), s.threads = j.at("threads");
    s.energy = j.at("energy");
    s.device = j.value("device", "cpu");
    o.device = j.value("device_option", "cpu"), o.math = j.value("math", "f32");
    for (const json& r : j.at("runs")) s.runs.push_back(run_from(r));
    return s;
  } catch (const json::exception& e) { throw io_error(str(path, ": ", e.what())); }
}

std::string format_study_csv(const FormatStudy& s) {
  std::string out =
      "net,precision,seed,accuracy,loss,seconds,weight_bytes,bytes,flops,executed_flops,"
      "executed_iops,inexact,to_max,to_min,to_zero,nar,loss_scale,skipped,joules,joules_sd,"
      "joules_kind,joules_source,hardware_lo,hardware_hi\n";
  for (const FormatRun& r : s.runs)
    out += str(r.net, ",", r.precision, ",", r.seed, ",", r.accuracy, ",", r.loss, ",", r.seconds,
               ",", r.weight_bytes, ",", r.bytes, ",", r.flops, ",", r.executed_flops, ",",
               r.executed_iops, ",", r.rounding.inexact, ",", r.rounding.to_max, ",",
               r.rounding.to_min, ",", r.rounding.to_zero, ",", r.rounding.nar, ",", r.loss_scale,
               ",", r.skipped, ",", r.joules.available() ? str(r.joules.joules()) : "", ",",
               r.joules.available() ? str(r.joules.sd_joules()) : "", ",", word(r.joules.kind), ",",
               r.joules.source, ",", r.hardware_lo, ",", r.hardware_hi, "\n");
  return out;
}

}  // namespace wattle::green
