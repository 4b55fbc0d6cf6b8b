// Energy meters of this host: what can be read, what cannot and why, and the counters that together
// cover the host once, without counting a joule twice.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "energy/host_io.h"
#include "energy/joules.h"

namespace wattle::energy {

/// What a counter covers.
enum class Domain : uint8_t {
  package,  ///< a CPU socket or die: cores, caches, memory controller, integrated GPU
  core,     ///< the cores of a package: inside package
  uncore,   ///< the integrated GPU of a package: inside package
  dram,     ///< memory modules of a socket: outside package
  psys,     ///< the whole platform: contains package and dram
  gpu,      ///< a graphics board with its memory
  board,    ///< a board's input rail or a wall meter: contains everything
  rail,     ///< one rail of a board: inside board
  battery,  ///< what the battery delivers: contains everything
};
std::string_view name(Domain d);

/// A counter's state when it was read.
struct Reading {
  int64_t uj = 0;      ///< microjoules since the counter was opened; wraps are unrolled
  int64_t ns = 0;      ///< HostIo::now_ns() of the reading
  int64_t faults = 0;  ///< how often it could not be read or believed since it was opened
  std::string fault;   ///< the last of these, in words
};

/// One open energy counter, or a power sensor integrated over time. Not thread-safe; Meter holds a
/// lock around it.
class Counter {
 public:
  Counter(std::string source, std::string label, Domain domain)
      : source_(std::move(source)), label_(std::move(label)), domain_(domain) {}
  virtual ~Counter() = default;
  /// Reads the hardware now. Never throws: what goes wrong counts as a fault, never as 0 J.
  virtual Reading read() = 0;
  /// Seconds between two updates of the hardware's value; the error of a window follows from it.
  virtual double update_s() const = 0;
  /// It has to be read at least every so many seconds (wraps, integration); 0 = no need.
  virtual double poll_s() const { return 0; }
  /// Relative standard deviation of the sensor itself where its maker states one, else 0.
  virtual double rel_sd() const { return 0; }
  const std::string& source() const { return source_; }  ///< "powercap"
  const std::string& label() const { return label_; }    ///< "package-0"
  Domain domain() const { return domain_; }

 private:
  std::string source_, label_;
  Domain domain_;
};
using CounterList = std::vector<std::unique_ptr<Counter>>;

/// What probing one kind of source found.
struct SourceReport {
  std::string name;                  ///< perf_event, powercap, msr, hwmon, jetson, battery, ...
  bool available = false;            ///< at least one counter can be read and moves
  std::string reason;                ///< why not, or why it is not used; or how it is used
  std::vector<std::string> domains;  ///< "package-0", "dram-0", ...: all that can be read
};

struct ProbeOptions {
  std::string nvml_library;      ///< empty: $WATTLE_NVML_LIB, then libnvidia-ml.so.1, .so
  std::string gpu_uuid;          ///< only this GPU ("GPU-..."), not every one of the host
  bool allow_msr = false;        ///< reading /dev/cpu/*/msr needs a privilege; only when asked
  std::string external_command;  ///< prints cumulative joules; a smart plug, a PDU, IPMI
  std::string external_file;     ///< holds cumulative joules
  double external_update_s = 1;  ///< how often the external source is refreshed
  std::string root;              ///< another folder in the place of "/", for tests
};
/// From WATTLE_NVML_LIB, WATTLE_ALLOW_MSR=1, WATTLE_METER_COMMAND, WATTLE_METER_FILE,
/// WATTLE_METER_UPDATE_S and WATTLE_METER_ROOT.
ProbeOptions probe_options_from_environment();

/// A source probed: its report and, where available, its open counters.
struct Probed {
  SourceReport report;
  CounterList counters;
};

// One function per source, each in its own file (energy/source_*.cpp). None throws for what the
// host lacks; the reason goes into the report.
Probed probe_perf_event(HostIo& io, const ProbeOptions& o);
Probed probe_powercap(HostIo& io, const ProbeOptions& o);
Probed probe_msr(HostIo& io, const ProbeOptions& o);
Probed probe_hwmon(HostIo& io, const ProbeOptions& o);
Probed probe_jetson(HostIo& io, const ProbeOptions& o);
Probed probe_battery(HostIo& io, const ProbeOptions& o);
Probed probe_nvml(HostIo& io, const ProbeOptions& o);
Probed probe_external(HostIo& io, const ProbeOptions& o);

/// Everything measurable on this host, probed once. Reading is thread-safe; a thread of its own
/// polls the counters that need it.
class Meter {
 public:
  /// Probes all sources. `io` null: the real host.
  static std::shared_ptr<Meter> probe(const ProbeOptions& options = {},
                                      std::shared_ptr<HostIo> io = nullptr);
  /// For tests and for meters of one's own: uses these counters as they are.
  static std::shared_ptr<Meter> of(CounterList counters, std::shared_ptr<HostIo> io);
  ~Meter();
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  /// Every known source, also those that this host lacks.
  const std::vector<SourceReport>& sources() const { return sources_; }
  /// Counters that windows add up: they overlap nowhere. Empty when nothing can be measured.
  const std::vector<const Counter*>& counters() const { return used_; }
  bool available() const { return !used_.empty(); }
  /// "perf_event package-0 + perf_event dram-0"; "none" without a counter.
  std::string describe() const;
  /// One reading per counter of counters(), in its order.
  std::vector<Reading> read();
  HostIo& io() const { return *io_; }

 private:
  Meter() = default;
  void start_polling();
  struct Poller;
  std::shared_ptr<HostIo> io_;
  std::vector<SourceReport> sources_;
  CounterList all_;
  std::vector<const Counter*> used_;
  std::vector<Counter*> read_;
  std::mutex lock_;
  std::unique_ptr<Poller> poller_;
};

/// Which of the counters to add up, as indices: a cover that counts nothing twice. Board meters
/// (external, Jetson's input rail) contain everything and stand alone; else all packages and all
/// dram of the first source that has packages (perf_event, powercap, msr, hwmon), else psys of the
/// first source that has it, else the battery alone; and all GPUs of the first source that has
/// them beside the first three. core, uncore and rails are inside others and never added.
std::vector<size_t> non_overlapping(const std::vector<const Counter*>& counters);

}  // namespace wattle::energy
