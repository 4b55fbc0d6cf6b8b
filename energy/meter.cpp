#include "energy/meter.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <thread>

#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

// RAPL answers may be worthless in two ways that only show over time: a virtual machine's registers
// that always hold the same, and two dies that show one counter twice.
constexpr int looks = 6;
constexpr double look_s = 0.02;
constexpr double patient_look_s = 1.2;  // QEMU hands registers on once a second
constexpr int equal_steps = 3;

using Gains = std::vector<std::vector<int64_t>>;  // per counter, between looks

bool all_zero(const std::vector<int64_t>& v) {
  return std::all_of(v.begin(), v.end(), [](int64_t x) { return x == 0; });
}

Gains watch(const CounterList& counters, HostIo& io) {
  Gains gains(counters.size());
  std::vector<int64_t> last;
  for (const auto& c : counters) last.push_back(c->read().uj);
  for (int k = 1; k < looks; ++k) {
    io.sleep_s(look_s);
    for (size_t i = 0; i < counters.size(); ++i) {
      const int64_t now = counters[i]->read().uj;
      gains[i].push_back(now - last[i]);
      last[i] = now;
    }
  }
  const auto still = [&](size_t i) {
    const Domain d = counters[i]->domain();
    const bool counts = d == Domain::package || d == Domain::dram || d == Domain::psys;
    return counts && all_zero(gains[i]);
  };
  bool patience = false;
  for (size_t i = 0; i < counters.size(); ++i) patience = patience || still(i);
  if (!patience) return gains;
  io.sleep_s(patient_look_s);
  for (size_t i = 0; i < counters.size(); ++i) gains[i].push_back(counters[i]->read().uj - last[i]);
  return gains;
}

// Several equal steps in a row, and not of 0. Not all of them need be equal: an update may fall
// between the readings of the two.
bool same_steps(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  int equal = 0;
  for (size_t k = 0; k < a.size() && equal < equal_steps; ++k)
    equal = a[k] == b[k] && a[k] != 0 ? equal + 1 : 0;
  return equal == equal_steps;
}

void judge_rapl(Probed& p, HostIo& io) {
  if (p.counters.empty()) return;
  const Gains gains = watch(p.counters, io);
  if (std::all_of(gains.begin(), gains.end(), all_zero)) {
    p.report.reason = "can be read but never moves: a virtual machine without access to energy?";
    p.counters.clear();
    return;
  }
  const auto leave_out = [&p](size_t i, const std::string& why) {
    p.report.reason +=
        str(p.report.reason.empty() ? "" : "; ", p.counters[i]->label(), why, " and is left out");
    p.counters[i].reset();
  };
  for (size_t i = 0; i < gains.size(); ++i) {
    if (all_zero(gains[i])) {
      leave_out(i, " never moves");
      continue;
    }
    // Packages only: idle memory of two sockets may well draw the same.
    for (size_t j = 0; j < i && p.counters[i]->domain() == Domain::package; ++j) {
      if (!p.counters[j] || p.counters[j]->domain() != Domain::package) continue;
      if (!same_steps(gains[j], gains[i])) continue;
      leave_out(i, " shows the counter of " + p.counters[j]->label() + " once more");
      break;
    }
  }
  std::erase_if(p.counters, [](const auto& c) { return !c; });
}

constexpr const char* cpu_sources[] = {"perf_event", "powercap", "msr", "hwmon"};

std::vector<size_t> of_domain(const std::vector<const Counter*>& all, std::string_view source,
                              Domain d) {
  std::vector<size_t> out;
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i]->domain() == d && (source.empty() || all[i]->source() == source)) out.push_back(i);
  return out;
}

std::vector<size_t> cpu_cover(const std::vector<const Counter*>& all) {
  for (const char* source : cpu_sources) {
    std::vector<size_t> cover = of_domain(all, source, Domain::package);
    if (cover.empty()) continue;
    for (const size_t i : of_domain(all, source, Domain::dram)) cover.push_back(i);
    return cover;
  }
  for (const char* source : cpu_sources)
    if (const auto psys = of_domain(all, source, Domain::psys); !psys.empty()) return {psys[0]};
  return {};
}

}  // namespace

std::string_view name(Domain d) {
  constexpr std::string_view names[] = {"package", "core",  "uncore", "dram",   "psys",
                                        "gpu",     "board", "rail",   "battery"};
  return names[static_cast<size_t>(d)];
}

