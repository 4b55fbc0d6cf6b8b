// A spiking neuron over time, step by step: potential, spikes, surrogate, and the way back.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "snn/ops.h"

namespace wattle::cli::explain {

/// One neuron in one step. `through` is what comes back from the next step, on its way to h.
struct NeuronStep {
  double x, from, h, s, v;  ///< v before (`from`) and behind the step
  double slope, through, gh, gx;
};

struct NeuronLesson {
  NeuronAttr attr;
  double d;  ///< 1/tau or beta
  std::vector<NeuronStep> steps;
  std::vector<double> curve_u, curve;      ///< the surrogate around the threshold
  Cost forward, backward;                  ///< of all steps
  double forward_fj = 0, backward_fj = 0;  ///< modelled, the bytes included
  bool agrees = false;  ///< what the recurrence gives by hand is what the tape gives
};

/// Runs the op `neuron` on the input, with the loss L = the sum of the spikes. `attrs`: name=value,
/// as `wattle op neuron` takes them. Throws value_error.
NeuronLesson neuron_lesson(const std::vector<double>& input, const std::vector<std::string>& attrs);

void print_neuron(const NeuronLesson& l);
std::string neuron_json(const NeuronLesson& l);
/// The page; "#step=N" opens it at step N.
std::string neuron_page(const NeuronLesson& l);

extern const std::string_view neuron_script;  ///< explain_neuron_script.cpp

}  // namespace wattle::cli::explain
