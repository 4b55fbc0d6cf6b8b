// Measured windows: what the meter's counters gained between two moments.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/callable.h"
#include "energy/meter.h"

namespace wattle::energy {

/// Power of the host doing nothing, measured by itself before the work.
struct IdleBaseline {
  bool known = false;
  double watts = 0, sd_watts = 0;
  double seconds = 0;  ///< how long it was watched
};
/// Sleeps `seconds` in `parts` windows and takes the mean power of them; the standard deviation is
/// theirs, or the counters' granularity where that is larger. Unknown without a meter or when a
/// reading failed. Throws value_error for seconds <= 0 or parts < 2.
IdleBaseline measure_idle(Meter& meter, double seconds, int parts = 5);

/// What one counter gained.
struct CounterGain {
  std::string counter;  ///< "powercap package-0"
  Joules joules;        ///< unavailable when the counter failed inside the window
  std::string fault;    ///< why
};

struct WindowResult {
  std::string name;
  double seconds = 0;
  /// Sum over the counters; kind measured. Unavailable, with `note`, when there is no meter or any
  /// counter failed: a part is not passed off as the whole.
  Joules gross;
  /// Idle watts x seconds, kind attributed: inside the window it cannot be told apart from the
  /// work. Unavailable without a baseline.
  Joules idle;
  Joules net;  ///< gross - idle; below zero when noise makes it so, never clamped
  std::vector<CounterGain> parts;
  std::string note;
};

/// Called at both ends of every window: waits for work that was handed to a device and still runs.
/// A device's plugin sets it; by default there is nothing to wait for.
void set_device_sync(Callable<void()> sync);

/// An open window. Windows may nest and overlap, on any thread: each takes its own two readings.
///
///     Window w(*meter, "epoch 3");
///     train();
///     const WindowResult r = w.end();
class Window {
 public:
  Window(Meter& meter, std::string name, IdleBaseline idle = {});
  /// Reads the counters again. A second call throws value_error.
  WindowResult end();
  double seconds_so_far() const;

 private:
  Meter* meter_;
  std::string name_;
  IdleBaseline idle_;
  std::vector<Reading> before_;
  int64_t start_ns_ = 0;
  bool ended_ = false;
};

/// Standard deviation in microjoules of a gain of `uj` in `seconds` read from a counter that is
/// updated every `update_s`: either end is off by a uniform part of an update, so sqrt(1/6) of
/// update_s x power; and the sensor's own error.
double gain_sd_uj(double uj, double seconds, double update_s, double rel_sd);

}  // namespace wattle::energy
