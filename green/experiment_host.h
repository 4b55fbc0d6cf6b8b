// The host on which an experiment runs: its clock, its rest, its temperature, its settings.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "green/experiment.h"

namespace wattle::green {

/// Temperature of the processor in degrees Celsius from Linux: the package sensor of the driver
/// coretemp, k10temp or zenpower, else a thermal zone of a processor. NaN where there is none, as
/// in most virtual machines. Looks below `root` instead of "/".
double processor_celsius(const std::string& root = "");

/// What to freeze before an experiment, as it is now: processor, threads, governor, turbo, system.
/// Settings that cannot be read are left out.
std::vector<std::pair<std::string, std::string>> host_settings(const std::string& root = "");

/// The real host. Sleeps end early once stop() is true; override it to be asked.
class RealHost : public ExperimentHost {
 public:
  double now_s() override;
  void sleep_s(double seconds) override;
  double temperature_c() override { return processor_celsius(); }
};

}  // namespace wattle::green
