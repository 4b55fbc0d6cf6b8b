// RAPL registers read directly from /dev/cpu/N/msr. Needs CAP_SYS_RAWIO, and so is used only when
// asked for. Intel SDM vol. 3B 15.10; AMD PPR, Core::X86::Msr::RAPL_PWR_UNIT.
#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

struct Register {
  uint64_t address;
  const char* label;
  Domain domain;
};
constexpr Register intel[] = {{0x611, "package", Domain::package},
                              {0x619, "dram", Domain::dram},
                              {0x639, "core", Domain::core},
                              {0x641, "uncore", Domain::uncore},
                              {0x64D, "psys", Domain::psys}};
constexpr Register amd[] = {{0xC001029B, "package", Domain::package}};

ReadValue reader(HostIo& io, const std::string& path, uint64_t address) {
  return [&io, path, address](std::string* why) -> std::optional<double> {
    uint64_t raw = 0;
    const int error = io.read_at(path, address, &raw, sizeof raw);
    if (error == 0) return static_cast<double>(raw & 0xFFFFFFFF);  // the rest is reserved
    *why = str(path, ": ", error_text(error));
    return {};
  };
}

// "key : value" of the first processor in /proc/cpuinfo.
std::string cpuinfo(const std::string& text, const std::string& key) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    const size_t colon = line.find(':');
    if (colon != line.npos && first_line(line.substr(0, colon)) == key)
      return first_line(line.substr(colon + 1));
    at = end + 1;
  }
  return {};
}

// The first CPU of every package; on Intel of every die, as its registers belong to dies there
// (kernel, arch/x86/events/rapl.c).
using Places = std::map<std::pair<int64_t, int64_t>, std::string>;
Places packages(HostIo& io, bool per_die) {
  Places first;
  const std::string folder = "/sys/devices/system/cpu";
  for (const std::string& name : io.list(folder)) {
    if (!name.starts_with("cpu") || !parse_integer(name.substr(3))) continue;
    const auto id = read_integer(io, folder + "/" + name + "/topology/physical_package_id");
    if (!id) continue;
    const auto die = read_integer(io, folder + "/" + name + "/topology/die_id");
    first.try_emplace({*id, per_die ? die.value_or(0) : 0}, "/dev/cpu/" + name.substr(3) + "/msr");
  }
  return first;
}

// Some servers count memory in units of 2^-16 J, whatever the unit register says, and two count the
// platform in joules. (cpu family 6)
double unit_of(Domain d, double unit, int64_t model) {
  constexpr int64_t fixed_dram[] = {63, 79, 86, 85, 106, 108, 87, 133};
  constexpr int64_t joule_psys[] = {143, 207};
  const auto in = [&](const auto& list) {
    return std::find(std::begin(list), std::end(list), model) != std::end(list);
  };
  if (d == Domain::dram && in(fixed_dram)) return std::ldexp(1.0, -16);
  if (d == Domain::psys && in(joule_psys)) return 1;
  return unit;
}

}  // namespace

Probed probe_msr(HostIo& io, const ProbeOptions& o) {
  Probed out;
  out.report.name = "msr";
  if (!o.allow_msr) {
    out.report.reason = "not asked for (--allow-msr or WATTLE_ALLOW_MSR=1; needs CAP_SYS_RAWIO)";
    return out;
  }
  const std::string info = io.read_file("/proc/cpuinfo").text;
  const std::string vendor = cpuinfo(info, "vendor_id");
  const bool is_intel = vendor == "GenuineIntel", is_amd = vendor == "AuthenticAMD";
  if (!is_intel && !is_amd) {
    out.report.reason = str("vendor '", vendor, "' has no known energy registers");
    return out;
  }
  const int64_t model =
      cpuinfo(info, "cpu family") == "6" ? parse_integer(cpuinfo(info, "model")).value_or(0) : 0;
  const uint64_t unit_register = is_intel ? 0x606 : 0xC0010299;
  const Places places = packages(io, is_intel);
  int64_t index = -1;
  for (const auto& [place, path] : places) {
    ++index;
    uint64_t units = 0;
    if (const int error = io.read_at(path, unit_register, &units, sizeof units); error != 0) {
      out.report.reason = str(path, ": ", error_text(error), " (modprobe msr; CAP_SYS_RAWIO)");
      continue;
    }
    const double unit = std::ldexp(1.0, -static_cast<int>((units >> 8) & 31));
    const auto add = [&](const Register& r) {
      uint64_t raw = 0;
      if (io.read_at(path, r.address, &raw, sizeof raw) != 0) return;  // this model lacks it
      if (r.domain == Domain::psys && index != 0) return;
      out.counters.push_back(std::make_unique<RawCounter>(
          "msr", str(r.label, "-", index), r.domain, io, reader(io, path, r.address),
          Unroller(4294967296.0, unit_of(r.domain, unit, model) * 1e6, 1000), 0.001));
    };
    if (is_intel) std::for_each(std::begin(intel), std::end(intel), add);
    else std::for_each(std::begin(amd), std::end(amd), add);
  }
  if (out.counters.empty() && out.report.reason.empty())
    out.report.reason = "no package found in /sys/devices/system/cpu";
  return out;
}

}  // namespace wattle::energy
