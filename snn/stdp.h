// Spike-timing-dependent plasticity with one trace for each neuron.
#pragma once
#include "core/tensor.h"

namespace wattle::snn {

/// tr <- (1 - 1/tau) tr + s for both sides, before they are used; then
///   dW = f_post(W) s_post (x) tr_pre - f_pre(W) tr_post (x) s_pre,  summed over the batch,
/// with f_post = a_post (w_max - W)^mu and f_pre = a_pre (W - w_min)^mu; mu 0: constants. Spikes of
/// both sides in one step enter both terms. The rule of SpikingJelly and snnTorch; Norse's limits.
struct StdpAttr {
  double tau_pre = 2, tau_post = 2, a_pre = 1, a_post = 1;
  double mu = 0, w_min = 0, w_max = 1;
};

class Stdp {
 public:
  /// Throws value_error for a tau below 1 or a mu below 0.
  explicit Stdp(const StdpAttr& attr);
  /// pre [N,in] and post [N,out], spikes or numbers, of one step; weight [out,in] -> dW [out,in],
  /// to be added. No gradient.
  Tensor step(const Tensor& pre, const Tensor& post, const Tensor& weight);
  /// Forgets the traces.
  void reset() { pre_ = post_ = {}; }

 private:
  StdpAttr a_;
  Tensor pre_, post_;
};

}  // namespace wattle::snn