ProbeOptions probe_options_from_environment() {
  const auto text = [](const char* key) -> std::string {
    const char* const v = std::getenv(key);
    return v ? v : "";
  };
  ProbeOptions o;
  o.nvml_library = text("WATTLE_NVML_LIB");
  o.allow_msr = text("WATTLE_ALLOW_MSR") == "1";
  o.external_command = text("WATTLE_METER_COMMAND");
  o.external_file = text("WATTLE_METER_FILE");
  o.root = text("WATTLE_METER_ROOT");
  if (const std::string s = text("WATTLE_METER_UPDATE_S"); !s.empty()) {
    const auto v = parse_decimal(s);
    if (!v || !(*v > 0))
      throw value_error(str("WATTLE_METER_UPDATE_S: found '", s, "', expected seconds > 0"));
    o.external_update_s = *v;
  }
  return o;
}

std::vector<size_t> non_overlapping(const std::vector<const Counter*>& all) {
  for (const char* source : {"external", "jetson"})
    if (const auto board = of_domain(all, source, Domain::board); !board.empty()) return {board[0]};
  std::vector<size_t> cover = cpu_cover(all);
  if (cover.empty()) cover = of_domain(all, "", Domain::battery);
  const bool battery = !cover.empty() && all[cover[0]]->domain() == Domain::battery;
  const bool platform = !cover.empty() && all[cover[0]]->domain() == Domain::psys;
  if (battery) return cover;
  for (const char* source : {"nvml", "hwmon"}) {
    // A platform counter may or may not contain boards in slots; a slot's GPU is not in it.
    if (platform && std::string_view(source) == "hwmon") continue;
    const auto gpus = of_domain(all, source, Domain::gpu);
    cover.insert(cover.end(), gpus.begin(), gpus.end());
  }
  return cover;
}

// Polls on a thread of its own until the meter goes.
struct Meter::Poller {
  std::mutex lock;
  std::condition_variable wake;
  bool stop = false;
  std::thread thread;
};

std::shared_ptr<Meter> Meter::of(CounterList counters, std::shared_ptr<HostIo> io) {
  std::shared_ptr<Meter> m(new Meter);
  m->io_ = std::move(io);
  m->all_ = std::move(counters);
  std::vector<const Counter*> all;
  for (const auto& c : m->all_) all.push_back(c.get());
  for (const size_t i : non_overlapping(all)) {
    m->used_.push_back(all[i]);
    m->read_.push_back(m->all_[i].get());
  }
  m->start_polling();
  return m;
}

std::shared_ptr<Meter> Meter::probe(const ProbeOptions& o, std::shared_ptr<HostIo> io) {
  if (!io) io = HostIo::real(o.root);
  std::vector<SourceReport> reports;
  CounterList all;
  for (auto* probe_source : {probe_perf_event, probe_powercap, probe_msr, probe_hwmon, probe_jetson,
                             probe_battery, probe_nvml, probe_external}) {
    Probed p = probe_source(*io, o);
    const bool rapl =
        p.report.name == "perf_event" || p.report.name == "powercap" || p.report.name == "msr";
    if (rapl) judge_rapl(p, *io);
    p.report.available = !p.counters.empty();
    for (const auto& c : p.counters) p.report.domains.push_back(c->label());
    std::move(p.counters.begin(), p.counters.end(), std::back_inserter(all));
    reports.push_back(std::move(p.report));
  }
  std::shared_ptr<Meter> m = of(std::move(all), io);
  for (SourceReport& r : reports) {
    if (!r.available) continue;
    std::string used;
    for (const Counter* c : m->used_)
      if (c->source() == r.name) used += str(used.empty() ? "" : " + ", c->label());
    const std::string how = used.empty() ? "not used: another source covers it" : "used: " + used;
    r.reason = how + (r.reason.empty() ? "" : "; " + r.reason);
  }
  m->sources_ = std::move(reports);
  return m;
}

Meter::~Meter() {
  if (!poller_) return;
  {
    const std::lock_guard hold(poller_->lock);
    poller_->stop = true;
  }
  poller_->wake.notify_all();
  poller_->thread.join();
}

void Meter::start_polling() {
  double period = 0;
  for (const Counter* c : used_)
    if (c->poll_s() > 0 && (period == 0 || c->poll_s() / 2 < period)) period = c->poll_s() / 2;
  if (period == 0) return;
  poller_ = std::make_unique<Poller>();
  poller_->thread = std::thread([this, period] {
    std::unique_lock hold(poller_->lock);
    while (!poller_->wake.wait_for(hold, std::chrono::duration<double>(period),
                                   [this] { return poller_->stop; })) {
      hold.unlock();
      read();
      hold.lock();
    }
  });
}

std::string Meter::describe() const {
  std::string s;
  for (const Counter* c : used_) s += str(s.empty() ? "" : " + ", c->source(), " ", c->label());
  return s.empty() ? "none" : s;
}

std::vector<Reading> Meter::read() {
  const std::lock_guard hold(lock_);
  std::vector<Reading> out;
  for (Counter* c : read_) out.push_back(c->read());
  return out;
}

}  // namespace wattle::energy
