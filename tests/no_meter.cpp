// Part of every test program: no test reads the meters of the machine that it happens to run on, or
// a calibration of its user. Tests of meters bring scripted ones of their own.
#include <cstdlib>
#include <initializer_list>

namespace {
struct NoMeter {
  NoMeter() {
    for (const char* name : {"WATTLE_METER_ROOT", "WATTLE_NVML_LIB", "WATTLE_CALIBRATION"})
      ::setenv(name, "/nonexistent", 1);
    for (const char* name : {"WATTLE_METER_COMMAND", "WATTLE_METER_FILE", "WATTLE_ALLOW_MSR"})
      ::unsetenv(name);
  }
} const no_meter;
}  // namespace
