// wattle bench closure: the joules of every op of a training step, each measured by repeating it
// alone, and whether they sum to the joules of the whole step, measured by repeating that.
#include <chrono>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "core/counters.h"
#include "core/cuda.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "green/energy_session.h"
#include "green/replay_energy.h"
#include "green/trainer.h"
#include "tools/cli.h"
#include "tools/net_options.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// A call of the step with what it needs to run again.
struct Kept {
  const OpBase* op = nullptr;
  std::shared_ptr<const void> attr;
  Tensors in;
  int times = 0;
  double joules = 0, seconds = 0;  // of one call
};

struct Keeper final : Recorder {
  std::map<std::string, Kept> calls;
  void optimizer_steps(const nn::Optimizer& o, const std::vector<nn::Named>& parameters);
  void record(const Call& c) override {
    if (c.op->is_view) return;
    std::string key = c.op->name;
    for (const AttrText& a : c.op->attr_texts(c.attr)) key += " " + a.name + "=" + a.text;
    Tensors in(c.in.begin(), c.in.end());
    for (const Tensor& t : in) key += " " + t.str();
    Kept& k = calls[key];
    if (k.times++ == 0) {
      k.op = c.op;
      k.attr = c.op->copy_attr(c.attr);
      k.in = std::move(in);
    }
  }
};

// The optimiser hides its steps from recorders, as no gradient flows through them.
void Keeper::optimizer_steps(const nn::Optimizer& o, const std::vector<nn::Named>& parameters) {
  const OpBase& op = find_op("adam_step");
  const std::shared_ptr<void> attr = op.make_attr();
  op.set_attr(attr.get(), "step", "2");
  const nn::StateDict state = o.state_dict();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor p = parameters[i].tensor;
    calls["adam_step " + parameters[i].name] = {
        &op, attr, {p, p.grad(), state[2 * i].tensor, state[2 * i + 1].tensor}, 1};
  }
}

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

// Joules and seconds of one call, from a graph of 32 copies that is replayed.
void measure(Kept& k, green::EnergySession& energy, double seconds) {
  constexpr int copies = 32;
  const auto graph = cuda::Graph::capture([&] {
    const NoRecord off;
    for (int i = 0; i < copies; ++i) apply(*k.op, k.in, k.attr.get());
  });
  const device::Live live{1e-3, 2, 0};
  const auto repeat = [&](double length) {
    int64_t n = 0;
    for (const auto start = Clock::now(); seconds_since(start) < length;) {
      for (int i = 0; i < 20; ++i) graph->replay(live);
      n += 20 * copies;
      cuda::synchronize();
    }
    return n;
  };
  repeat(seconds / 5);
  energy::Window w(energy.meter(), k.op->name, energy.idle());
  const int64_t n = repeat(seconds);
  const energy::WindowResult r = w.end();
  k.joules = r.gross.joules() / static_cast<double>(n);
  k.seconds = r.seconds / static_cast<double>(n);
}

}  // namespace

void bench_closure(const green::NetSpec& spec, const std::string& dataset, int64_t batch,
                   double seconds, bool as_json) {
  const Device d = cuda::device();
  if (cuda::status().emulated)
    throw device_error("closure: needs a GPU, found emulated device code");
  green::EnergySession energy(2, nullptr, d);
  if (!energy.measured()) throw device_error("closure: needs a meter (\"wattle meter\" says why)");
  const green::ImageSpec image = green::image_spec(dataset);
  manual_seed(0);
  const auto net = green::make_net(spec, image);
  net->to(d);
  const auto optimizer = nn::make_optimizer("adam", net->named_parameters(), 1e-3);
  const Tensor images =
      cast(uniform({batch, image.channels, image.height, image.height}, 0, 255), DType::u8).to(d);
  const Tensor labels = cast(uniform({batch}, 0, 9.99), DType::i64).to(d);
  const auto step = [&](const Tensor& x, const Tensor& y) {
    return green::train_step(*net, *optimizer, x, y);
  };
  step(images, labels);
  Keeper keeper;
  step(images, labels);
  green::CapturedStep captured(d, *optimizer, images, labels,
                               [&](const Tensor& x, const Tensor& y) {
                                 const NoRecord off;
                                 return step(x, y);
                               });
  captured.run(images, labels);
  keeper.optimizer_steps(*optimizer, net->named_parameters());
  const green::StepEnergy whole =
      green::measure_step(energy.meter(), energy.idle(), captured, 2 * seconds);
  const double step_j = whole.window.gross.joules() / static_cast<double>(whole.steps);
  double sum_j = 0, sum_s = 0;
  json rows = json::array();
  for (auto& [key, k] : keeper.calls) {
    measure(k, energy, seconds);
    sum_j += k.joules * k.times, sum_s += k.seconds * k.times;
    rows.push_back(
        {{"call", key}, {"times", k.times}, {"joules", k.joules}, {"seconds", k.seconds}});
    if (!as_json)
      std::printf("%9.2f uJ %8.2f us x%d  %s\n", 1e6 * k.joules, 1e6 * k.seconds, k.times,
                  key.c_str());
  }
  const double closure = sum_j / step_j;
  const bool holds = closure >= 0.85 && closure <= 1.15;
  if (as_json) {
    const json j{{"step_joules", step_j}, {"step_seconds", whole.seconds_per_step()},
                 {"sum_joules", sum_j},   {"sum_seconds", sum_s},
                 {"closure", closure},    {"holds", holds},
                 {"calls", rows}};
    std::printf("%s\n", j.dump(1).c_str());
    return;
  }
  std::printf(
      "the step: %.3f mJ, %.1f us; its ops alone: %.3f mJ, %.1f us; closure %.3f (0.85 to 1.15: "
      "%s)\n",
      1e3 * step_j, 1e6 * whole.seconds_per_step(), 1e3 * sum_j, 1e6 * sum_s, closure,
      holds ? "holds" : "does NOT hold");
}

}  // namespace wattle::cli
