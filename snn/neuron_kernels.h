// Vector kernels of neuron and its gradient: a block of neurons stays in the first-level cache
// while its steps pass.
#pragma once
#include <vector>

#include "core/simd.h"
#include "snn/neuron_rule.h"

namespace wattle::snn {

/// T planes of n neurons; `row`: neurons whose bits follow each other, a multiple of 8 or a row.
struct NeuronForward {
  NeuronRule rule;
  float d, keep;
  int64_t steps, n, row;
  int64_t x_step;      ///< n, or 0 for the same x in every step
  const float *x, *v;  ///< v may be null
  float* spikes;       ///< or null, and
  uint8_t* bits;       ///< these
  float *v_end, *h;
};
template <class Isa>
void neuron_forward(const NeuronForward& f);

struct NeuronBackward {
  NeuronRule rule;
  float d, keep;
  int64_t steps, n;
  bool sum_x;                         ///< gx is one plane
  const float *gs, *gv, *gh, *h, *v;  ///< all but h may be null
  float *gx, *gv0;
  float* gdecay;  ///< one number; 0 unless the rule is learned
};
template <class Isa>
void neuron_backward(const NeuronBackward& b);

}  // namespace wattle::snn
