// Ops of spiking networks.
#pragma once
#include "core/attr.h"
#include "ops/ops.h"

namespace wattle {

struct FireAttr {
  std::string surrogate = "atan";  ///< snn/surrogate.h
  double slope = 0;                ///< of the surrogate; 0 = its usual one
  bool strict = false;             ///< fires above 0, not at it
  template <class V>
  void visit(V&& v) {
    v("surrogate", surrogate), v("slope", slope), v("strict", strict);
  }
};
/// 1 where u >= 0 (u > 0 if strict), else 0, in u's dtype; backward multiplies with the surrogate.
Tensor fire(const Tensor& u, const FireAttr& attr = {});

/// Every switch of a neuron with one state v, input x, potential h and spike s:
///   charge     integrate: h = v + x
///              lif: h = v + (x - (v - v_reset)) / tau, or v - (v - v_reset) / tau + x without
///              decay_input (the rest is 0 unless the reset is hard, and then the second form is
///              rounded as (1 - 1/tau) v + x, unless by_difference)
///              leaky: h = beta v + x
///   fire       s = [h >= v_th], strict: [h > v_th]
///   reset      hard: to v_reset; soft: v_th is subtracted; none. At the end of the step, or with
///              delayed at the start of the next one, where soft subtracts after the charge.
/// detach_reset: no gradient through the reset.
struct NeuronAttr {
  std::string charge = "lif";
  double tau = 2, beta = 0.9, v_th = 1, v_reset = 0;
  std::string reset = "hard";
  bool decay_input = true, strict = false, delayed = false, detach_reset = false;
  bool by_difference = false;
  std::string surrogate = "atan";
  double slope = 0;
  int64_t steps = 0;       ///< > 0: x [1, ...] is the same current in so many steps
  DType out = DType::f32;  ///< of the spikes: that of x, or spike
  template <class V>
  void visit(V&& v) {
    v("charge", charge), v("tau", tau), v("beta", beta), v("v_th", v_th), v("v_reset", v_reset);
    v("reset", reset), v("decay_input", decay_input), v("strict", strict), v("delayed", delayed);
    v("detach_reset", detach_reset), v("surrogate", surrogate), v("slope", slope);
    v("steps", steps), v("out", out);
    v("by_difference", by_difference);
  }
};
/// x [T, ...], or [1, ...] with `steps` -> {spikes [T, ...], v [...] after the last step, h [T,
/// ...]}, all steps at once. v
/// [...] is the state at the start (none: at rest); decay [1] replaces 1/tau (lif) or beta (leaky),
/// and gets a gradient. All three results pass gradients on; backward reads h and recomputes the
/// rest.
Tensors neuron(const Tensor& x, const Tensor& v, const Tensor& decay, const NeuronAttr& attr);

}  // namespace wattle
