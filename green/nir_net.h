// NIR graphs as nets that run step by step, and spiking nets as NIR graphs.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/nir.h"
#include "nn/module.h"
#include "snn/layers.h"

namespace wattle::green {

/// A chain of layers, neurons among them, on sequences x [T,N,...]. Steps are folded into the batch
/// for layers without a state. State is kept between calls until reset().
class NirNet final : public nn::Module {
 public:
  NirNet& add(const std::string& name, std::shared_ptr<nn::Module> module);
  Tensor forward(const Tensor& x) override;
  void reset();
  const char* kind() const override { return "NirNet"; }
  const std::vector<Child>& layers() const { return children(); }
  Shape input;  ///< of one sample in one step
};

/// LI: a leaky integrator, whose output is its potential.
class LeakyIntegrator final : public nn::Module {
 public:
  explicit LeakyIntegrator(NeuronAttr attr) : attr_(std::move(attr)) {}
  Tensor forward(const Tensor& x) override;
  void reset() { v_ = {}; }
  const NeuronAttr& attr() const { return attr_; }
  const char* kind() const override { return "LeakyIntegrator"; }

 private:
  NeuronAttr attr_;
  Tensor v_;
};

/// Numbers times a constant: what R of NIR does to a current.
class Gain final : public nn::Module {
 public:
  explicit Gain(double factor) : factor_(factor) {}
  Tensor forward(const Tensor& x) override { return scale(x, factor_); }
  double factor() const { return factor_; }
  const char* kind() const override { return "Gain"; }

 private:
  double factor_;
};

/// Makes a net of a graph that is a chain: Affine, Linear, Conv2d, AvgPool2d, SumPool2d, Flatten,
/// Scale (of one factor), IF, LI, LIF, CubaLIF. Continuous time becomes steps of dt seconds, by
/// v += dt/tau (v_leak - v + R x), for CubaLIF after the current of the same step, as in snnTorch;
/// neurons fire above the threshold and are reset hard. Throws value_error naming the node for what
/// is not supported, neurons of one node that differ among them.
std::shared_ptr<NirNet> net_from_nir(const io::NirGraph& graph, double dt = 1e-4);

/// The graph of a net of Linear, Conv2d, AvgPool2d, Flatten, Neuron, SynapticNeuron and what
/// net_from_nir makes. What NIR cannot say (a soft reset, firing at the threshold itself) throws
/// value_error, or with `lossy` is left out and named in `lost`.
io::NirGraph nir_from_net(const NirNet& net, double dt = 1e-4, bool lossy = false,
                          std::vector<std::string>* lost = nullptr);

}  // namespace wattle::green
