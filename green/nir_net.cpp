#include "green/nir_net.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/recorder.h"
#include "nn/layers.h"

namespace wattle::green {
namespace {

using io::NirNode;

[[noreturn]] void refuse(const NirNode& n, const std::string& what) {
  throw value_error(str("nir: node '", n.name, "' (", n.type, "): ", what));
}

const Tensor& array(const NirNode& n, const std::string& name) {
  const auto found = n.arrays.find(name);
  if (found == n.arrays.end()) refuse(n, str("found no ", name, ", expected one"));
  return found->second;
}

// One number for all neurons of the node; `missing` where the file may leave it out.
double one(const NirNode& n, const std::string& name, std::optional<double> missing = {}) {
  if (missing && !n.arrays.count(name)) return *missing;
  const std::vector<double> v = cast(array(n, name), DType::f64).values<double>();
  if (v.empty()) refuse(n, name + ": found nothing, expected a number");
  const auto [low, high] = std::minmax_element(v.begin(), v.end());
  if (*low != *high)
    refuse(n, str(name, ": found values from ", *low, " to ", *high,
                  ", expected one for all neurons of a node"));
  return *low;
}

Pair pair(const NirNode& n, const std::string& name, Pair missing) {
  if (!n.arrays.count(name)) return missing;
  const std::vector<double> v = cast(array(n, name), DType::f64).values<double>();
  if (v.empty() || v.size() > 2)
    refuse(n, str(name, ": found ", v.size(), " numbers, expected 1 or 2"));
  return {static_cast<int64_t>(v[0]), static_cast<int64_t>(v.back())};
}

Tensor weights(const NirNode& n, const std::string& name, int rank) {
  const Tensor& t = array(n, name);
  if (t.rank() != rank) refuse(n, str(name, ": found ", t, ", expected ", rank, " dimensions"));
  return cast(t, DType::f32);
}

std::shared_ptr<nn::Module> make_linear(const NirNode& n, bool bias) {
  const Tensor w = weights(n, "weight", 2);
  const auto m = std::make_shared<nn::Linear>(w.size(1), w.size(0), bias);
  m->weight.set_data(w);
  if (!bias) return m;
  const Tensor b = weights(n, "bias", 1);
  if (b.numel() != w.size(0)) refuse(n, str("bias: found ", b, ", expected ", w.size(0)));
  m->bias.set_data(b);
  return m;
}

std::shared_ptr<nn::Module> make_conv(const NirNode& n) {
  const Tensor w = weights(n, "weight", 4);
  nn::Conv2dOptions o;
  o.kernel = {w.size(2), w.size(3)};
  o.stride = pair(n, "stride", 1), o.dilation = pair(n, "dilation", 1);
  o.groups = static_cast<int64_t>(one(n, "groups", 1));
  if (const auto text = n.text.find("padding"); text != n.text.end()) {
    if (text->second == "same" && o.stride.h == 1 && o.stride.w == 1)
      o.padding = {o.dilation.h * (w.size(2) - 1) / 2, o.dilation.w * (w.size(3) - 1) / 2};
    else if (text->second != "valid")
      refuse(n, str("padding: found '", text->second,
                    "', expected numbers, 'valid', or 'same' with stride 1"));
  } else {
    o.padding = pair(n, "padding", 0);
  }
  const Tensor b = weights(n, "bias", 1);
  if (o.groups < 1 || b.numel() != w.size(0))
    refuse(n, str("found ", o.groups, " groups and bias ", b, ", expected at least 1 and ",
                  w.size(0)));
  const auto m = std::make_shared<nn::Conv2d>(w.size(1) * o.groups, w.size(0), o);
  m->weight.set_data(w), m->bias.set_data(b);
  return m;
}

// A step of dt: v <- beta v + gain x, where the rest is 0. A gain that differs from 1 by rounding
// alone is 1: files made from a beta hold R = 1 / (1 - beta), rounded.
struct Decay {
  double beta, gain;
};
Decay decay(const NirNode& n, const std::string& tau_name, double r, double dt) {
  const double tau = one(n, tau_name);
  if (!(tau >= dt))
    refuse(n, str(tau_name, ": found ", tau, " s, expected at least a step, ", dt, " s"));
  const double gain = r * dt / tau;
  return {1 - dt / tau, std::fabs(gain - 1) < 1e-5 ? 1 : gain};
}

NeuronAttr leaky(const NirNode& n, double beta) {
  if (one(n, "v_leak", 0) != 0)
    refuse(n, str("v_leak: found ", one(n, "v_leak", 0), ", expected 0"));
  NeuronAttr a;
  a.charge = "leaky", a.beta = beta, a.strict = true;
  a.v_th = one(n, "v_threshold"), a.v_reset = one(n, "v_reset", 0);
  return a;
}

// The module of a node; a gain before it goes first.
void add_neurons(NirNet& net, const NirNode& n, double dt) {
  const auto gain = [&](double g) {
    if (g != 1) net.add(n.name + "_gain", std::make_shared<Gain>(g));
  };
  if (n.type == "IF") {
    NeuronAttr a;
    a.charge = "integrate", a.strict = true;
    a.v_th = one(n, "v_threshold"), a.v_reset = one(n, "v_reset", 0);
    const double g = one(n, "r") * dt;
    gain(std::fabs(g - 1) < 1e-5 ? 1 : g);
    net.add(n.name, std::make_shared<snn::Neuron>(a));
  } else if (n.type == "LIF") {
    const Decay d = decay(n, "tau", one(n, "r"), dt);
    gain(d.gain);
    net.add(n.name, std::make_shared<snn::Neuron>(leaky(n, d.beta)));
  } else if (n.type == "LI") {
    const Decay d = decay(n, "tau", one(n, "r"), dt);
    gain(d.gain);
    NirNode plain = n;
    plain.arrays["v_threshold"] = Tensor::full({1}, 1);
    NeuronAttr a = leaky(plain, d.beta);
    a.reset = "none";
    net.add(n.name, std::make_shared<LeakyIntegrator>(a));
  } else {  // CubaLIF
    const Decay i = decay(n, "tau_syn", one(n, "w_in", 1), dt);
    const Decay v = decay(n, "tau_mem", one(n, "r"), dt);
    gain(i.gain * v.gain);  // both are linear and start at 0
    snn::preset::Synaptic s;
    s.membrane = leaky(n, v.beta);
    s.current.charge = "leaky", s.current.beta = i.beta, s.current.reset = "none";
    net.add(n.name, std::make_shared<snn::SynapticNeuron>(s));
  }
}

void add_node(NirNet& net, const NirNode& n, double dt) {
  const std::string& t = n.type;
  if (t == "Input") {
    for (const double d :
         cast(array(n, n.arrays.count("shape") ? "shape" : "input_type"), DType::f64)
             .values<double>())
      net.input.push_back(static_cast<int64_t>(d));
  } else if (t == "Affine" || t == "Linear") {
    net.add(n.name, make_linear(n, t == "Affine"));
  } else if (t == "Conv2d") {
    net.add(n.name, make_conv(n));
  } else if (t == "AvgPool2d" || t == "SumPool2d") {
    const Pair k = pair(n, "kernel_size", 1);
    net.add(n.name,
            std::make_shared<nn::AvgPool2d>(k, pair(n, "stride", k), pair(n, "padding", 0)));
    if (t == "SumPool2d")
      net.add(n.name + "_sum", std::make_shared<Gain>(static_cast<double>(k.h * k.w)));
  } else if (t == "Flatten") {
    if (one(n, "start_dim", 0) != 0 || one(n, "end_dim", -1) != -1)
      refuse(n, "start_dim, end_dim: expected 0 and -1, all of a sample");
    net.add(n.name, std::make_shared<nn::Flatten>());
  } else if (t == "Scale") {
    net.add(n.name, std::make_shared<Gain>(one(n, "scale")));
  } else if (t == "IF" || t == "LIF" || t == "LI" || t == "CubaLIF") {
    add_neurons(net, n, dt);
  } else if (t != "Output") {
    refuse(
        n,
        "is not supported; expected Input, Output, Affine, Linear, Conv2d, AvgPool2d, SumPool2d, "
        "Flatten, Scale, IF, LI, LIF or CubaLIF");
  }
}

// The nodes from Input to Output. Every node has one way in and one way out.
std::vector<const NirNode*> chain(const io::NirGraph& g) {
  std::map<std::string, const NirNode*> by_name;
  const NirNode* at = nullptr;
  for (const NirNode& n : g.nodes) {
    by_name[n.name] = &n;
    if (n.type == "Input") {
      if (at) refuse(n, "is a second input, expected one");
      at = &n;
    }
  }
  if (!at) throw value_error("nir: found no node of type Input, expected one");
  std::map<std::string, std::string> next;
  std::set<std::string> entered;
  for (const auto& [from, to] : g.edges)
    if (!next.emplace(from, to).second || !entered.insert(to).second)
      throw value_error(str("nir: edge ", from, " -> ", to,
                            ": expected a chain, one edge into and out of every node"));
  std::vector<const NirNode*> out;
  while (out.size() <= g.nodes.size()) {
    out.push_back(at);
    if (at->type == "Output") break;
    const auto to = next.find(at->name);
    if (to == next.end()) refuse(*at, "leads nowhere, expected a chain that ends in Output");
    at = by_name.at(to->second);
  }
  if (out.size() != g.nodes.size())
    throw value_error(str("nir: the chain from Input to Output has ", out.size(), " of ",
                          g.nodes.size(), " nodes"));
  return out;
}

bool has_state(const nn::Module& m) {
  return dynamic_cast<const snn::Neuron*>(&m) || dynamic_cast<const snn::SynapticNeuron*>(&m) ||
         dynamic_cast<const LeakyIntegrator*>(&m);
}

}  // namespace

NirNet& NirNet::add(const std::string& name, std::shared_ptr<nn::Module> module) {
  register_module(name, std::move(module));
  return *this;
}

Tensor NirNet::forward(const Tensor& given) {
  Tensor x = given;
  const int64_t steps = x.size(0), n = x.rank() > 1 ? x.size(1) : 0;
  if (x.rank() != input.rank() + 2 && !input.empty())
    throw shape_error(str("nir: found ", given, ", expected [T,N] and ", input));
  for (const Child& c : layers()) {
    if (has_state(*c.module)) {
      x = (*c.module)(x);
      continue;
    }
    Shape folded{steps * n};
    for (int64_t d = 2; d < x.rank(); ++d) folded.push_back(x.size(d));
    const Tensor y = (*c.module)(reshape(x, folded));
    Shape out{steps, n};
    for (int64_t d = 1; d < y.rank(); ++d) out.push_back(y.size(d));
    x = reshape(y, out);
  }
  return x;
}

void NirNet::reset() {
  for (const Child& c : layers()) {
    if (auto* m = dynamic_cast<snn::Neuron*>(c.module.get())) m->reset();
    if (auto* m = dynamic_cast<snn::SynapticNeuron*>(c.module.get())) m->reset();
    if (auto* m = dynamic_cast<LeakyIntegrator*>(c.module.get())) m->reset();
  }
}

Tensor LeakyIntegrator::forward(const Tensor& x) {
  const Tensors out = neuron(x, v_, {}, attr_);
  v_ = out[1];
  return out[2];
}

std::shared_ptr<NirNet> net_from_nir(const io::NirGraph& graph, double dt) {
  if (!(dt > 0)) throw value_error(str("nir: dt: found ", dt, " s, expected > 0"));
  const NoRecord off;
  auto net = std::make_shared<NirNet>();
  for (const NirNode* n : chain(graph)) add_node(*net, *n, dt);
  return net;
}

}  // namespace wattle::green
