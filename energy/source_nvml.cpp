// NVIDIA GPUs: the energy counter of the board where there is one (Volta and later), else power
// integrated. The counter moves about every 100 ms: windows below some seconds are uncertain.
#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "energy/counter_parts.h"
#include "energy/nvml.h"

namespace wattle::energy {
namespace {

using Read = std::optional<double> (*)(Nvml&, NvmlDevice, std::string*);

std::optional<double> energy_mj(Nvml& n, NvmlDevice d, std::string* why) {
  const auto mj = n.energy_mj(d, why);
  if (!mj) return {};
  return static_cast<double>(*mj);
}
std::optional<double> instant(Nvml& n, NvmlDevice d, std::string* why) {
  return n.instant_watts(d, why);
}
std::optional<double> usage(Nvml& n, NvmlDevice d, std::string* why) {
  return n.usage_watts(d, why);
}

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

// The best that this GPU can tell; null with `why` of the energy counter when it tells nothing.
std::unique_ptr<Counter> counter_of(HostIo& io, const std::shared_ptr<Nvml>& nvml, NvmlDevice d,
                                    const std::string& label, std::string* why) {
  const auto reader = [nvml, d](Read read) {
    return [nvml, d, read](std::string* fault) { return read(*nvml, d, fault); };
  };
  if (energy_mj(*nvml, d, why))
    return std::make_unique<RawCounter>("nvml", label, Domain::gpu, io, reader(energy_mj),
                                        Unroller(0, 1000, 0), 0.1);
  std::string ignored;
  for (const Read read : {instant, usage})
    if (read(*nvml, d, &ignored))
      return std::make_unique<PowerCounter>("nvml", label, Domain::gpu, io, reader(read), 0.1);
  return nullptr;
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
    if (o.gpu_uuid.empty() ? !is_visible(uuid, i) : uuid != o.gpu_uuid) continue;
    const std::string label = nvml->name(devices[i]) + " " + uuid.substr(0, 12);
    if (nvml->mig_enabled(devices[i])) {
      why = label + ": MIG is on, and a slice's power is not known";
      continue;
    }
    if (auto counter = counter_of(io, nvml, devices[i], label, &why))
      out.counters.push_back(std::move(counter));
  }
  if (out.counters.empty())
    out.report.reason = !why.empty()         ? why
                        : o.gpu_uuid.empty() ? "no visible GPU"
                                             : "no GPU has the UUID " + o.gpu_uuid;
  return out;
}

}  // namespace wattle::energy
