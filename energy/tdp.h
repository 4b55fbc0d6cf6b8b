// Guesses from the thermal design power, for hosts where nothing can be measured or modelled
// better. Other tools print such figures as energy; here they carry the kind tdp_estimate and +-50
// %: two modes of one tool differ by a factor of 2.3 at half load.
#pragma once
#include <string>

#include "energy/joules.h"

namespace wattle::energy {

/// Standard deviation put on every figure here, relative.
constexpr double tdp_rel_sd = 0.5;
/// codecarbon's assumption for unknown processors, watts per hardware thread.
constexpr double watts_per_unknown_thread = 4;

/// codecarbon, machine mode: TDP (0.1 + 0.9 u^3), u = load of the host in 0..1.
double watts_by_cubic_load(double tdp, double load);
/// codecarbon, process mode: TDP x CPU seconds / wall seconds / hardware threads; no idle power.
double watts_by_process(double tdp, double cpu_seconds, double seconds, int threads);
/// codecarbon's constant mode and carbontracker: TDP / 2.
double watts_constant(double tdp);
/// Green Metrics Tool, after SDIA: u TDP / 0.65 per chip.
double watts_by_sdia(double tdp, double load, int chips = 1);
/// codecarbon's memory model for x86: 5 W a module, at least 10 W; 90, 80, 70 % of that for modules
/// beyond 4, 8 and 16.
double memory_watts(int modules);

/// Energy of a process: CPU seconds of it in `seconds`. `tdp` 0 = not known: 4 W a hardware thread,
/// and the source says so. Throws value_error on negative or non-finite input.
Joules tdp_estimate(double seconds, double cpu_seconds, int threads, double tdp = 0);

}  // namespace wattle::energy
