// NeuroBench's metrics of a net, by their names (Yik et al., Nature Communications 2025), from the
// account of its layers. Where its definition counts by values, ours counts by type: a layer's
// operations are ACs when its inputs are spikes, whatever numbers others happen to hold.
#pragma once
#include "green/nir_net.h"
#include "green/snn_account.h"

namespace wattle::green {

/// Operations per sample of one layer with its weights and inputs replaced by 0 and 1: those that
/// meet, and all (taps in the padding are none). Biases are not counted.
struct SynapticOperations {
  double effective = 0, dense = 0;
};
/// x [N, in] for Linear, [N,C,H,W] for Conv2d.
SynapticOperations synaptic_operations(const nn::Module& layer, const Tensor& x);

struct NeuroBench {
  int64_t footprint_bytes = 0;  ///< of parameters and buffers, zeros included
  int64_t parameter_count = 0;
  double connection_sparsity = 0;  ///< zero weights over weights, biases left out
  double activation_sparsity = 0;  ///< zeros over activations, of all layers, steps and samples
  double effective_macs = 0, effective_acs = 0, dense_operations = 0;  ///< per sample, all steps
  double membrane_updates = 0;  ///< potentials that a step changed, per sample; NirNet alone
};
NeuroBench neurobench_of(SnnNet& net, const Tensor& images);
/// x [T,N,...], run from rest. `spikes`: x holds spikes; throws value_error where it is not 0 or 1.
NeuroBench neurobench_of(NirNet& net, const Tensor& x, bool spikes);

}  // namespace wattle::green
