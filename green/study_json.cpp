// study.json: everything a study needs to continue from where it stopped.
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "green/study_files.h"

namespace wattle::green {
namespace {

using Json = nlohmann::ordered_json;
constexpr int format_version = 1;

Json number(double v) { return std::isfinite(v) ? Json(v) : Json(nullptr); }
double number(const Json& j) { return j.is_null() ? not_known : j.get<double>(); }

Json to_json(const Joules& j) {
  return {{"uj", j.uj},
          {"sd_uj", number(j.sd_uj)},
          {"kind", std::string(energy::name(j.kind))},
          {"source", j.source}};
}
Joules joules(const Json& j) {
  return {j.at("uj").get<int64_t>(), number(j.at("sd_uj")),
          energy::joule_kind_from_name(j.at("kind").get<std::string>()),
          j.at("source").get<std::string>()};
}

Json to_json(const NetKey& k) {
  return {{"net", k.net}, {"linear", k.linear}, {"conv", k.conv}, {"relu", k.relu}};
}
NetKey net_key(const Json& j) {
  return {j.at("net").get<std::string>(), j.at("linear").get<int>(), j.at("conv").get<int>(),
          j.at("relu").get<int>()};
}

Json to_json(const StudySettings& s) {
  Json nets = Json::array();
  for (const NetKey& k : s.nets) nets.push_back(to_json(k));
  return {{"dataset", s.dataset},
          {"protocol", s.protocol},
          {"epochs", s.epochs},
          {"batch", s.batch},
          {"rows", s.rows},
          {"test_rows", s.test_rows},
          {"optimizer", s.optimizer},
          {"lr", number(s.lr)},
          {"energy_source", s.energy_source},
          {"energy_sentence", s.energy_sentence},
          {"region", s.region},
          {"version", s.version},
          {"cpu", s.cpu},
          {"simd", s.simd},
          {"threads", s.threads},
          {"device", s.device},
          {"date", s.date},
          {"seeds", s.seeds},
          {"nets", nets},
          {"oddities", s.oddities},
          {"notes", s.notes}};
}
StudySettings settings(const Json& j) {
  StudySettings s;
  j.at("dataset").get_to(s.dataset), j.at("protocol").get_to(s.protocol);
  j.at("epochs").get_to(s.epochs), j.at("batch").get_to(s.batch);
  j.at("rows").get_to(s.rows), j.at("test_rows").get_to(s.test_rows);
  j.at("optimizer").get_to(s.optimizer), s.lr = number(j.at("lr"));
  j.at("energy_source").get_to(s.energy_source);
  s.energy_sentence = j.value("energy_sentence", "");
  s.region = j.value("region", "");
  j.at("version").get_to(s.version);
  j.at("cpu").get_to(s.cpu), j.at("simd").get_to(s.simd), j.at("threads").get_to(s.threads);
  s.device = j.value("device", "cpu");
  j.at("date").get_to(s.date), j.at("seeds").get_to(s.seeds);
  for (const Json& k : j.at("nets")) s.nets.push_back(net_key(k));
  j.at("oddities").get_to(s.oddities), j.at("notes").get_to(s.notes);
  return s;
}

Json to_json(const StudyRun& r) {
  Json j = to_json(r.key);
  j.update({{"dataset", r.dataset},
            {"seed", r.seed},
            {"epochs", r.epochs},
            {"rows", r.rows},
            {"accuracy", number(r.accuracy)},
            {"flops_weighted", r.flops_weighted},
            {"flops_all", r.flops_all},
            {"bytes", r.bytes},
            {"seconds", number(r.seconds)},
            {"joules", to_json(r.joules)},
            {"joules_idle", to_json(r.idle)},
            {"joules_net", to_json(r.net)},
            {"kappa", number(r.kappa)},
            {"params", r.params},
            {"train_loss", number(r.train_loss)},
            {"val_loss", number(r.val_loss)},
            {"val_accuracy", number(r.val_accuracy)},
            {"diverged", r.diverged}});
  return j;
}
StudyRun run(const Json& j) {
  StudyRun r;
  r.key = net_key(j);
  j.at("dataset").get_to(r.dataset), j.at("seed").get_to(r.seed);
  j.at("epochs").get_to(r.epochs), j.at("rows").get_to(r.rows);
  r.accuracy = number(j.at("accuracy"));
  j.at("flops_weighted").get_to(r.flops_weighted), j.at("flops_all").get_to(r.flops_all);
  j.at("bytes").get_to(r.bytes), r.seconds = number(j.at("seconds"));
  r.joules = joules(j.at("joules")), j.at("params").get_to(r.params);
  // Files of version 1 from before there were meters lack these.
  if (j.contains("joules_idle")) r.idle = joules(j.at("joules_idle"));
  if (j.contains("joules_net")) r.net = joules(j.at("joules_net"));
  if (j.contains("kappa")) r.kappa = number(j.at("kappa"));
  r.train_loss = number(j.at("train_loss")), r.val_loss = number(j.at("val_loss"));
  r.val_accuracy = number(j.at("val_accuracy")), j.at("diverged").get_to(r.diverged);
  return r;
}

Json to_json(const LayerRow& r) {
  Json j = to_json(r.key);
  j.update({{"layer", r.layer},
            {"type", std::string(name(r.type))},
            {"phase", std::string(name(r.phase))},
            {"calls", r.calls},
            {"flops_weighted", r.flops_weighted},
            {"flops_all", r.flops_all},
            {"bytes_read", r.bytes_read},
            {"bytes_written", r.bytes_written},
            {"ms", number(r.ms)},
            {"joules", to_json(r.joules)}});
  return j;
}
LayerRow layer_row(const Json& j) {
  LayerRow r;
  r.key = net_key(j), j.at("layer").get_to(r.layer);
  r.type = layer_type_from_name(j.at("type").get<std::string>());
  r.phase = phase_from_name(j.at("phase").get<std::string>());
  j.at("calls").get_to(r.calls);
  j.at("flops_weighted").get_to(r.flops_weighted), j.at("flops_all").get_to(r.flops_all);
  j.at("bytes_read").get_to(r.bytes_read), j.at("bytes_written").get_to(r.bytes_written);
  r.ms = number(j.at("ms")), r.joules = joules(j.at("joules"));
  return r;
}

Json to_json(const EpochPoint& p) {
  Json j = to_json(p.key);
  j.update({{"seed", p.seed},
            {"epoch", p.epoch},
            {"train_loss", number(p.train_loss)},
            {"val_accuracy", number(p.val_accuracy)},
            {"accuracy", number(p.accuracy)},
            {"seconds", number(p.seconds)}});
  return j;
}
EpochPoint epoch_point(const Json& j) {
  return {net_key(j),
          j.at("seed").get<uint64_t>(),
          j.at("epoch").get<int>(),
          number(j.at("train_loss")),
          number(j.at("val_accuracy")),
          number(j.at("accuracy")),
          number(j.at("seconds"))};
}

template <class T>
Json list(const std::vector<T>& items) {
  Json a = Json::array();
  for (const T& t : items) a.push_back(to_json(t));
  return a;
}

}  // namespace

std::string study_json(const StudyResult& s) {
  const Json j = {{"format", "wattle layer study"},  {"format_version", format_version},
                  {"settings", to_json(s.settings)}, {"runs", list(s.runs)},
                  {"layers", list(s.layers)},        {"curves", list(s.curves)}};
  // names may come from file systems: replace what is no UTF-8 rather than lose the study
  return j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

StudyResult study_from_json(std::string_view text, const std::string& path) {
  try {
    const Json j = Json::parse(text);
    if (!j.is_object() || j.value("format", "") != "wattle layer study") {
      throw io_error(str(path, ": found no \"format\": \"wattle layer study\""));
    }
    if (const int v = j.at("format_version").get<int>(); v != format_version) {
      throw io_error(str(path, ": found format_version ", v, ", expected ", format_version));
    }
    StudyResult s;
    s.settings = settings(j.at("settings"));
    for (const Json& r : j.at("runs")) s.runs.push_back(run(r));
    for (const Json& r : j.at("layers")) s.layers.push_back(layer_row(r));
    for (const Json& p : j.at("curves")) s.curves.push_back(epoch_point(p));
    return s;
  } catch (const Json::exception& e) {
    throw io_error(str(path, ": not a study file: ", e.what()));
  } catch (const value_error& e) { throw io_error(str(path, ": not a study file: ", e.what())); }
}

}  // namespace wattle::green
