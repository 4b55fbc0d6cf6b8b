#include "green/calibrate.h"

#include <algorithm>
#include <random>

#include "core/counters.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "ops/ops.h"

namespace wattle::green {
namespace {

// What the counters of this thread gained since they were cleared.
energy::Work counted_work(double seconds) {
  energy::Work w;
  for (const Row& r : counters().rows()) {
    Cost c = r.executed;
    c.read = r.cost.read;
    c.written = r.cost.written;
    w += energy::work_of(c, std::string(name(r.key.dtype)), 0);
  }
  w.seconds = seconds;
  return w;
}

energy::CalibrationWindow measure(energy::Meter& meter, const CalibrationKernel& load,
                                  double seconds) {
  if (load.once) load.once();  // memory and caches are made before the clock starts
  counters().clear();
  energy::Window w(meter, load.kernel);
  if (!load.once) meter.io().sleep_s(seconds);
  else
    while (w.seconds_so_far() < seconds) load.once();
  const energy::WindowResult r = w.end();
  if (!r.gross.available()) throw io_error(str("calibrate: ", load.kernel, ": ", r.note));
  if (r.gross.uj <= 0)
    throw io_error(
        str("calibrate: ", load.kernel, ": the meter did not move in ", r.seconds, " s"));
  return {load.kernel, counted_work(r.seconds), r.gross.joules(), r.gross.sd_joules()};
}

CalibrationKernel matmul_load(const std::string& kernel, int64_t m, int64_t k) {
  const Tensor a = uniform({m, k}), b = uniform({k, m});
  return {kernel, [a, b] { matmul(a, b); }};
}

}  // namespace

std::vector<CalibrationKernel> default_workloads() {
  const Tensor big = uniform({2048, 2048}), other = uniform({2048, 2048});
  const Tensor image = uniform({64, 32, 28, 28}), filter = uniform({32, 32, 3, 3});
  const Tensor turned = transpose(big, 0, 1);
  return {
      {"copy", [=] { contiguous(turned); }},  {"add", [=] { add(big, other); }},
      {"gelu", [=] { gelu(big); }},           {"softmax", [=] { softmax(big, 1); }},
      matmul_load("matmul 4", 2048, 4),       matmul_load("matmul 16", 2048, 16),
      matmul_load("matmul 64", 2048, 64),     matmul_load("matmul 512", 1024, 512),
      matmul_load("matmul 1024", 1024, 1024), {"conv2d", [=] { conv2d(image, filter, {}, 1, 1); }}};
}

double shortest_window_s(const energy::Meter& meter) {
  double update = 0;
  for (const energy::Counter* c : meter.counters()) update = std::max(update, c->update_s());
  return 100 * update;
}

std::vector<energy::CalibrationWindow> calibration_windows(
    energy::Meter& meter, const std::vector<CalibrationKernel>& workloads,
    const CalibrateOptions& o, const Callable<void(int, int, const std::string&)>& progress) {
  if (!meter.available())
    throw device_error("calibrate: no meter on this host, nothing is changed");
  const double seconds = std::max(o.window_s, shortest_window_s(meter));
  std::vector<CalibrationKernel> plan(static_cast<size_t>(o.idle_windows),
                                      CalibrationKernel{"idle", {}});
  for (const CalibrationKernel& w : workloads)
    for (int k = 0; k < o.repeats; ++k) plan.push_back(w);
  std::mt19937_64 rng(o.seed);
  for (size_t i = plan.size(); i > 1; --i) std::swap(plan[i - 1], plan[rng() % i]);
  const NoRecord off;
  const Counters saved = counters();
  std::vector<energy::CalibrationWindow> out;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (progress) progress(static_cast<int>(i), static_cast<int>(plan.size()), plan[i].kernel);
    out.push_back(measure(meter, plan[i], seconds));
  }
  counters() = saved;
  return out;
}

Replay replay(energy::Meter& meter, const Callable<void()>& once, double min_s,
              const energy::IdleBaseline& idle) {
  const NoRecord off;
  const Counters saved = counters();
  const double seconds = std::max(min_s, shortest_window_s(meter));
  once();
  Replay out;
  energy::Window w(meter, "replay", idle);
  do {
    once();
    ++out.repeats;
  } while (w.seconds_so_far() < seconds);
  const energy::WindowResult r = w.end();
  counters() = saved;
  out.seconds = r.seconds / static_cast<double>(out.repeats);
  out.total = r.gross;
  out.gross = energy::mean_of(r.gross, out.repeats);
  out.net = energy::mean_of(r.net, out.repeats);
  out.note = r.note;
  return out;
}

}  // namespace wattle::green
