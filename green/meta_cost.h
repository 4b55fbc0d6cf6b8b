// The exact cost of a training step from shapes alone: the net runs on the meta device.
#pragma once
#include "green/ledger.h"
#include "green/nets.h"

namespace wattle::green {

struct StepCost {
  int64_t params = 0;
  int64_t batch = 0;
  Ledger ledger;                                  ///< one step of `batch` images
  int64_t forward_flops = 0, backward_flops = 0;  ///< weighted ops, whole batch
};

/// One training step with Adam. Nothing is allocated and no data are read.
StepCost meta_step_cost(const NetSpec& net, const ImageSpec& image, int64_t batch,
                        const std::string& optimizer = "adam");

/// Sums of the weighted FLOPs of a phase.
int64_t weighted_flops(const Ledger& ledger, Phase phase);

}  // namespace wattle::green
