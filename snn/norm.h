// Batch normalisation for sequences [T,N,C,H,W] of spiking nets.
#pragma once
#include <memory>

#include "nn/layers.h"

namespace wattle::snn {

/// tdBN (Zheng et al., AAAI 2021): steps are normalised together, folded into the batch, and the
/// factor starts at alpha v_th, so that currents are of the size of the threshold. A BatchNorm2d
/// otherwise; convert() and fold() take it.
std::shared_ptr<nn::BatchNorm2d> td_batch_norm(int64_t channels, double v_th = 1, double alpha = 1);

/// TEBN (Duan et al., NeurIPS 2022): tdBN's statistics, and a learnt factor for each step, from 1.
class TemporalEffectiveBatchNorm final : public nn::Module {
 public:
  TemporalEffectiveBatchNorm(int64_t channels, int64_t steps);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "TemporalEffectiveBatchNorm"; }
  Tensor factor;  ///< [T]

 private:
  std::shared_ptr<nn::BatchNorm2d> norm_;
};

/// BNTT (Kim and Panda, Frontiers in Neuroscience 2021): every step has its own statistics and
/// factor, none a shift.
class BatchNormThroughTime final : public nn::Module {
 public:
  BatchNormThroughTime(int64_t channels, int64_t steps, double eps = 1e-5, double momentum = 0.1);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "BatchNormThroughTime"; }
  Tensor weight;                                  ///< [T,C]
  std::vector<Tensor> running_mean, running_var;  ///< of each step, [C]

 private:
  double eps_, momentum_;
};

/// A convolution that does what conv and the normalisation after it do in eval mode, times
/// `factor` (1/tau, where the neuron behind it would divide its input).
std::shared_ptr<nn::Conv2d> fold(const nn::Conv2d& conv, const nn::BatchNorm2d& norm,
                                 double factor = 1);

}  // namespace wattle::snn
