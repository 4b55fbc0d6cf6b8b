#include "green/format_advice.h"

#include <algorithm>
#include <chrono>

#include "core/counters.h"
#include "core/error.h"
#include "core/recorder.h"
#include "data/loader.h"
#include "green/calibration.h"

namespace wattle::green {
namespace {

struct LayerSize {
  std::string name;
  int64_t bytes;
};
std::vector<LayerSize> layers_by_size(const nn::Sequential& net) {
  std::vector<LayerSize> out;
  for (const nn::Module::Child& c : net.children())
    if (nn::is_contraction(*c.module)) out.push_back({c.name, quant::model_bytes(*c.module)});
  std::stable_sort(out.begin(), out.end(),
                   [](const LayerSize& a, const LayerSize& b) { return a.bytes > b.bytes; });
  return out;
}

void add(Inference& total, const Inference& one) {
  total.seconds += one.seconds;
  total.bytes += one.bytes, total.flops += one.flops, total.iops += one.iops;
  total.joules = total.joules.available() ? energy::sum({total.joules, one.joules}) : one.joules;
}

}  // namespace

Inference infer(nn::Sequential& net, const data::Dataset& data, EnergySession& energy) {
  const NoRecord off;
  net.eval();
  counters().clear();
  data::DataLoader loader(
      data, {.batch = std::min<int64_t>(1000, data.rows()), .shuffle = false, .prefetch = 0});
  Inference r;
  int64_t right = 0;
  EnergyRun measured;
  energy.begin(measured, "inference");
  const auto start = std::chrono::steady_clock::now();
  for (data::Batch& b : loader) {
    const auto guess = argmax(net(to_float(b.images)), 1).values<int64_t>();
    const auto truth = b.labels.values<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) right += guess[i] == truth[i];
  }
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  measured.end();
  const Ledger l = energy.ledger(counters(), module_kinds(net), measured);
  r.accuracy = static_cast<double>(right) / static_cast<double>(data.rows());
  r.weight_bytes = quant::model_bytes(net);
  r.bytes = l.cost.bytes(), r.flops = l.cost.flops(), r.iops = l.executed.iop;
  r.joules = l.joules;
  return r;
}

Advice advise(const MakeNet& make, const data::Dataset& calibration,
              const data::Dataset& validation, double drop, const std::vector<std::string>& formats,
              EnergySession& energy) {
  if (validation.evaluation)
    throw value_error(
        str("advise: found the test set of ", validation.name,
            ", expected validation data: formats chosen by it would be fitted to it"));
  if (!(drop >= 0)) throw value_error(str("--drop: found ", drop, ", expected >= 0 points"));
  Advice a;
  const auto plain = make();
  const std::vector<LayerSize> layers = layers_by_size(*plain);
  a.f32 = a.chosen = infer(*plain, validation, energy);
  const quant::InputRanges ranges = calibrate(*plain, calibration);
  a.config.to = "f32";
  for (const LayerSize& layer : layers)
    for (const std::string& format : formats) {
      quant::QuantizeConfig trial = a.config;
      trial.layers[layer.name] = format;
      const auto net = make();
      quant::quantize_(*net, trial, ranges);
      Advice::Step step{layer.name, format, infer(*net, validation, energy)};
      add(a.search, step.result);
      const Joules &now = step.result.joules, &before = a.chosen.joules;
      const bool cheaper = !now.available() || !before.available() || now.uj <= before.uj;
      step.kept = 100 * (a.f32.accuracy - step.result.accuracy) <= drop && cheaper;
      a.tried.push_back(step);
      if (!step.kept) continue;
      a.config = trial;
      a.chosen = step.result;
      break;
    }
  return a;
}

}  // namespace wattle::green
