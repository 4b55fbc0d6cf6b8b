// NVIDIA GPUs: the energy counter of the board where there is one (Volta and later), else power
// integrated. The counter moves about every 100 ms: windows below some seconds are uncertain.
#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "energy/counter_parts.h"
#include "energy/nvml.h"

namespace wattle::energy {
namespace {

enum class Way { energy, instant, usage };

class NvmlCounter final : public Counter {
 public:
  NvmlCounter(std::string label, HostIo& io, std::shared_ptr<Nvml> nvml, NvmlDevice d, Way way)
      : Counter("nvml", std::move(label), Domain::gpu),
        io_(io),
        nvml_(std::move(nvml)),
        device_(d),
        way_(way),
        unroll_(0, 1000, 0),
        integral_(2) {}
  Reading read() override {
    std::string why;
    if (way_ == Way::energy) {
      const auto mj = nvml_->energy_mj(device_, &why);
      const int64_t ns = io_.now_ns();
      if (mj) unroll_.update(static_cast<double>(*mj), ns, tally_);
      else tally_.fault(why), unroll_.forget();
      return tally_.reading(ns);
    }
    const auto watts = way_ == Way::instant ? nvml_->instant_watts(device_, &why)
                                            : nvml_->usage_watts(device_, &why);
    const int64_t ns = io_.now_ns();
    if (watts) integral_.update(*watts, ns, tally_);
    else tally_.fault(why), integral_.forget();
    return tally_.reading(ns);
  }
  double update_s() const override { return 0.1; }
  double poll_s() const override { return way_ == Way::energy ? 0 : 0.1; }

 private:
  HostIo& io_;
  std::shared_ptr<Nvml> nvml_;
  NvmlDevice device_;
  Way way_;
  Unroller unroll_;
  PowerIntegral integral_;
  Tally tally_;
};

// CUDA_VISIBLE_DEVICES as a list of words; nothing when it is not set.
std::optional<std::vector<std::string>> visible_devices() {
  const char* const env = std::getenv("CUDA_VISIBLE_DEVICES");
  if (!env) return {};
  std::vector<std::string> words;
  const std::string text = env;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    words.push_back(first_line(text.substr(at, end - at)));
    at = end + 1;
  }
  return words;
}

// Whether CUDA shows the program this GPU. A UUID may be shortened. A number counts CUDA's order,
// which is that of NVML only with CUDA_DEVICE_ORDER=PCI_BUS_ID; otherwise numbers cannot be mapped
// and every GPU is counted: too much is seen, too little is not.
bool is_visible(const std::string& uuid, size_t index) {
  const auto words = visible_devices();
  if (!words) return true;
  const char* const order = std::getenv("CUDA_DEVICE_ORDER");
  const bool by_bus = order && std::string(order) == "PCI_BUS_ID";
  for (const std::string& w : *words) {
    if (w.starts_with("GPU-") || w.starts_with("MIG-")) {
      if (uuid.starts_with(w)) return true;
    } else if (const auto n = parse_integer(w)) {
      if (!by_bus || static_cast<size_t>(*n) == index) return true;
    } else {
      return false;  // CUDA stops at the first word that it does not know
    }
  }
  return false;
}

std::optional<Way> way_of(Nvml& nvml, NvmlDevice d, std::string* why) {
  if (nvml.energy_mj(d, why)) return Way::energy;
  std::string ignored;
  if (nvml.instant_watts(d, &ignored)) return Way::instant;
  if (nvml.usage_watts(d, &ignored)) return Way::usage;
  return {};
}

}  // namespace

Probed probe_nvml(HostIo& io, const ProbeOptions& o) {
  Probed out;
  out.report.name = "nvml";
  std::string why;
  const std::shared_ptr<Nvml> nvml = Nvml::load(o.nvml_library, &why);
  if (!nvml) {
    out.report.reason = why;
    return out;
  }
  const auto devices = nvml->devices(&why);
  for (size_t i = 0; i < devices.size(); ++i) {
    const std::string uuid = nvml->uuid(devices[i]);
    if (!is_visible(uuid, i)) continue;
    const std::string label = nvml->name(devices[i]) + " " + uuid.substr(0, 12);
    if (nvml->mig_enabled(devices[i])) {
      why = label + ": MIG is on, and a slice's power is not known";
      continue;
    }
    if (const auto way = way_of(*nvml, devices[i], &why))
      out.counters.push_back(std::make_unique<NvmlCounter>(label, io, nvml, devices[i], *way));
  }
  if (out.counters.empty()) out.report.reason = why.empty() ? "no visible GPU" : why;
  return out;
}

}  // namespace wattle::energy
