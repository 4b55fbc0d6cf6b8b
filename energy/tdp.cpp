#include "energy/tdp.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace wattle::energy {
namespace {

void check(const char* what, double v) {
  if (!(v >= 0) || !std::isfinite(v))
    throw value_error(str("TDP estimate: found ", what, " ", v, ", expected a finite one >= 0"));
}

void check_load(double load) {
  if (!(load >= 0 && load <= 1))
    throw value_error(str("TDP estimate: found load ", load, ", expected 0 to 1"));
}

}  // namespace

double watts_by_cubic_load(double tdp, double load) {
  check("a TDP of", tdp);
  check_load(load);
  return tdp * (0.1 + 0.9 * load * load * load);
}

double watts_by_process(double tdp, double cpu_seconds, double seconds, int threads) {
  check("a TDP of", tdp);
  check("CPU seconds", cpu_seconds);
  if (!(seconds > 0) || threads < 1)
    throw value_error(str("TDP estimate: found ", seconds, " s and ", threads,
                          " threads, expected more than 0 of both"));
  return tdp * cpu_seconds / seconds / threads;
}

double watts_constant(double tdp) {
  check("a TDP of", tdp);
  return tdp / 2;
}

double watts_by_sdia(double tdp, double load, int chips) {
  check("a TDP of", tdp);
  check_load(load);
  return load * tdp / 0.65 * chips;
}

double memory_watts(int modules) {
  double watts = 0;
  for (int i = 0; i < modules; ++i) watts += 5 * (i < 4 ? 1 : i < 8 ? 0.9 : i < 16 ? 0.8 : 0.7);
  return std::max(10.0, watts);
}

Joules tdp_estimate(double seconds, double cpu_seconds, int threads, double tdp) {
  check("seconds", seconds);
  check("CPU seconds", cpu_seconds);
  check("a TDP of", tdp);
  if (threads < 1) throw value_error(str("TDP estimate: found ", threads, " hardware threads"));
  const bool known = tdp > 0;
  const double watts = known ? tdp : watts_per_unknown_thread * threads;
  const double uj = watts * cpu_seconds / threads * 1e6;
  return {std::llround(uj), tdp_rel_sd * uj, JouleKind::tdp_estimate,
          known ? str("TDP ", watts, " W") : str("TDP not known, taken as ", watts, " W")};
}

}  // namespace wattle::energy
