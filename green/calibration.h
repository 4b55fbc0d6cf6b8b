// Post-training quantisation of a trained net on real data.
#pragma once
#include <string>

#include "data/dataset.h"
#include "quant/quantized_layers.h"

namespace wattle::green {

/// Runs the first `rows` images through the net, in eval mode, and returns what flows into each
/// Conv2d and Linear. Batch norms are folded first, as they will be in the quantised net. Throws
/// value_error for a test set: ranges fitted to it would make its accuracy worthless.
quant::InputRanges calibrate(nn::Sequential& net, const data::Dataset& data,
                             const std::string& observer = "minmax", int64_t rows = 1000);

}  // namespace wattle::green
