// Spiking nets as NIR graphs: what the format can say, and a refusal for what it cannot.
#include <cmath>

#include "core/error.h"
#include "core/recorder.h"
#include "green/nir_net.h"
#include "nn/layers.h"

namespace wattle::green {
namespace {

using io::NirNode;

Tensor integers(Pair p) { return Tensor::from<int64_t>({p.h, p.w}, {2}); }

struct Export {
  double dt;
  bool lossy;
  std::vector<std::string>* lost;
  Shape at;  // of a sample before the node
  io::NirGraph graph;
  std::string last = "input";

  void push(NirNode n) {
    graph.edges.emplace_back(last, n.name);
    last = n.name;
    graph.nodes.push_back(std::move(n));
  }

  void lose(const std::string& node, const std::string& what) {
    const std::string text = str("'", node, "': ", what, ", which NIR cannot say");
    if (!lossy) throw value_error(str("nir: ", text, " (a lossy export leaves it out)"));
    if (lost) lost->push_back(text);
  }

  // The same number for every neuron of a sample.
  Tensor all(double v) const { return Tensor::full(at, v); }

  void fire_and_reset(NirNode& n, const NeuronAttr& a) {
    if (a.reset != "hard" && a.reset != "none") lose(n.name, a.reset + " reset");
    if (a.reset == "none") lose(n.name, "firing without a reset");
    if (!a.strict) lose(n.name, "firing at the threshold itself");
    n.arrays["v_threshold"] = all(a.v_th);
    n.arrays["v_reset"] = all(a.reset == "hard" ? a.v_reset : 0);
  }

  // v <- beta v + gain x in steps of dt, as tau and R of continuous time.
  void time(NirNode& n, const std::string& tau_name, const std::string& r_name, double beta,
            double gain) {
    if (!(beta >= 0 && beta < 1))
      throw value_error(
          str("nir: '", n.name, "': found a decay of ", beta, ", expected 0 to below 1"));
    const double tau = dt / (1 - beta);
    n.arrays[tau_name] = all(tau), n.arrays[r_name] = all(gain * tau / dt);
  }

  void neurons(const std::string& name, const NeuronAttr& a) {
    NirNode n{name, a.charge == "integrate" ? "IF" : "LIF", {}, {}};
    if (a.charge == "integrate") n.arrays["r"] = all(1 / dt);
    else if (a.charge == "leaky") time(n, "tau", "r", a.beta, 1);
    else time(n, "tau", "r", 1 - 1 / a.tau, a.decay_input ? 1 / a.tau : 1);
    const double rest = a.charge == "lif" && a.reset == "hard" ? a.v_reset : 0;
    if (n.type == "LIF") n.arrays["v_leak"] = all(rest);
    fire_and_reset(n, a);
    push(n);
  }

