#include <cmath>

#include "snn/adaptive_neuron_rule.h"
#include "snn/layers.h"

namespace wattle::snn {

preset::Synaptic preset::lava_cuba(double v_th, double current_decay, double voltage_decay) {
  const auto keeps = [](double decay) { return 1 - std::nearbyint(4096 * decay) / 4096; };
  Synaptic s;
  s.current.charge = s.membrane.charge = "leaky";
  s.current.beta = keeps(current_decay), s.current.reset = "none";
  s.membrane.beta = keeps(voltage_decay), s.membrane.v_th = v_th;
  s.membrane.surrogate = "exponential";
  return s;
}

namespace {
AdaptiveAttr spikingjelly(const char* kind, double tau, std::optional<double> v_reset,
                          bool detach_reset) {
  AdaptiveAttr a;
  a.kind = kind, a.tau = tau, a.detach_reset = detach_reset;
  a.surrogate = "sigmoid";
  if (v_reset) a.reset = "hard", a.v_reset = *v_reset;
  return a;
}
}  // namespace

AdaptiveAttr preset::spikingjelly_klif(double tau, bool decay_input, bool scale_reset,
                                       std::optional<double> v_reset, bool detach_reset) {
  AdaptiveAttr a = spikingjelly("klif", tau, v_reset, detach_reset);
  a.decay_input = decay_input, a.scale_reset = scale_reset;
  return a;
}

AdaptiveAttr preset::spikingjelly_izhikevich(double tau, double a, double b,
                                             std::optional<double> v_reset, bool detach_reset) {
  AdaptiveAttr at = spikingjelly("izhikevich", tau, v_reset, detach_reset);
  at.a = a, at.b = b;
  return at;
}

AdaptiveAttr preset::bellec_alif(double tau_m, double tau_a, double beta) {
  AdaptiveAttr a;
  a.decay = std::exp(-1 / tau_m), a.rho = std::exp(-1 / tau_a), a.beta = beta;
  a.surrogate = "triangle";
  return a;
}

AdaptiveNeuron::AdaptiveNeuron(AdaptiveAttr attr) : attr_(std::move(attr)) {
  adaptive_rule(attr_);
  if (attr_.kind == "klif") gain = register_parameter("gain", Tensor::ones({1}));
}

Tensor AdaptiveNeuron::forward(const Tensor& x) {
  const Tensors out = adaptive_neuron(x, state_.v, state_.w, gain, attr_);
  state_.v = out[1];
  if (!gain) state_.w = out[2];
  return out[0];
}

std::pair<Tensor, AdaptiveNeuron::State> AdaptiveNeuron::step(const Tensor& x,
                                                              const State& s) const {
  const AdaptiveRule r = adaptive_rule(attr_);
  const auto number = [&](double a) { return Tensor::full({1}, a, x.dtype()); };
  const Tensor v = s.v ? s.v : Tensor::full(x.shape(), r.start(), x.dtype());
  const Tensor w = s.w ? s.w : Tensor::zeros(x.shape(), x.dtype());
  const FireAttr at{attr_.surrogate, attr_.slope, attr_.strict};
  const auto fires = [&](const Tensor& h) { return fire(scale(h, 1, -r.v_th), at); };
  const auto after = [&](Tensor h, const Tensor& spike) {
    const Tensor k = r.detach ? spike.detach() : spike;
    Tensor v_th = number(r.v_th);
    if (r.scale_reset) h = div(h, gain), v_th = div(v_th, gain);
    return r.hard ? add(mul(scale(k, -1, 1), h), scale(k, r.v_reset)) : sub(h, mul(k, v_th));
  };
  if (r.kind == AdaptiveKind::alif) {
    const Tensor last = fires(sub(v, scale(w, r.beta)));
    const Tensor taken = scale(r.detach ? last.detach() : last, r.v_th);
    const Tensor next_v = sub(add(scale(v, r.decay), x), taken);
    const Tensor next_w = add(scale(w, r.rho), last);
    return {fires(sub(next_v, scale(next_w, r.beta))), {next_v, next_w}};
  }
  const Tensor tau = number(r.tau);
  if (r.kind == AdaptiveKind::klif) {
    const Tensor from = scale(v, 1, -r.start());
    const Tensor c =
        r.decay_input ? add(v, div(sub(x, from), tau)) : add(sub(v, div(from, tau)), x);
    const Tensor h = relu(mul(c, gain)), spike = fires(h);
    return {spike, {after(h, spike), {}}};
  }
  const Tensor grows = mul(scale(scale(v, 1, -r.v_rest), r.a0), scale(v, 1, -r.v_c));
  const Tensor h = add(v, div(sub(add(x, grows), w), tau)), spike = fires(h);
  const Tensor pulled = div(sub(scale(scale(h, 1, -r.v_rest), r.a), w), number(r.tau_w));
  return {spike, {after(h, spike), add(add(w, pulled), scale(spike, r.b))}};
}

}  // namespace wattle::snn
