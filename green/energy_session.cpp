#include "green/energy_session.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/cuda.h"
#include "core/parallel.h"

namespace wattle::green {
namespace {

std::string environment(const char* key) {
  const char* const v = std::getenv(key);
  return v ? v : "";
}

std::string first_value(energy::HostIo& io, const std::string& path, const std::string& key) {
  std::istringstream text(io.read_file(path).text);
  for (std::string line; std::getline(text, line);)
    if (line.starts_with(key) && line.find(": ") != line.npos)
      return line.substr(line.find(": ") + 2);
  return "unknown";
}

std::string whole_line(energy::HostIo& io, const std::string& path) {
  const energy::FileText t = io.read_file(path);
  if (t.error != 0) return "unknown";
  return t.text.substr(0, t.text.find('\n'));
}

energy::ProbeOptions probe_options(Device device) {
  energy::ProbeOptions o = energy::probe_options_from_environment();
  if (device.kind == DeviceKind::cuda)
    o.gpu_uuid = cuda::status().devices[static_cast<size_t>(device.index)].uuid;
  return o;
}

}  // namespace

energy::HostId this_host(const energy::Meter& meter) {
  energy::HostIo& io = meter.io();
  return {first_value(io, "/proc/cpuinfo", "model name"),
          whole_line(io, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), num_threads(),
          meter.describe()};
}

std::string calibration_path() {
  if (const std::string p = environment("WATTLE_CALIBRATION"); !p.empty()) return p;
  std::string base = environment("XDG_CONFIG_HOME");
  if (base.empty() && !environment("HOME").empty()) base = environment("HOME") + "/.config";
  return base.empty() ? "" : base + "/wattle/calibration.json";
}

void EnergyRun::begin(energy::Meter& meter, const std::string& name,
                      const energy::IdleBaseline& idle) {
  open_.emplace(meter, name, idle);
}

void EnergyRun::replace(const energy::WindowResult& r) {
  open_.reset();
  total_ = r;
  first_ = false;
}

void EnergyRun::end() {
  const energy::WindowResult r = open_->end();
  open_.reset();
  if (first_) {
    total_ = r;
    first_ = false;
    return;
  }
  total_.seconds += r.seconds;
  total_.gross = total_.gross + r.gross;
  total_.idle = energy::add_correlated(total_.idle, r.idle);  // one baseline, one error
  total_.net = total_.net + r.net;
  if (!r.note.empty() && total_.note != r.note)
    total_.note += (total_.note.empty() ? "" : "; ") + r.note;
}

EnergySession::EnergySession(double idle_s, std::shared_ptr<energy::Meter> meter, Device device)
    : meter_(meter ? std::move(meter) : energy::Meter::probe(probe_options(device))) {
  energy::set_device_sync([] { cuda::synchronize(); });
  if (meter_->available() && idle_s > 0) idle_ = energy::measure_idle(*meter_, idle_s);
  const std::string path = calibration_path();
  std::ifstream file(path);
  if (path.empty() || !file) return;
  std::stringstream text;
  text << file.rdbuf();
  energy::HostModel m = energy::host_model_from_json(text.str(), path);
  const std::string difference = energy::mismatch(m, this_host(*meter_));
  if (difference.empty()) model_ = std::move(m);
  else model_note_ = str("the calibration in ", path, " is not used: ", difference);
}

JouleBasis EnergySession::basis(const EnergyRun& run) const {
  JouleBasis basis;
  basis.calibrated = calibration();
  basis.window = &run.total();
  basis.idle = idle_;
  return basis;
}

Ledger EnergySession::ledger(const Counters& counters, const Kinds& kinds,
                             const EnergyRun& run) const {
  return make_ledger(counters, kinds, basis(run));
}

std::string EnergySession::source() const {
  const std::string model = model_ ? "calibration " + model_->date : energy::horowitz45().name;
  return measured() ? meter_->describe() + " (shared by " + model + ")" : model;
}

std::string EnergySession::sentence() const {
  const std::string note = model_note_.empty() ? "" : " Note: " + model_note_ + ".";
  const std::string model = model_ ? str("the calibration of ", model_->date)
                                   : str("published energies (", energy::horowitz45().name, ")");
  if (measured())
    return str("Joules: totals measured by ", meter_->describe(), ", shared out to layers by ",
               model, ".", note);
  return str("Joules: modelled by ", model, "; no meter on this host (\"wattle meter\" says why).",
             note);
}

}  // namespace wattle::green
