// The few functions of NVIDIA's management library that energy needs, loaded at run time: no header
// and no library of NVIDIA is needed to build, and a host without one merely has no such source.
// Types and numbers: nvml.h of the CUDA toolkit.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace wattle::energy {

/// nvmlFieldValue_t
struct NvmlField {
  uint32_t field_id = 0, scope_id = 0;
  int64_t timestamp = 0, latency_usec = 0;
  int32_t value_type = 0;  ///< 0 double, 1 u32, 2 unsigned long, 3 u64, 4 i64, 5 i32
  int32_t status = 0;      ///< nvmlReturn_t of this field
  union {
    double d;
    uint32_t u32;
    uint64_t u64;
    int64_t i64;
    int32_t i32;
  } value{};
};
static_assert(sizeof(NvmlField) == 40, "nvmlFieldValue_t has 40 bytes");

constexpr uint32_t nvml_power_average = 185, nvml_power_instant = 186;

/// One GPU as NVML sees it.
using NvmlDevice = void*;
/// nvmlClockType_t
enum class NvmlClock : int { sm = 1, memory = 2 };

/// The library, initialised; shut down with the last handle. Functions that the installed driver
/// lacks answer "not supported".
class Nvml {
 public:
  /// Order: `path` when given (and nothing else), $WATTLE_NVML_LIB, libnvidia-ml.so.1,
  /// libnvidia-ml.so. Null with `why` filled when none loads or nvmlInit_v2 fails.
  static std::shared_ptr<Nvml> load(const std::string& path, std::string* why);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  /// All GPUs of the host, in NVML's order (that of the PCI bus).
  std::vector<NvmlDevice> devices(std::string* why);
  std::string uuid(NvmlDevice d);  ///< "GPU-xxxxxxxx-..."; empty when not readable
  std::string name(NvmlDevice d);
  bool mig_enabled(NvmlDevice d);
  // Each returns nothing and fills `why` on an error.
  std::optional<uint64_t> energy_mj(NvmlDevice d, std::string* why);    ///< since the driver loaded
  std::optional<double> instant_watts(NvmlDevice d, std::string* why);  ///< field 186
  std::optional<double> usage_watts(NvmlDevice d, std::string* why);    ///< averaged by most boards
  std::optional<double> temperature_c(NvmlDevice d, std::string* why);
  std::optional<double> clock_mhz(NvmlDevice d, NvmlClock c, std::string* why);

 private:
  Nvml() = default;
  std::string error(const char* function, int code);
  struct Api;
  std::unique_ptr<Api> api_;
  void* library_ = nullptr;
};

}  // namespace wattle::energy
