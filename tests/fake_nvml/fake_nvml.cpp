// A stand-in for NVIDIA's libnvidia-ml.so with scripted GPUs, for tests without a GPU: point
// WATTLE_NVML_LIB (or ProbeOptions::nvml_library) at it. It reads the file named by
// WATTLE_FAKE_NVML at every nvmlInit_v2, one statement a line:
//
//   gpu UUID NAME            begins a GPU; what follows belongs to it
//   energy MJ MJ MJ ...      values of the energy counter, one per call; the last one repeats
//   power MW MW ...          values of power, instant and average alike
//   temperature C
//   clocks SM MEMORY         MHz
//   mig                      MIG mode is on
//   error FUNCTION CODE      FUNCTION (init, count, energy, power, fields) returns this code
//
// Without an `energy` or `power` line the function answers NVML_ERROR_NOT_SUPPORTED (3).
// wattle_fake_nvml_shutdowns() counts nvmlShutdown calls.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Series {
  std::vector<uint64_t> values;
  size_t at = 0;
  bool next(uint64_t* v) {
    if (values.empty()) return false;
    *v = values[at];
    if (at + 1 < values.size()) ++at;
    return true;
  }
};
struct Gpu {
  std::string uuid, name;
  Series energy, power;
  unsigned temperature = 40, clocks[2] = {};  // SM, memory
  bool mig = false;
  std::map<std::string, int> errors;
};
std::vector<Gpu> gpus;
std::map<std::string, int> errors;
int shutdowns = 0;

void read_script() {
  gpus.clear();
  errors.clear();
  const char* const path = std::getenv("WATTLE_FAKE_NVML");
  std::ifstream file(path ? path : "");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    if (verb == "gpu") {
      Gpu g;
      words >> g.uuid;
      std::getline(words >> std::ws, g.name);
      gpus.push_back(g);
      continue;
    }
    Series* const series = gpus.empty()       ? nullptr
                           : verb == "energy" ? &gpus.back().energy
                           : verb == "power"  ? &gpus.back().power
                                              : nullptr;
    if (series)
      for (uint64_t v; words >> v;) series->values.push_back(v);
    if (verb == "clocks" && !gpus.empty()) words >> gpus.back().clocks[0] >> gpus.back().clocks[1];
    if (verb == "temperature" && !gpus.empty()) words >> gpus.back().temperature;
    if (verb == "mig" && !gpus.empty()) gpus.back().mig = true;
    if (verb == "error") {
      std::string function;
      int code = 0;
      words >> function >> code;
      (gpus.empty() ? errors : gpus.back().errors)[function] = code;
    }
  }
}

Gpu& gpu(void* d) { return gpus[reinterpret_cast<uintptr_t>(d) - 1]; }

int scripted(const Gpu& g, const char* function) {
  const auto e = g.errors.find(function);
  return e == g.errors.end() ? 0 : e->second;
}

int text(const std::string& s, char* to, unsigned size) {
  if (s.size() + 1 > size) return 7;  // insufficient size
  std::memcpy(to, s.c_str(), s.size() + 1);
  return 0;
}

struct Field {
  uint32_t id, scope;
  int64_t timestamp, latency;
  int32_t type, status;
  union {
    double d;
    uint32_t u32;
    uint64_t u64;
  } value;
};

}  // namespace

extern "C" {

int nvmlInit_v2() {
  read_script();
  return errors.count("init") ? errors["init"] : 0;
}
int nvmlShutdown() {
  ++shutdowns;
  return 0;
}
int wattle_fake_nvml_shutdowns() { return shutdowns; }
const char* nvmlErrorString(int code) {
  return code == 3   ? "Not Supported"
         : code == 4 ? "Insufficient Permissions"
         : code == 9 ? "Driver Not Loaded"
                     : "Unknown Error";
}
int nvmlDeviceGetCount_v2(unsigned* n) {
  *n = static_cast<unsigned>(gpus.size());
  return errors.count("count") ? errors["count"] : 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** d) {
  if (i >= gpus.size()) return 2;
  *d = reinterpret_cast<void*>(static_cast<uintptr_t>(i) + 1);
  return 0;
}
int nvmlDeviceGetUUID(void* d, char* to, unsigned size) { return text(gpu(d).uuid, to, size); }
int nvmlDeviceGetName(void* d, char* to, unsigned size) { return text(gpu(d).name, to, size); }
int nvmlDeviceGetMigMode(void* d, unsigned* now, unsigned* pending) {
  *now = *pending = gpu(d).mig ? 1 : 0;
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void* d, unsigned long long* mj) {
  if (const int e = scripted(gpu(d), "energy"); e != 0) return e;
  uint64_t v = 0;
  if (!gpu(d).energy.next(&v)) return 3;
  *mj = v;
  return 0;
}
int nvmlDeviceGetPowerUsage(void* d, unsigned* mw) {
  if (const int e = scripted(gpu(d), "power"); e != 0) return e;
  uint64_t v = 0;
  if (!gpu(d).power.next(&v)) return 3;
  *mw = static_cast<unsigned>(v);
  return 0;
}
int nvmlDeviceGetFieldValues(void* d, int n, void* fields) {
  if (const int e = scripted(gpu(d), "fields"); e != 0) return e;
  for (int i = 0; i < n; ++i) {
    Field& f = static_cast<Field*>(fields)[i];
    uint64_t v = 0;
    const bool power = f.id == 185 || f.id == 186;
    f.status = power && gpu(d).power.next(&v) ? 0 : 3;
    f.type = 1;
    f.value.u32 = static_cast<uint32_t>(v);
  }
  return 0;
}
int nvmlDeviceGetClockInfo(void* d, int type, unsigned* mhz) {
  if (type != 1 && type != 2) return 2;
  *mhz = gpu(d).clocks[type - 1];
  return *mhz == 0 ? 3 : 0;
}
int nvmlDeviceGetTemperature(void* d, int, unsigned* c) {
  *c = gpu(d).temperature;
  return 0;
}

}  // extern "C"
