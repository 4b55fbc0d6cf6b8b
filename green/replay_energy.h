// The joules of a GPU's steps, measured by repeating one: a training of a small net is over before
// the energy counter of a board has moved a few times.
#pragma once
#include "energy/window.h"
#include "green/captured_step.h"

namespace wattle::green {

struct StepEnergy {
  energy::WindowResult window;  ///< of `steps` equal steps
  int64_t steps = 0;
  double seconds_per_step() const { return window.seconds / static_cast<double>(steps); }
};

/// Repeats the captured step for `seconds` after a warm-up of a quarter of that. Weights move on by
/// that many steps. Throws value_error unless seconds > 0.
StepEnergy measure_step(energy::Meter& meter, const energy::IdleBaseline& idle, CapturedStep& step,
                        double seconds);
/// What `steps` such steps take: the measured window times steps / e.steps, its standard deviation
/// likewise. The source says how it was measured.
energy::WindowResult energy_of_steps(const StepEnergy& e, int64_t steps);

}  // namespace wattle::green