  void layer(const std::string& name, const nn::Module& m);
};

Tensor bias_of(const Tensor& bias, int64_t n) { return bias ? bias : Tensor::zeros({n}); }

void Export::layer(const std::string& name, const nn::Module& m) {
  if (const auto* l = dynamic_cast<const nn::Linear*>(&m)) {
    NirNode n{name, l->bias ? "Affine" : "Linear", {{"weight", l->weight}}, {}};
    if (l->bias) n.arrays["bias"] = l->bias;
    push(n);
    at = {l->weight.size(0)};
  } else if (const auto* c = dynamic_cast<const nn::Conv2d*>(&m)) {
    const nn::Conv2dOptions& o = c->options();
    NirNode n{
        name, "Conv2d", {{"weight", c->weight}, {"bias", bias_of(c->bias, c->weight.size(0))}}, {}};
    n.arrays["stride"] = integers(o.stride), n.arrays["padding"] = integers(o.padding);
    n.arrays["dilation"] = integers(o.dilation);
    n.arrays["groups"] = Tensor::full({}, static_cast<double>(o.groups), DType::i64);
    if (at.rank() == 3) n.arrays["input_shape"] = integers({at[1], at[2]});
    push(n);
    if (at.rank() != 3)
      throw value_error(str("nir: '", name, "': found a sample of ", at, ", expected [C,H,W]"));
    const auto size = [](int64_t in, int64_t k, int64_t s, int64_t p, int64_t d) {
      return (in + 2 * p - d * (k - 1) - 1) / s + 1;
    };
    at = {c->weight.size(0), size(at[1], o.kernel.h, o.stride.h, o.padding.h, o.dilation.h),
          size(at[2], o.kernel.w, o.stride.w, o.padding.w, o.dilation.w)};
  } else if (const auto* p = dynamic_cast<const nn::AvgPool2d*>(&m)) {
    push({name,
          "AvgPool2d",
          {{"kernel_size", integers(p->kernel())},
           {"stride", integers(p->stride())},
           {"padding", integers(p->padding())}},
          {}});
    if (at.rank() != 3)
      throw value_error(str("nir: '", name, "': found a sample of ", at, ", expected [C,H,W]"));
    const auto size = [](int64_t in, int64_t k, int64_t s, int64_t pad) {
      return (in + 2 * pad - k) / s + 1;
    };
    at = {at[0], size(at[1], p->kernel().h, p->stride().h, p->padding().h),
          size(at[2], p->kernel().w, p->stride().w, p->padding().w)};
  } else if (dynamic_cast<const nn::Flatten*>(&m)) {
    NirNode n{name, "Flatten", {}, {}};
    const auto whole = [](int64_t v) {
      return Tensor::full({}, static_cast<double>(v), DType::i64);
    };
    n.arrays["start_dim"] = whole(0), n.arrays["end_dim"] = whole(-1);
    const Tensor shape = Tensor::empty({at.rank()}, DType::i64);
    for (int d = 0; d < at.rank(); ++d) shape.data<int64_t>()[d] = at[d];
    n.arrays["input_type"] = shape;
    push(n);
    at = {at.numel()};
  } else if (const auto* g = dynamic_cast<const Gain*>(&m)) {
    push({name, "Scale", {{"scale", all(g->factor())}}, {}});
  } else if (const auto* s = dynamic_cast<const snn::Neuron*>(&m)) {
    NeuronAttr a = s->attr();
    if (s->decay) {  // a learned decay has a value by now
      const double d = s->decay.item();
      if (a.charge == "leaky") a.beta = std::min(1.0, std::max(0.0, d));
      else a.tau = 1 + std::exp(-d);
    }
    neurons(name, a);
  } else if (const auto* y = dynamic_cast<const snn::SynapticNeuron*>(&m)) {
    const snn::preset::Synaptic& a = y->attr();
    NirNode n{name, "CubaLIF", {{"v_leak", all(0)}}, {}};
    time(n, "tau_syn", "w_in", a.current.beta, 1);
    time(n, "tau_mem", "r", a.membrane.beta, 1);
    fire_and_reset(n, a.membrane);
    push(n);
  } else if (const auto* i = dynamic_cast<const LeakyIntegrator*>(&m)) {
    NirNode n{name, "LI", {{"v_leak", all(0)}}, {}};
    time(n, "tau", "r", i->attr().beta, 1);
    push(n);
  } else {
    throw value_error(str("nir: '", name, "': found a ", m.kind(),
                          ", expected Linear, Conv2d, AvgPool2d, Flatten or neurons"));
  }
}

Tensor shape_array(const Shape& s) {
  const Tensor t = Tensor::empty({s.rank()}, DType::i64);
  for (int d = 0; d < s.rank(); ++d) t.data<int64_t>()[d] = s[d];
  return t;
}

}  // namespace

io::NirGraph nir_from_net(const NirNet& net, double dt, bool lossy,
                          std::vector<std::string>* lost) {
  const NoRecord off;
  if (net.input.empty()) throw value_error("nir: found a net without the shape of its input");
  Export e{dt, lossy, lost, net.input, {}};
  e.graph.nodes.push_back({"input", "Input", {{"shape", shape_array(net.input)}}, {}});
  for (const nn::Module::Child& c : net.layers()) e.layer(c.name, *c.module);
  e.push({"output", "Output", {{"shape", shape_array(e.at)}}, {}});
  return e.graph;
}

}  // namespace wattle::green
