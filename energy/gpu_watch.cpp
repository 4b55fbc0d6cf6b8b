#include "energy/gpu_watch.h"

#include <chrono>
#include <cmath>

#include "energy/nvml.h"

namespace wattle::energy {
namespace {

GpuSample sample_of(Nvml& n, NvmlDevice d) {
  using namespace std::chrono;
  std::string why;
  const auto or_nan = [](std::optional<double> v) { return v.value_or(std::nan("")); };
  GpuSample s;
  s.ns = duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
  std::optional<double> watts = n.instant_watts(d, &why);
  if (!watts) watts = n.usage_watts(d, &why);
  s.watts = or_nan(watts);
  s.sm_mhz = or_nan(n.clock_mhz(d, NvmlClock::sm, &why));
  s.memory_mhz = or_nan(n.clock_mhz(d, NvmlClock::memory, &why));
  s.celsius = or_nan(n.temperature_c(d, &why));
  return s;
}

}  // namespace

GpuWatch::GpuWatch(const std::string& uuid, int period_ms, const std::string& nvml_library) {
  if (uuid.empty()) return;
  std::string why;
  const std::shared_ptr<Nvml> n = Nvml::load(nvml_library, &why);
  if (!n) return;
  NvmlDevice found = nullptr;
  for (const NvmlDevice d : n->devices(&why))
    if (n->uuid(d) == uuid) found = d;
  if (!found) return;
  samples_.push_back(sample_of(*n, found));
  thread_ = std::thread([this, n, found, period_ms] {
    while (!over_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(period_ms));
      samples_.push_back(sample_of(*n, found));
    }
  });
}

const std::vector<GpuSample>& GpuWatch::stop() {
  over_ = true;
  if (thread_.joinable()) thread_.join();
  return samples_;
}

}  // namespace wattle::energy
