// Vector kernels of adaptive_neuron and its gradient.
#pragma once
#include "snn/adaptive_neuron_rule.h"

namespace wattle::snn {

/// T planes of n neurons.
struct AdaptiveForward {
  AdaptiveRule rule;
  float gain;
  int64_t steps, n;
  const float *x, *v, *w;             ///< v and w may be null
  float *spikes, *v_end, *w_end, *h;  ///< w_end is null without a second state
};
template <class Isa>
void adaptive_forward(const AdaptiveForward& f);

struct AdaptiveBackward {
  AdaptiveRule rule;
  float gain;
  bool learned;
  int64_t steps, n;
  const float *gs, *gv, *gw, *gh, *h, *v, *w;  ///< all but h may be null
  float *gx, *gv0, *gw0;                       ///< gw0 is null without a second state
  float* ggain;                                ///< one number; 0 unless learned
};
template <class Isa>
void adaptive_backward(const AdaptiveBackward& b);

}  // namespace wattle::snn
