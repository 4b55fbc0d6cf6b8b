// Sensors of boards: hwmon, the INA3221 of Jetson boards, batteries.
#include <cerrno>

#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

// hwmon's own files are in microwatts.
std::optional<double> watts_of(HostIo& io, const std::string& path, std::string* why) {
  const auto v = read_integer(io, path, why);
  if (!v) return {};
  return static_cast<double>(*v) * 1e-6;
}

// Millivolts times milliamperes.
std::optional<double> watts_of(HostIo& io, const std::string& volt, const std::string& ampere,
                               std::string* why) {
  const auto mv = read_integer(io, volt, why), ma = read_integer(io, ampere, why);
  if (!mv || !ma) return {};
  return static_cast<double>(*mv) * static_cast<double>(*ma) * 1e-6;
}

// Drivers differ in the sign of what flows out of a battery; the status says which way it flows.
std::optional<int64_t> magnitude(HostIo& io, const std::string& path, std::string* why = nullptr) {
  const FileText t = io.read_file(path);
  if (t.error == 0 && t.text.starts_with('-')) return parse_integer(t.text.substr(1));
  return read_integer(io, path, why);
}

// Only a battery that discharges tells what the machine draws.
std::optional<double> battery_watts(HostIo& io, const std::string& folder, std::string* why) {
  const std::string status = first_line(io.read_file(folder + "/status").text);
  if (status != "Discharging") {
    *why = str(folder, "/status: found '", status, "', expected Discharging");
    return {};
  }
  if (const auto uw = magnitude(io, folder + "/power_now")) return double(*uw) * 1e-6;
  const auto ua = magnitude(io, folder + "/current_now", why);
  const auto uv = read_integer(io, folder + "/voltage_now", why);
  if (!ua || !uv) return {};
  return static_cast<double>(*ua) * static_cast<double>(*uv) * 1e-12;
}

// Of a graphics board the first channel is the board ("card" where there are labels); others are
// inside it. amdgpu also reports the graphics part of a processor, which the package contains: only
// there does a voltage named vddnb exist (amdgpu_pm.c).
Domain hwmon_domain(HostIo& io, const std::string& folder, const std::string& label, bool first) {
  const std::string chip = first_line(io.read_file(folder + "/name").text);
  const bool in_processor = first_line(io.read_file(folder + "/in1_label").text) == "vddnb";
  if (chip == "i915" || chip == "xe" || chip == "amdgpu" || chip == "nouveau")
    return first && !in_processor ? Domain::gpu : Domain::rail;
  if (chip == "amd_energy") return label.starts_with("Esocket") ? Domain::package : Domain::core;
  return Domain::rail;
}

// One hwmon chip: its energy files, or power where it has no energy.
void add_chip(HostIo& io, const std::string& folder, CounterList& out) {
  const std::string chip = first_line(io.read_file(folder + "/name").text);
  if (chip.starts_with("ina3221")) return;  // probe_jetson knows its rails
  const std::vector<std::string> files = io.list(folder);
  bool energy = false, first = true;
  for (const char* kind : {"energy", "power"}) {
    if (energy) break;
    for (const std::string& f : files) {
      const bool average = std::string(kind) == "power" && f.ends_with("_average");
      if (!f.starts_with(kind) || !(f.ends_with("_input") || average)) continue;
      const std::string stem = f.substr(0, f.find('_'));
      if (!parse_integer(stem.substr(std::string(kind).size()))) continue;
      if (read_integer(io, folder + "/" + stem + "_enable") == 0) continue;
      if (average && read_integer(io, folder + "/" + stem + "_input")) continue;
      if (!read_integer(io, folder + "/" + f)) continue;
      std::string label = first_line(io.read_file(folder + "/" + stem + "_label").text);
      if (label.empty()) label = stem;
      const Domain d = hwmon_domain(io, folder, label, first);
      first = false;
      const std::string path = folder + "/" + f;
      // energyN_input has 64 bits, but behind it may lie a 32-bit register that the driver follows
      // only when somebody reads (i915_hwmon.c): hence the polling.
      if (std::string(kind) == "energy")
        out.push_back(std::make_unique<RawCounter>(
            "hwmon", chip + "/" + label, d, io,
            [&io, path](std::string* why) { return read_integer(io, path, why); },
            Unroller(0, 1, 0), 0.1, 30));
      else
        out.push_back(std::make_unique<PowerCounter>(
            "hwmon", chip + "/" + label, d, io,
            [&io, path](std::string* why) { return watts_of(io, path, why); }, 0.1));
      energy = energy || std::string(kind) == "energy";
    }
  }
}

