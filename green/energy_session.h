// The joules of a program's run, from probing the meter to the ledger: what `train` and `study`
// use.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "core/device.h"
#include "green/ledger.h"

namespace wattle::green {

/// This host, as far as a calibration depends on it.
energy::HostId this_host(const energy::Meter& meter);
/// $WATTLE_CALIBRATION, else wattle/calibration.json below $XDG_CONFIG_HOME or ~/.config.
std::string calibration_path();

/// Windows of one training added up.
class EnergyRun {
 public:
  void begin(energy::Meter& meter, const std::string& name, const energy::IdleBaseline& idle);
  void end();
  /// Another measurement of the same work, in place of the windows.
  void replace(const energy::WindowResult& r);
  /// Sum of all windows; unavailable when any of them was.
  const energy::WindowResult& total() const { return total_; }

 private:
  std::optional<energy::Window> open_;
  energy::WindowResult total_;
  bool first_ = true;
};

class EnergySession {
 public:
  /// Probes the meter with the options of the environment; where there is one, watches the idle
  /// host for `idle_s` seconds (0 = not). Loads the calibration of calibration_path() when it is
  /// there and fits this host; a file that cannot be read throws value_error naming it.
  /// With `device` on cuda only that GPU's energy counts among the host's GPUs; NVML and CUDA
  /// number them differently, so it is found by its UUID.
  explicit EnergySession(double idle_s = 2, std::shared_ptr<energy::Meter> meter = nullptr,
                         Device device = cpu);

  energy::Meter& meter() { return *meter_; }
  bool measured() const { return meter_->available(); }
  energy::HostId host() const { return this_host(*meter_); }
  const energy::IdleBaseline& idle() const { return idle_; }
  const energy::HostModel* calibration() const { return model_ ? &*model_ : nullptr; }
  /// Starts a measured stretch of `run`; call run.end() after it.
  void begin(EnergyRun& run, const std::string& name) { run.begin(*meter_, name, idle_); }
  /// What joules of a stretch are made from; `run` must outlive it.
  JouleBasis basis(const EnergyRun& run) const;
  /// Ledger of the counters; joules from the run's windows when they were measured.
  Ledger ledger(const Counters& counters, const Kinds& kinds, const EnergyRun& run) const;
  /// What the joules are, in one sentence for the first line of a report.
  std::string sentence() const;
  /// Short name of the basis for files: "powercap package-0 (shared by horowitz45)".
  std::string source() const;

 private:
  std::shared_ptr<energy::Meter> meter_;
  energy::IdleBaseline idle_;
  std::optional<energy::HostModel> model_;
  std::string model_note_;
};

}  // namespace wattle::green
