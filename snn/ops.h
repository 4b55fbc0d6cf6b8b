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
///              clear: to v_reset after the charge of the next step, whose input is lost; only
///              delayed and detached
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

/// Every switch of neurons with a second state w or a gain k, input x, potential h and spike s:
///   klif        h = relu(k c), c as lif's charge in NeuronAttr (by difference); scale_reset: h and
///               the threshold are divided by k before the reset
///   alif        v' = decay v + x - v_th s, w' = rho w + s with s of the step before,
///               h = v' - beta w': each spike lifts the threshold by beta (Bellec et al. 2018)
///   izhikevich  h = v + (x + a0 (v - v_rest) (v - v_c) - w) / tau, w' = w + (a (h - v_rest) - w) /
///               tau_w + b s
/// Fire and reset as in NeuronAttr; alif subtracts, in the next step. detach_reset: no gradient
/// through the reset of v; that of w always passes.
struct AdaptiveAttr {
  std::string kind = "alif";
  double tau = 2, v_th = 1, v_reset = 0;
  std::string reset = "soft";
  bool decay_input = true, scale_reset = false, strict = false, detach_reset = false;
  double decay = 0.95, rho = 0.995, beta = 1.8;
  double a0 = 1, v_rest = -0.1, v_c = 0.8, tau_w = 2, a = 0, b = 0;
  std::string surrogate = "atan";
  double slope = 0;
  template <class V>
  void visit(V&& on) {
    on("kind", kind), on("tau", tau), on("v_th", v_th), on("v_reset", v_reset), on("reset", reset);
    on("decay_input", decay_input), on("scale_reset", scale_reset), on("strict", strict);
    on("detach_reset", detach_reset), on("decay", decay), on("rho", rho), on("beta", beta);
    on("a0", a0), on("v_rest", v_rest), on("v_c", v_c), on("tau_w", tau_w), on("a", a), on("b", b);
    on("surrogate", surrogate), on("slope", slope);
  }
};
/// x [T, ...] -> {spikes [T, ...], v [...], w [...] after the last step, h [T, ...]}, all steps at
/// once. v, w [...]: the state at the start (none: at rest); klif has no w, and gives [0] for it.
/// gain [1]: k of klif (none: 1). All results pass gradients on; backward reads h alone.
Tensors adaptive_neuron(const Tensor& x, const Tensor& v, const Tensor& w, const Tensor& gain,
                        const AdaptiveAttr& attr);

}  // namespace wattle
