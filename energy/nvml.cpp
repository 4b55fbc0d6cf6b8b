#include "energy/nvml.h"

#include <dlfcn.h>

#include <cstdlib>

#include "core/error.h"

namespace wattle::energy {

// nvmlReturn_t is an int; 0 is success.
struct Nvml::Api {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*by_index)(unsigned, NvmlDevice*) = nullptr;
  int (*uuid)(NvmlDevice, char*, unsigned) = nullptr;
  int (*name)(NvmlDevice, char*, unsigned) = nullptr;
  int (*mig)(NvmlDevice, unsigned*, unsigned*) = nullptr;
  int (*energy)(NvmlDevice, unsigned long long*) = nullptr;
  int (*power)(NvmlDevice, unsigned*) = nullptr;
  int (*fields)(NvmlDevice, int, NvmlField*) = nullptr;
  int (*temperature)(NvmlDevice, int, unsigned*) = nullptr;
  int (*clock)(NvmlDevice, int, unsigned*) = nullptr;
};

namespace {

template <class F>
void find(void* library, const char* symbol, F& f) {
  f = reinterpret_cast<F>(::dlsym(library, symbol));
}

constexpr int not_supported = 3;

}  // namespace

std::shared_ptr<Nvml> Nvml::load(const std::string& path, std::string* why) {
  const char* const env = std::getenv("WATTLE_NVML_LIB");
  std::vector<std::string> names{"libnvidia-ml.so.1", "libnvidia-ml.so"};
  if (!path.empty()) names = {path};
  else if (env && *env) names = {env};
  std::shared_ptr<Nvml> n(new Nvml);
  for (const std::string& name : names) {
    n->library_ = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (n->library_) break;
    if (why->empty()) *why = str("cannot be loaded: ", ::dlerror());
  }
  if (!n->library_) return nullptr;
  auto api = std::make_unique<Api>();
  void* const lib = n->library_;
  find(lib, "nvmlInit_v2", api->init);
  find(lib, "nvmlShutdown", api->shutdown);
  find(lib, "nvmlErrorString", api->error_string);
  find(lib, "nvmlDeviceGetCount_v2", api->count);
  find(lib, "nvmlDeviceGetHandleByIndex_v2", api->by_index);
  find(lib, "nvmlDeviceGetUUID", api->uuid);
  find(lib, "nvmlDeviceGetName", api->name);
  find(lib, "nvmlDeviceGetMigMode", api->mig);
  find(lib, "nvmlDeviceGetTotalEnergyConsumption", api->energy);
  find(lib, "nvmlDeviceGetPowerUsage", api->power);
  find(lib, "nvmlDeviceGetFieldValues", api->fields);
  find(lib, "nvmlDeviceGetTemperature", api->temperature);
  find(lib, "nvmlDeviceGetClockInfo", api->clock);
  if (!api->init || !api->shutdown || !api->count || !api->by_index) {
    *why = "the library lacks nvmlInit_v2 or the functions that list devices";
    return nullptr;
  }
  const int code = api->init();
  if (code != 0) {
    *why = str("nvmlInit_v2: ", api->error_string ? api->error_string(code) : std::to_string(code));
    return nullptr;
  }
  n->api_ = std::move(api);  // from here on the destructor shuts down
  why->clear();
  return n;
}

Nvml::~Nvml() {
  if (api_) api_->shutdown();
  if (library_) ::dlclose(library_);
}

std::string Nvml::error(const char* function, int code) {
  return str(function, ": ",
             api_->error_string ? std::string(api_->error_string(code)) : str("error ", code));
}

std::vector<NvmlDevice> Nvml::devices(std::string* why) {
  unsigned n = 0;
  std::vector<NvmlDevice> out;
  if (const int code = api_->count(&n); code != 0) {
    *why = error("nvmlDeviceGetCount_v2", code);
    return out;
  }
  for (unsigned i = 0; i < n; ++i) {
    NvmlDevice d = nullptr;
    if (const int code = api_->by_index(i, &d); code == 0) out.push_back(d);
    else *why = error("nvmlDeviceGetHandleByIndex_v2", code);
  }
  return out;
}

std::string Nvml::uuid(NvmlDevice d) {
  char text[96] = {};
  return api_->uuid && api_->uuid(d, text, sizeof text) == 0 ? text : "";
}

std::string Nvml::name(NvmlDevice d) {
  char text[96] = {};
  return api_->name && api_->name(d, text, sizeof text) == 0 ? text : "GPU";
}

bool Nvml::mig_enabled(NvmlDevice d) {
  unsigned now = 0, pending = 0;
  return api_->mig && api_->mig(d, &now, &pending) == 0 && now == 1;
}

std::optional<uint64_t> Nvml::energy_mj(NvmlDevice d, std::string* why) {
  unsigned long long mj = 0;
  const int code = api_->energy ? api_->energy(d, &mj) : not_supported;
  if (code == 0) return mj;
  *why = error("nvmlDeviceGetTotalEnergyConsumption", code);
  return {};
}

std::optional<double> Nvml::instant_watts(NvmlDevice d, std::string* why) {
  NvmlField f;
  f.field_id = nvml_power_instant;
  int code = api_->fields ? api_->fields(d, 1, &f) : not_supported;
  if (code == 0) code = f.status;
  if (code == 0 && f.value_type == 1) return f.value.u32 * 1e-3;
  *why = code == 0 ? str("field 186 has type ", f.value_type, ", expected unsigned int")
                   : error("nvmlDeviceGetFieldValues", code);
  return {};
}

std::optional<double> Nvml::usage_watts(NvmlDevice d, std::string* why) {
  unsigned mw = 0;
  const int code = api_->power ? api_->power(d, &mw) : not_supported;
  if (code == 0) return mw * 1e-3;
  *why = error("nvmlDeviceGetPowerUsage", code);
  return {};
}

std::optional<double> Nvml::temperature_c(NvmlDevice d, std::string* why) {
  unsigned c = 0;
  const int code = api_->temperature ? api_->temperature(d, 0, &c) : not_supported;
  if (code == 0) return c;
  *why = error("nvmlDeviceGetTemperature", code);
  return {};
}

std::optional<double> Nvml::clock_mhz(NvmlDevice d, NvmlClock c, std::string* why) {
  unsigned mhz = 0;
  const int code = api_->clock ? api_->clock(d, static_cast<int>(c), &mhz) : not_supported;
  if (code == 0) return mhz;
  *why = error("nvmlDeviceGetClockInfo", code);
  return {};
}

}  // namespace wattle::energy
