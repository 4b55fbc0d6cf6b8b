#include "energy/window.h"

#include <cmath>
#include <mutex>

#include "core/error.h"

namespace wattle::energy {
namespace {

std::mutex sync_lock;
Callable<void()>& sync_slot() {
  static Callable<void()> f;
  return f;
}

void wait_for_devices() {
  Callable<void()> sync;
  {
    const std::lock_guard hold(sync_lock);
    sync = sync_slot();
  }
  if (sync) sync();
}

CounterGain gain_of(const Counter& c, const Reading& a, const Reading& b) {
  CounterGain g;
  g.counter = c.source() + " " + c.label();
  if (a.faults != b.faults) g.fault = b.fault;
  else if (b.uj < a.uj || b.ns < a.ns) g.fault = "the counter or the clock went backwards";
  if (!g.fault.empty()) {
    g.joules = {0, 0, JouleKind::unavailable, g.counter};
    return g;
  }
  const double uj = static_cast<double>(b.uj - a.uj);
  const double seconds = static_cast<double>(b.ns - a.ns) * 1e-9;
  g.joules = {b.uj - a.uj, gain_sd_uj(uj, seconds, c.update_s(), c.rel_sd()), JouleKind::measured,
              g.counter};
  return g;
}

}  // namespace

void set_device_sync(Callable<void()> sync) {
  const std::lock_guard hold(sync_lock);
  sync_slot() = std::move(sync);
}

double gain_sd_uj(double uj, double seconds, double update_s, double rel_sd) {
  // A window shorter than an update sees either nothing or a whole one: off by about as much.
  const double granularity =
      seconds > update_s ? std::sqrt(1.0 / 6) * update_s * uj / seconds : std::fabs(uj);
  return std::hypot(granularity, rel_sd * uj);
}

Window::Window(Meter& meter, std::string name, IdleBaseline idle)
    : meter_(&meter), name_(std::move(name)), idle_(idle) {
  wait_for_devices();
  before_ = meter.read();
  start_ns_ = meter.io().now_ns();
}

double Window::seconds_so_far() const {
  return static_cast<double>(meter_->io().now_ns() - start_ns_) * 1e-9;
}

WindowResult Window::end() {
  if (ended_) throw value_error(str("window '", name_, "' was ended before"));
  ended_ = true;
  wait_for_devices();
  const std::vector<Reading> after = meter_->read();
  WindowResult r;
  r.name = name_;
  r.seconds = seconds_so_far();
  const auto& counters = meter_->counters();
  if (counters.empty()) {
    r.note = "no meter on this host";
    return r;
  }
  std::vector<Joules> gains;
  for (size_t i = 0; i < counters.size(); ++i) {
    r.parts.push_back(gain_of(*counters[i], before_[i], after[i]));
    gains.push_back(r.parts.back().joules);
    if (!r.parts.back().fault.empty())
      r.note += str(r.note.empty() ? "" : "; ", r.parts.back().counter, ": ", r.parts.back().fault);
  }
  r.gross = sum(gains);
  if (!idle_.known) return r;
  const double idle_uj = idle_.watts * r.seconds * 1e6;
  r.idle = {std::llround(idle_uj), idle_.sd_watts * r.seconds * 1e6, JouleKind::attributed,
            "idle baseline"};
  if (!r.gross.available()) return r;
  r.net = {r.gross.uj - r.idle.uj, std::hypot(r.gross.sd_uj, r.idle.sd_uj), JouleKind::attributed,
           r.gross.source};
  return r;
}

IdleBaseline measure_idle(Meter& meter, double seconds, int parts) {
  if (!(seconds > 0) || parts < 2)
    throw value_error(str("measure_idle: found ", seconds, " s in ", parts,
                          " parts, expected more than 0 s in at least 2"));
  IdleBaseline out;
  if (!meter.available()) return out;
  std::vector<double> watts;
  double granularity = 0;
  for (int i = 0; i < parts; ++i) {
    Window w(meter, "idle");
    meter.io().sleep_s(seconds / parts);
    const WindowResult r = w.end();
    if (!r.gross.available() || !(r.seconds > 0)) return out;
    watts.push_back(r.gross.joules() / r.seconds);
    granularity = std::max(granularity, r.gross.sd_joules() / r.seconds);
    out.seconds += r.seconds;
  }
  double mean = 0, ss = 0;
  for (const double w : watts) mean += w / parts;
  for (const double w : watts) ss += (w - mean) * (w - mean);
  out.known = true;
  out.watts = mean;
  out.sd_watts = std::max(std::sqrt(ss / (parts - 1)), granularity);
  return out;
}

}  // namespace wattle::energy
