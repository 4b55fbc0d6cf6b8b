// `wattle calibrate`: windows of kernels of many intensities and of nothing, and the fit of a
// host's model to what the meter read in them.
#pragma once
#include <string>
#include <vector>

#include "core/callable.h"
#include "energy/host_model.h"
#include "energy/window.h"

namespace wattle::green {

/// A kernel to run for some time; `once` runs ops, whose counters say what was done.
struct CalibrationKernel {
  std::string kernel;
  Callable<void()> once;
};
/// f32 work from 0 operations per byte (copy) to over 100 (large matmul): copies, elementwise,
/// matmuls of growing depth, a convolution. Needs about 200 MB.
std::vector<CalibrationKernel> default_workloads();

struct CalibrateOptions {
  double window_s = 2;  ///< at least; longer where the meter needs it for 100 updates
  int repeats = 3;      ///< windows per kernel
  int idle_windows = 6;
  uint64_t seed = 1;  ///< of the order, which is shuffled: a host that warms up must not look like
                      ///< a kernel that costs more
};

/// Runs all windows. `progress(i, n, kernel)` before each. Throws device_error without a meter and
/// io_error when a window could not be read.
std::vector<energy::CalibrationWindow> calibration_windows(
    energy::Meter& meter, const std::vector<CalibrationKernel>& workloads,
    const CalibrateOptions& options,
    const Callable<void(int, int, const std::string&)>& progress = {});

/// Measures one piece of work by itself: repeats it until the window holds 100 updates of the meter
/// and is at least `min_s` long. `net` = of the repeats beside idle power when `idle` is known.
struct Replay {
  int64_t repeats = 0;
  double seconds = 0;  ///< of one repeat
  Joules total;        ///< of all repeats, gross
  Joules gross, net;   ///< of one repeat, rounded to microjoules; kind measured and attributed;
                       ///< unavailable without a meter
  std::string note;
};
Replay replay(energy::Meter& meter, const Callable<void()>& once, double min_s = 0.5,
              const energy::IdleBaseline& idle = {});

/// Shortest window in which the meter's counters are updated 100 times (0.4 % standard deviation).
double shortest_window_s(const energy::Meter& meter);

}  // namespace wattle::green
