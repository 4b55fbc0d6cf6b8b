#include "green/replay_energy.h"

#include <chrono>
#include <cmath>

#include "core/counters.h"

namespace wattle::green {
namespace {

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// Repeats until `seconds` have passed; a wait every so many steps keeps the queue short.
int64_t repeat(CapturedStep& step, double seconds) {
  const auto start = std::chrono::steady_clock::now();
  int64_t n = 0;
  while (seconds_since(start) < seconds) {
    for (int i = 0; i < 64; ++i) step.run_again();
    n += 64;
    cuda::synchronize();
  }
  return n;
}

energy::Joules times(const energy::Joules& j, double factor, const std::string& how) {
  if (!j.available()) return j;
  energy::Joules out = j;
  out.uj = std::llround(static_cast<double>(j.uj) * factor);
  out.sd_uj = j.sd_uj * factor;
  out.source += how;
  return out;
}

}  // namespace

StepEnergy measure_step(energy::Meter& meter, const energy::IdleBaseline& idle, CapturedStep& step,
                        double seconds) {
  if (!(seconds > 0)) throw value_error(str("measure_step: found ", seconds, " s, expected > 0"));
  const Counters before = counters();  // the repeats are no part of the training
  repeat(step, seconds / 4);
  StepEnergy e;
  energy::Window w(meter, "step repeated", idle);
  e.steps = repeat(step, seconds);
  e.window = w.end();
  counters() = before;
  return e;
}

energy::WindowResult energy_of_steps(const StepEnergy& e, int64_t steps) {
  const double factor = static_cast<double>(steps) / static_cast<double>(e.steps);
  const std::string how = ", a step repeated";
  energy::WindowResult r;
  r.name = e.window.name;
  r.seconds = e.window.seconds * factor;
  r.gross = times(e.window.gross, factor, how);
  r.idle = times(e.window.idle, factor, how);
  r.net = times(e.window.net, factor, how);
  r.note = e.window.note;
  return r;
}

}  // namespace wattle::green
