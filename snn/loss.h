// Losses of spiking nets. Outputs are [T,N,C]: spikes (as numbers or bits) or potentials; targets
// i64 [N]. All are scalars, means over the batch.
#pragma once
#include "ops/ops.h"

namespace wattle::snn {

/// Cross-entropy of every step's outputs as logits, mean over steps (snnTorch's ce_rate_loss on
/// spikes, Deng et al.'s TET on potentials or currents).
Tensor ce_rate(const Tensor& outputs, const Tensor& target);
/// The same, summed over steps: what snnTorch's fifth tutorial minimises.
Tensor ce_sum(const Tensor& outputs, const Tensor& target);
/// Cross-entropy of the number of spikes.
Tensor ce_count(const Tensor& spikes, const Tensor& target);
/// Cross-entropy of the largest potential over time.
Tensor ce_max_membrane(const Tensor& potentials, const Tensor& target);
/// Mean squared distance of the mean rate from one-hot (SpikingJelly's examples).
Tensor mse_rate(const Tensor& spikes, const Tensor& target);
/// Mean squared distance of the number of spikes from floor(T right) and floor(T wrong), over T.
Tensor mse_count(const Tensor& spikes, const Tensor& target, double right = 1, double wrong = 0);
/// Step of each neuron's first spike, [N,C]; T where there is none, one more than the last step can
/// give. The gradient of a time is -1 at its first spike and 0 elsewhere.
Tensor first_spike_times(const Tensor& spikes);
/// Cross-entropy of minus the first spike times: the right class is to fire first.
Tensor ce_ttfs(const Tensor& spikes, const Tensor& target);
/// Mean squared distance of the first spike times over T from right / T and wrong / T (none: 1).
Tensor mse_ttfs(const Tensor& spikes, const Tensor& target, double right = 0,
                std::optional<double> wrong = {});
/// weight times the mean of all spikes: fewer of them.
Tensor l1_rate(const Tensor& spikes, double weight);

/// Class with the most spikes; ties go to the lower one. [N]
Tensor most_spikes(const Tensor& spikes);

}  // namespace wattle::snn
