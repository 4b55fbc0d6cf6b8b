// wattle bench nvml: whether a GPU's energy counter and its power agree, and whether windows add
// up. Run it beside a load; it samples, it makes none.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.h"
#include "energy/nvml.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

struct Reading {
  double t, mj;
};

// One window: the counter's gain between two readings, and power integrated over the same time.
struct Pair {
  double seconds, counter_j, integrated_j;
};

class Sampler {
 public:
  explicit Sampler(std::shared_ptr<energy::Nvml> n, energy::NvmlDevice d)
      : nvml_(std::move(n)), device_(d), start_(Clock::now()) {}

  // Energy now, read just after the counter moved, so that its steps do not blur a window.
  Reading fresh() {
    const double before = mj();
    const auto asked = Clock::now();
    while (seconds_since(asked) < 10) {
      take_power();
      if (const double now = mj(); now != before) return {seconds_since(start_), now};
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    throw device_error("nvml: the energy counter has not moved for 10 s");
  }
  Pair window(double length, const Reading& from, Reading* to) {
    const double joules = joules_;
    while (seconds_since(start_) - from.t < length) {
      take_power();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    *to = fresh();
    return {to->t - from.t, (to->mj - from.mj) * 1e-3, joules_ - joules};
  }
  // Times and sizes of `n` steps of the counter.
  void steps(int n, double* seconds, double* joules) {
    Reading r = fresh();
    const Reading first = r;
    for (int i = 0; i < n; ++i) r = fresh();
    *seconds = (r.t - first.t) / n;
    *joules = (r.mj - first.mj) * 1e-3 / n;
  }

 private:
  double mj() {
    std::string why;
    const auto v = nvml_->energy_mj(device_, &why);
    if (!v) throw device_error("nvml: " + why);
    return static_cast<double>(*v);
  }
  void take_power() {
    std::string why;
    auto w = nvml_->instant_watts(device_, &why);
    if (!w) w = nvml_->usage_watts(device_, &why);
    if (!w) throw device_error("nvml: " + why);
    const double now = seconds_since(start_);
    if (last_t_ >= 0) joules_ += 0.5 * (*w + last_w_) * (now - last_t_);
    last_t_ = now;
    last_w_ = *w;
  }
  std::shared_ptr<energy::Nvml> nvml_;
  energy::NvmlDevice device_;
  Clock::time_point start_;
  double joules_ = 0, last_t_ = -1, last_w_ = 0;
};

}  // namespace

void bench_nvml(double seconds, double each, bool as_json) {
  std::string why;
  const auto nvml = energy::Nvml::load("", &why);
  if (!nvml) throw device_error("nvml: " + why);
  const auto devices = nvml->devices(&why);
  if (devices.empty()) throw device_error("nvml: no GPU " + why);
  Sampler s(nvml, devices[0]);
  double step_s = 0, step_j = 0;
  s.steps(10, &step_s, &step_j);
  json windows = json::array();
  double worst = 0, sum = 0;
  const Reading first = s.fresh();
  Reading at = first;
  int count = 0;
  while (at.t - first.t < seconds) {
    Reading next{};
    const Pair p = s.window(each, at, &next);
    const double off = p.integrated_j > 0 ? p.counter_j / p.integrated_j - 1 : NAN;
    windows.push_back({{"seconds", p.seconds},
                       {"counter_j", p.counter_j},
                       {"integrated_j", p.integrated_j},
                       {"difference", off}});
    worst = std::max(worst, std::fabs(off));
    sum += p.counter_j;
    at = next;
    ++count;
  }
  const double whole = (at.mj - first.mj) * 1e-3, apart = std::fabs(sum - whole);
  const bool good = worst <= 0.05 && apart <= step_j * count;
  if (as_json) {
    const json j{{"gpu", nvml->name(devices[0])},
                 {"uuid", nvml->uuid(devices[0])},
                 {"counter_step_s", step_s},
                 {"counter_step_j", step_j},
                 {"windows", windows},
                 {"worst_difference", worst},
                 {"sum_j", sum},
                 {"whole_j", whole},
                 {"holds", good}};
    std::printf("%s\n", j.dump(1).c_str());
    return;
  }
  std::printf("%s: the counter moves every %.0f ms, by %.2f J\n", nvml->name(devices[0]).c_str(),
              1e3 * step_s, step_j);
  for (const json& w : windows)
    std::printf("  %.2f s  counter %.1f J  power integrated %.1f J  %+.2f %%\n",
                w["seconds"].get<double>(), w["counter_j"].get<double>(),
                w["integrated_j"].get<double>(), 100 * w["difference"].get<double>());
  std::printf(
      "worst difference %.2f %% (limit 5 %%); windows sum to %.3f J, the whole is %.3f J\n%s\n",
      100 * worst, sum, whole, good ? "holds" : "does NOT hold");
}

}  // namespace wattle::cli
