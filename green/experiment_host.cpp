#include "green/experiment_host.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "core/error.h"

namespace wattle::green {
namespace {

namespace fs = std::filesystem;

// First line of a small file; empty when it cannot be read.
std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Entries of a folder, sorted, so that the choice of a sensor does not depend on the kernel's
// order.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code absent;
  for (const auto& e : fs::directory_iterator(folder, absent)) out.push_back(e.path());
  std::sort(out.begin(), out.end());
  return out;
}

// Thousandths of a degree, as hwmon and thermal zones write them; NaN for anything else.
double celsius(const fs::path& path) {
  const std::string text = first_line(path);
  long milli = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), milli);
  const bool good = bad == std::errc() && end == text.data() + text.size() && !text.empty();
  return good ? static_cast<double>(milli) / 1000 : std::numeric_limits<double>::quiet_NaN();
}

std::string cpu_name(const std::string& root) {
  std::ifstream info(root + "/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

}  // namespace

double processor_celsius(const std::string& root) {
  for (const fs::path& chip : entries(root + "/sys/class/hwmon")) {
    const std::string driver = first_line(chip / "name");
    if (driver != "coretemp" && driver != "k10temp" && driver != "zenpower") continue;
    const double t = celsius(chip / "temp1_input");  // the package; further ones are cores and dies
    if (t == t) return t;
  }
  for (const fs::path& zone : entries(root + "/sys/class/thermal")) {
    const std::string type = first_line(zone / "type");
    if (!type.starts_with("x86_pkg_temp") && !type.starts_with("cpu")) continue;
    const double t = celsius(zone / "temp");
    if (t == t) return t;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::vector<std::pair<std::string, std::string>> host_settings(const std::string& root) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) out.push_back({key, value});
  };
  add("processor", cpu_name(root));
  add("processors online", first_line(root + "/sys/devices/system/cpu/online"));
  add("governor", first_line(root + "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
  add("turbo off (intel_pstate)",
      first_line(root + "/sys/devices/system/cpu/intel_pstate/no_turbo"));
  add("boost (cpufreq)", first_line(root + "/sys/devices/system/cpu/cpufreq/boost"));
  add("hyper-threading", first_line(root + "/sys/devices/system/cpu/smt/control"));
  add("system", first_line(root + "/proc/sys/kernel/osrelease"));
  return out;
}

double RealHost::now_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void RealHost::sleep_s(double seconds) {
  using clock = std::chrono::steady_clock;
  const auto end = clock::now() + std::chrono::duration_cast<clock::duration>(
                                      std::chrono::duration<double>(seconds));
  // in pieces, so that a user who interrupts does not wait for the end of a long rest
  while (!stop() && clock::now() < end) {
    std::this_thread::sleep_for(
        std::min<clock::duration>(end - clock::now(), std::chrono::milliseconds(200)));
  }
}

}  // namespace wattle::green
