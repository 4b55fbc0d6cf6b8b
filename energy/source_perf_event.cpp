// RAPL through perf_event, the PMU `power`: the kernel itself follows wraps. linux
// arch/x86/events/rapl.c. AMD shows packages only; its PMU power_core has single cores and is not
// needed, as the package contains them.
#include <cerrno>
#include <charconv>

#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

const std::string pmu = "/sys/bus/event_source/devices/power";

struct Event {
  const char* file;
  const char* label;
  Domain domain;
};
constexpr Event events[] = {{"energy-pkg", "package", Domain::package},
                            {"energy-ram", "dram", Domain::dram},
                            {"energy-cores", "core", Domain::core},
                            {"energy-gpu", "uncore", Domain::uncore},
                            {"energy-psys", "psys", Domain::psys}};

// "0,18" or "0-3" -> the CPUs; empty for anything else.
std::vector<int> cpu_list(const std::string& text) {
  std::vector<int> cpus;
  const std::string line = first_line(text);
  const char* p = line.data();
  const char* const end = p + line.size();
  while (p < end) {
    int first = 0, last = 0;
    auto r = std::from_chars(p, end, first);
    if (r.ec != std::errc()) return {};
    last = first;
    if (r.ptr < end && *r.ptr == '-') {
      r = std::from_chars(r.ptr + 1, end, last);
      if (r.ec != std::errc() || last < first || last - first > 4096) return {};
    }
    for (int c = first; c <= last; ++c) cpus.push_back(c);
    if (r.ptr < end && *r.ptr != ',') return {};
    p = r.ptr + 1;
  }
  return cpus;
}

// "event=0x02" -> 2
std::optional<uint64_t> event_code(const std::string& text) {
  const std::string line = first_line(text);
  const std::string key = "event=0x";
  uint64_t v = 0;
  if (!line.starts_with(key)) return {};
  const auto r = std::from_chars(line.data() + key.size(), line.data() + line.size(), v, 16);
  if (r.ec != std::errc() || r.ptr != line.data() + line.size()) return {};
  return v;
}

std::optional<double> scale_of(const std::string& text) {
  const std::string line = first_line(text);
  double v = 0;
  const auto r = std::from_chars(line.data(), line.data() + line.size(), v);
  if (r.ec != std::errc() || r.ptr != line.data() + line.size() || !(v > 0)) return {};
  return v;
}

std::string open_error(int error) {
  std::string why = str("perf_event_open: ", error_text(error));
  if (error == EACCES || error == EPERM)
    why += " (needs CAP_PERFMON, or kernel.perf_event_paranoid below 1)";
  return why;
}

// Owns the descriptor: it is closed with the last copy of the function.
ReadValue reader(HostIo& io, int fd) {
  const std::shared_ptr<void> closes(nullptr, [&io, fd](void*) { io.perf_close(fd); });
  return [&io, fd, closes](std::string* why) -> std::optional<double> {
    uint64_t raw = 0;
    const int error = io.perf_read(fd, &raw);
    if (error == 0) return static_cast<double>(raw);
    *why = str("perf event: ", error_text(error));
    return {};
  };
}

}  // namespace

Probed probe_perf_event(HostIo& io, const ProbeOptions&) {
  Probed out;
  out.report.name = "perf_event";
  std::string why;
  const auto type = read_integer(io, pmu + "/type", &why);
  if (!type) {
    out.report.reason = str("no PMU for energy: ", why);
    return out;
  }
  const std::vector<int> cpus = cpu_list(io.read_file(pmu + "/cpumask").text);
  if (cpus.empty()) {
    out.report.reason = pmu + "/cpumask: not a list of CPUs";
    return out;
  }
  for (const Event& e : events) {
    const std::string path = pmu + "/events/" + e.file;
    const auto code = event_code(io.read_file(path).text);
    const auto scale = scale_of(io.read_file(path + ".scale").text);
    if (!code || !scale || first_line(io.read_file(path + ".unit").text) != "Joules") continue;
    for (size_t socket = 0; socket < cpus.size(); ++socket) {
      const int fd = io.perf_open(static_cast<uint32_t>(*type), *code, cpus[socket]);
      if (fd < 0) {
        if (out.report.reason.empty()) out.report.reason = open_error(-fd);
        continue;
      }
      out.counters.push_back(std::make_unique<RawCounter>(
          "perf_event", str(e.label, "-", static_cast<int64_t>(socket)), e.domain, io,
          reader(io, fd), Unroller(0, *scale * 1e6, 0), 0.001));
      if (e.domain == Domain::psys) break;  // one for the whole platform
    }
  }
  if (out.counters.empty() && out.report.reason.empty())
    out.report.reason = pmu + "/events: no energy event in Joules";
  return out;
}

}  // namespace wattle::energy
