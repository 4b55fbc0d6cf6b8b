// Formats per layer for a trained net: measure what each layer's rounding costs in accuracy, then
// spend the allowed drop where it saves most.
#pragma once
#include <string>
#include <vector>

#include "core/callable.h"
#include "data/dataset.h"
#include "energy/joules.h"
#include "green/energy_session.h"
#include "nn/module.h"
#include "quant/quantized_layers.h"

namespace wattle::green {

/// Accuracy of a net, and what running it over a data set took.
struct Inference {
  double accuracy = 0, seconds = 0;
  int64_t weight_bytes = 0, bytes = 0, flops = 0, iops = 0;  ///< by the ops' rules
  Joules joules;
};
/// In eval mode, on f32 images; counters of the thread are used and cleared.
Inference infer(nn::Sequential& net, const data::Dataset& data, EnergySession& energy);

/// Copies of a net, as many as a search needs.
using MakeNet = Callable<std::shared_ptr<nn::Sequential>()>;

struct Advice {
  struct Step {
    std::string layer, format;
    Inference result;
    bool kept = false;
  };
  Inference f32, chosen;
  quant::QuantizeConfig config;
  std::vector<Step> tried;
  Inference search;  ///< what the search itself took, all trials added up
};
/// Greedy: layers by falling weight bytes, for each the formats by rising size; the first one that
/// keeps the accuracy on `validation` within `drop` (in points of percent) of f32 and does not
/// raise the joules stays. Throws value_error for test data: choices are fitted to what they are
/// judged by.
Advice advise(const MakeNet& make, const data::Dataset& calibration,
              const data::Dataset& validation, double drop, const std::vector<std::string>& formats,
              EnergySession& energy);

}  // namespace wattle::green