// The board's input contains the other rails.
Domain rail_domain(const std::string& name) {
  std::string s;
  for (const char c : name) s += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool input = s.ends_with("_in") || s.find("system") != s.npos || s.find("total") != s.npos;
  return input ? Domain::board : Domain::rail;
}

void add_rails(HostIo& io, const std::string& folder, CounterList& out) {
  for (int k = 0; k <= 8; ++k) {
    const std::string n = std::to_string(k);
    std::string label = first_line(io.read_file(folder + "/in" + n + "_label").text);
    if (label.empty()) label = first_line(io.read_file(folder + "/rail_name_" + n).text);
    if (label.empty() || label.find("NC") == 0 || label == "sum of shunt voltages") continue;
    // Millivolts times milliamperes: what older kernels print in powerK_input is milliwatts and
    // what newer ones print is microwatts, so that file is not believed.
    for (const auto& [volt, ampere] :
         {std::pair{"/in" + n + "_input", "/curr" + n + "_input"},
          std::pair{"/in_voltage" + n + "_input", "/in_current" + n + "_input"}}) {
      if (!read_integer(io, folder + volt) || !read_integer(io, folder + ampere)) continue;
      out.push_back(std::make_unique<PowerCounter>(
          "jetson", label, rail_domain(label), io,
          [&io, v = folder + volt, a = folder + ampere](std::string* why) {
            return watts_of(io, v, a, why);
          },
          0.1));
      break;
    }
  }
}

}  // namespace

Probed probe_hwmon(HostIo& io, const ProbeOptions&) {
  Probed out;
  out.report.name = "hwmon";
  int error = 0;
  const auto chips = io.list("/sys/class/hwmon", &error);
  for (const std::string& chip : chips) add_chip(io, "/sys/class/hwmon/" + chip, out.counters);
  if (out.counters.empty())
    out.report.reason = error != 0 ? str("/sys/class/hwmon: ", error_text(error))
                                   : "/sys/class/hwmon: no chip with an energy or power file";
  return out;
}

Probed probe_jetson(HostIo& io, const ProbeOptions&) {
  Probed out;
  out.report.name = "jetson";
  for (const char* driver : {"ina3221", "ina3221x"}) {
    const std::string base = std::string("/sys/bus/i2c/drivers/") + driver;
    for (const std::string& device : io.list(base)) {
      add_rails(io, base + "/" + device, out.counters);
      for (const char* sub : {"/hwmon", "/iio:device"})
        for (const std::string& h : io.list(base + "/" + device + sub))
          add_rails(io, base + "/" + device + sub + "/" + h, out.counters);
      for (const std::string& h : io.list(base + "/" + device))
        if (h.starts_with("iio:device")) add_rails(io, base + "/" + device + "/" + h, out.counters);
    }
  }
  if (out.counters.empty())
    out.report.reason = "/sys/bus/i2c/drivers/ina3221: no power monitor with labelled rails";
  return out;
}

Probed probe_battery(HostIo& io, const ProbeOptions&) {
  Probed out;
  out.report.name = "battery";
  int error = 0;
  for (const std::string& name : io.list("/sys/class/power_supply", &error)) {
    const std::string folder = "/sys/class/power_supply/" + name;
    if (first_line(io.read_file(folder + "/type").text) != "Battery") continue;
    if (first_line(io.read_file(folder + "/scope").text) == "Device") continue;  // a mouse's
    std::string why;
    if (battery_watts(io, folder, &why))
      out.counters.push_back(std::make_unique<PowerCounter>(
          "battery", name, Domain::battery, io,
          [&io, folder](std::string* fault) { return battery_watts(io, folder, fault); }, 1));
    else out.report.reason = why;
  }
  if (out.counters.empty() && out.report.reason.empty())
    out.report.reason = error != 0 ? str("/sys/class/power_supply: ", error_text(error))
                                   : "/sys/class/power_supply: no battery";
  return out;
}

}  // namespace wattle::energy
