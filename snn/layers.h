// Spiking layers. Sequences are [T, N, ...]: all steps of a layer run before the next layer starts,
// layers without a state fold T into the batch.
#pragma once
#include "nn/module.h"
#include "snn/ops.h"

namespace wattle::snn {

/// Neurons that behave as those of other libraries, step by step to the bit; their defaults.
namespace preset {
/// SpikingJelly's IFNode; without v_reset the threshold is subtracted.
NeuronAttr spikingjelly_if(std::optional<double> v_reset = 0.0, bool detach_reset = false);
/// SpikingJelly's LIFNode.
NeuronAttr spikingjelly_lif(double tau = 2, bool decay_input = true,
                            std::optional<double> v_reset = 0.0, bool detach_reset = false);
/// snnTorch's Leaky; reset: subtract, zero or none. Without reset_delay it is equal as long as no
/// state starts a step above the threshold: there, snnTorch resets before and after the charge.
NeuronAttr snntorch_leaky(double beta, const std::string& reset = "subtract",
                          bool reset_delay = true);
/// snnTorch's Synaptic and other neurons driven by a synaptic current, i = alpha i + x, then
/// v = beta v + i; reset: subtract, zero or none.
struct Synaptic {
  NeuronAttr current, membrane;
  /// 1/tau as factors, where a library multiplies instead of dividing.
  std::optional<double> current_decay = {}, membrane_decay = {};
};
Synaptic snntorch_synaptic(double alpha, double beta, const std::string& reset = "subtract");
/// SpikingJelly's CUBALIFNode: the same with a reset in the same step, hard unless v_reset is none.
Synaptic spikingjelly_cuba(double current_decay, double voltage_decay,
                           std::optional<double> v_reset = 0.0, bool detach_reset = false);
/// Norse's LIF (lif_feed_forward_step of 1.1.0, whose surrogate takes no notice of its alpha), from
/// rest: the current jumps, moves the potential, and decays; rates in 1/s.
Synaptic norse_lif(double dt = 0.001, double tau_syn_inv = 200, double tau_mem_inv = 100,
                   double v_th = 1);
/// lava-dl's CUBA by its published equations, in real numbers: decays are rounded to 12 bits as
/// there, states not to 1/64.
Synaptic lava_cuba(double v_th, double current_decay, double voltage_decay);
/// SpikingJelly's KLIFNode: a learned gain on a LIF's potential.
AdaptiveAttr spikingjelly_klif(double tau = 2, bool decay_input = true, bool scale_reset = false,
                               std::optional<double> v_reset = 0.0, bool detach_reset = false);
/// SpikingJelly's IzhikevichNode.
AdaptiveAttr spikingjelly_izhikevich(double tau = 2, double a = 0, double b = 0,
                                     std::optional<double> v_reset = 0.0,
                                     bool detach_reset = false);
/// The adaptive neuron of Bellec et al. (LSNN, 2018): time constants in steps.
AdaptiveAttr bellec_alif(double tau_m = 20, double tau_a = 200, double beta = 1.8);
}  // namespace preset

/// Neurons of one kind with their state. State is kept between calls (a sequence may come in
/// pieces) until reset() forgets it; it is no parameter and not in the state_dict.
class Neuron final : public nn::Module {
 public:
  /// learned_decay: 1/tau (through a sigmoid, as PLIF of Fang et al. 2021) or beta is a parameter.
  explicit Neuron(NeuronAttr attr, bool learned_decay = false);

  /// x [T, ...] -> spikes [T, ...] in the attribute's dtype.
  Tensor forward(const Tensor& x) override;
  /// One step by its definition, made of plain ops; slow, for reading and for tests. x and v [...]
  /// -> spike as a number, v after the step. v undefined: the state at rest.
  std::pair<Tensor, Tensor> step(const Tensor& x, const Tensor& v) const;

  void reset() { v_ = {}; }
  /// v [...] after the last call; undefined at rest.
  const Tensor& state() const { return v_; }
  void set_state(const Tensor& v) { v_ = v; }
  const NeuronAttr& attr() const { return attr_; }
  const char* kind() const override { return "Neuron"; }
  std::string extra() const override;

  Tensor decay;  ///< [1], undefined unless learned

 private:
  Tensor decay_now() const;

  NeuronAttr attr_;
  Tensor v_;
};

/// A neuron behind a synaptic current: the current is a leaky integrator that never fires, whose
/// potential is the neuron's input.
class SynapticNeuron final : public nn::Module {
 public:
  explicit SynapticNeuron(const preset::Synaptic& attr);
  /// x [T, ...] -> spikes [T, ...].
  Tensor forward(const Tensor& x) override;
  void reset() { i_ = v_ = {}; }
  const preset::Synaptic& attr() const { return attr_; }
  const Tensor& current() const { return i_; }
  const Tensor& state() const { return v_; }
  const char* kind() const override { return "SynapticNeuron"; }

 private:
  preset::Synaptic attr_;
  Tensor i_, v_;
};

/// Neurons with a second state or a gain, with their state. klif's gain is a parameter.
class AdaptiveNeuron final : public nn::Module {
 public:
  explicit AdaptiveNeuron(AdaptiveAttr attr);
  /// x [T, ...] -> spikes [T, ...].
  Tensor forward(const Tensor& x) override;
  struct State {
    Tensor v, w;  ///< [...]; w stays undefined where there is no second state
  };
  /// One step by its definition, made of plain ops; slow, for reading and for tests. x [...] ->
  /// spike as a number, the state after the step. An undefined state: at rest.
  std::pair<Tensor, State> step(const Tensor& x, const State& s) const;

  void reset() { state_ = {}; }
  const State& state() const { return state_; }
  void set_state(const State& s) { state_ = s; }
  const AdaptiveAttr& attr() const { return attr_; }
  const char* kind() const override { return "AdaptiveNeuron"; }
  std::string extra() const override { return attr_.kind; }

  Tensor gain;  ///< [1], of klif

 private:
  AdaptiveAttr attr_;
  State state_;
};

}  // namespace wattle::snn
