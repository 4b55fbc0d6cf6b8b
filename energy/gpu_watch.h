// What a GPU did while something ran, for a trace: power, clocks and temperature, sampled beside
// it. Samples are context; joules come from the meter's windows.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace wattle::energy {

/// Of one moment on the steady clock; NaN where the driver does not tell.
struct GpuSample {
  int64_t ns = 0;
  double watts = 0, sm_mhz = 0, memory_mhz = 0, celsius = 0;
};

/// Samples the GPU with this UUID from its construction to stop(), every `period_ms`, the first and
/// the last moment included. Boards refresh power every 20 to 100 ms, so of a shorter stretch the
/// first sample is what came before it. A host without NVML or without the GPU gives no samples,
/// and neither does an empty UUID.
class GpuWatch {
 public:
  explicit GpuWatch(const std::string& uuid, int period_ms = 5,
                    const std::string& nvml_library = "");
  ~GpuWatch() { stop(); }
  GpuWatch(const GpuWatch&) = delete;
  GpuWatch& operator=(const GpuWatch&) = delete;
  const std::vector<GpuSample>& stop();

 private:
  std::vector<GpuSample> samples_;  // the thread's until it has ended
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace wattle::energy
