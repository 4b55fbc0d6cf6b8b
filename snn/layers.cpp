#include "snn/layers.h"

#include <cmath>

#include "core/error.h"
#include "snn/neuron_rule.h"

namespace wattle::snn {

NeuronAttr preset::spikingjelly_if(std::optional<double> v_reset, bool detach_reset) {
  NeuronAttr a;
  a.charge = "integrate", a.detach_reset = detach_reset;
  a.surrogate = "sigmoid", a.slope = 4;
  if (v_reset) a.v_reset = *v_reset;
  else a.reset = "soft";
  return a;
}

NeuronAttr preset::spikingjelly_lif(double tau, bool decay_input, std::optional<double> v_reset,
                                    bool detach_reset) {
  NeuronAttr a = spikingjelly_if(v_reset, detach_reset);
  a.charge = "lif", a.tau = tau, a.decay_input = decay_input;
  return a;
}

NeuronAttr preset::snntorch_leaky(double beta, const std::string& reset, bool reset_delay) {
  if (reset != "subtract" && reset != "zero" && reset != "none")
    throw value_error(
        str("snntorch_leaky: reset: found '", reset, "', expected subtract, zero or none"));
  NeuronAttr a;
  a.charge = "leaky", a.beta = beta;
  a.reset = reset == "subtract" ? "soft" : reset == "zero" ? "hard" : "none";
  a.strict = true;
  a.delayed = a.detach_reset = reset_delay;
  return a;
}

namespace {
NeuronAttr leaky_current(double decay) {
  NeuronAttr a;
  a.charge = "leaky", a.beta = decay, a.reset = "none";
  return a;
}
}  // namespace

preset::Synaptic preset::snntorch_synaptic(double alpha, double beta, const std::string& reset) {
  Synaptic s{leaky_current(alpha), snntorch_leaky(beta, reset)};
  if (reset == "zero") s.membrane.reset = "clear";  // the current of that step is lost
  return s;
}

preset::Synaptic preset::spikingjelly_cuba(double current_decay, double voltage_decay,
                                           std::optional<double> v_reset, bool detach_reset) {
  NeuronAttr a = spikingjelly_if(v_reset, detach_reset);
  a.charge = "leaky", a.beta = voltage_decay;
  return {leaky_current(current_decay), a};
}

preset::Synaptic preset::norse_lif(double dt, double tau_syn_inv, double tau_mem_inv, double v_th) {
  const auto factor = [&](double rate) {  // rounded as there
    return double{static_cast<float>(dt) * static_cast<float>(rate)};
  };
  Synaptic s;
  s.current.charge = "lif", s.current.decay_input = false, s.current.by_difference = true;
  s.current.reset = "none";
  s.membrane.charge = "lif", s.membrane.strict = true, s.membrane.v_th = v_th;
  s.membrane.surrogate = "super_spike", s.membrane.slope = 1;
  s.current_decay = factor(tau_syn_inv), s.membrane_decay = factor(tau_mem_inv);
  return s;
}

Neuron::Neuron(NeuronAttr attr, bool learned_decay) : attr_(std::move(attr)) {
  neuron_rule(attr_, learned_decay);
  if (!learned_decay) return;
  const double start = attr_.charge == "leaky" ? attr_.beta : -std::log(attr_.tau - 1);
  decay = register_parameter("decay", Tensor::full({1}, start));
}

std::string Neuron::extra() const {
  return str(attr_.charge, ", ", attr_.reset, " reset", attr_.delayed ? " in the next step" : "");
}

Tensor Neuron::decay_now() const {
  if (!decay) return {};
  return attr_.charge == "leaky" ? clamp(decay, 0, 1) : sigmoid(decay);
}

Tensor Neuron::forward(const Tensor& x) {
  const Tensors out = neuron(x, v_, decay_now(), attr_);
  v_ = out[1];
  return out[0];
}

SynapticNeuron::SynapticNeuron(const preset::Synaptic& attr) : attr_(attr) {
  neuron_rule(attr_.current, attr_.current_decay.has_value());
  neuron_rule(attr_.membrane, attr_.membrane_decay.has_value());
}

Tensor SynapticNeuron::forward(const Tensor& x) {
  const auto factor = [&](const std::optional<double>& d) {
    return d ? Tensor::full({1}, *d, x.dtype()) : Tensor{};
  };
  const Tensors current = neuron(x, i_, factor(attr_.current_decay), attr_.current);
  i_ = current[1];
  const Tensors out = neuron(current[2], v_, factor(attr_.membrane_decay), attr_.membrane);
  v_ = out[1];
  return out[0];
}

std::pair<Tensor, Tensor> Neuron::step(const Tensor& x, const Tensor& given) const {
  const NeuronRule r = neuron_rule(attr_, decay.defined());
  const Tensor v = given ? given : Tensor::full(x.shape(), r.start(), x.dtype());
  const FireAttr at{attr_.surrogate, attr_.slope, attr_.strict};
  const auto fires = [&](const Tensor& h) { return fire(scale(h, 1, -r.v_th), at); };
  const auto reset_to = [&](const Tensor& h, const Tensor& s) {
    const Tensor spike = r.detach ? s.detach() : s;
    return r.reset == ResetTo::soft ? sub(h, scale(spike, r.v_th))
                                    : add(mul(scale(spike, -1, 1), h), scale(spike, r.v_reset));
  };
  const Tensor d = decay_now();
  const auto over_tau = [&](const Tensor& t) {
    return d ? mul(t, d) : div(t, Tensor::full({1}, r.tau, t.dtype()));
  };
  const bool late = r.delayed && r.reset != ResetTo::none;
  const Tensor from = late && r.reset == ResetTo::hard ? reset_to(v, fires(v)) : v;
  const auto above_rest = [&] { return scale(from, 1, -r.start()); };
  Tensor h;
  switch (r.charge) {
    case Charge::integrate: h = add(from, x); break;
    case Charge::lif: h = add(from, over_tau(sub(x, above_rest()))); break;
    case Charge::lif_plain:
      h = add(d ? mul(from, scale(d, -1, 1)) : scale(from, 1 - r.d), x);
      break;
    case Charge::lif_rest: h = add(sub(from, over_tau(above_rest())), x); break;
    case Charge::leaky: h = add(d ? mul(from, d) : scale(from, r.d), x); break;
  }
  if (late && r.reset != ResetTo::hard) h = reset_to(h, fires(v));
  const Tensor s = fires(h);
  return {s, r.delayed || r.reset == ResetTo::none ? h : reset_to(h, s)};
}

}  // namespace wattle::snn
