// RAPL through the powercap tree of Linux: /sys/class/powercap/intel-rapl:0/energy_uj and so on.
// AMD processors appear there under the same name. Documentation/power/powercap/powercap.rst.
#include <cerrno>
#include <map>
#include <set>

#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

const std::string tree = "/sys/class/powercap/";

// `range` 0: not known; then no counter of RAPL has less than 32 bits of 15.258 uJ. 1000 W: more
// than any package draws. One unit is 1 uJ.
Unroller unroller(double range) { return {range > 0 ? range : 65532610987.0, 1, 1000, range > 0}; }

std::optional<Domain> domain_of(const std::string& name) {
  if (name.starts_with("package")) return Domain::package;
  if (name == "core") return Domain::core;
  if (name == "uncore") return Domain::uncore;
  if (name == "dram") return Domain::dram;
  if (name.starts_with("psys")) return Domain::psys;  // "psys-1" on a second socket
  return {};
}

// "intel-rapl:0:1" -> "intel-rapl:0"; "" for a zone at the top.
std::string parent_of(const std::string& zone) {
  const size_t first = zone.find(':'), last = zone.rfind(':');
  return first == last ? std::string() : zone.substr(0, last);
}

struct Zone {
  std::string folder, label;
  Domain domain;
};

// The zones in order; the mmio tree shows the same registers once more and comes last. `enabled` is
// not asked: it switches a zone's power limit, not its counter, and reads 0 on AMD processors and
// most dram zones (get_domain_enable in the kernel's intel_rapl_common.c).
std::vector<Zone> zones_of(HostIo& io, const std::vector<std::string>& entries) {
  std::map<std::string, std::string> names;
  for (const std::string& e : entries)
    if (e.find(':') != e.npos) names[e] = first_line(io.read_file(tree + e + "/name").text);
  std::vector<Zone> zones;
  for (const bool mmio : {false, true})
    for (const auto& [folder, name] : names) {
      if (folder.starts_with("intel-rapl-mmio") != mmio) continue;
      const auto domain = domain_of(name);
      if (!domain) continue;
      const std::string parent = parent_of(folder);
      const std::string label = parent.empty() ? name : names[parent] + "/" + name;
      zones.push_back({folder, label, *domain});
    }
  return zones;
}

}  // namespace

Probed probe_powercap(HostIo& io, const ProbeOptions&) {
  Probed out;
  out.report.name = "powercap";
  int error = 0;
  const auto entries = io.list("/sys/class/powercap", &error);
  if (error != 0) {
    out.report.reason = str(tree, ": ", error_text(error));
    return out;
  }
  const std::vector<Zone> zones = zones_of(io, entries);
  if (zones.empty()) out.report.reason = str(tree, ": no intel-rapl zone");
  std::set<std::string> seen;
  for (const Zone& z : zones) {
    if (seen.contains(z.label)) continue;
    const std::string folder = tree + z.folder;
    std::string why;
    if (!read_integer(io, folder + "/energy_uj", &why)) {
      if (why.find(error_text(EACCES)) != why.npos)
        why += " (readable by root only since CVE-2020-8694; grant it with chmod or a udev rule)";
      if (out.report.reason.empty()) out.report.reason = why;
      continue;
    }
    seen.insert(z.label);
    const auto range = read_integer(io, folder + "/max_energy_range_uj");
    out.counters.push_back(std::make_unique<RawCounter>(
        "powercap", z.label, z.domain, io,
        [&io, folder](std::string* fault) {
          return read_integer(io, folder + "/energy_uj", fault);
        },
        unroller(double(range.value_or(0))), 0.001));
  }
  return out;
}

}  // namespace wattle::energy
