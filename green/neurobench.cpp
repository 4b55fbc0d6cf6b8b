#include "green/neurobench.h"

#include <optional>

#include "core/error.h"
#include "core/recorder.h"
#include "green/uncounted.h"

namespace wattle::green {
namespace {

// 1 where t is not 0.
Tensor ones_of(const Tensor& t) {
  const Tensor x = cast(t, DType::f32);
  return fire(mul(x, x), {.strict = true});
}

int64_t zeros(const Tensor& t) {
  int64_t n = 0;
  for (const float v : cast(t, DType::f32).values<float>()) n += v == 0;
  return n;
}

const Tensor& weight_of(const nn::Module& m) {
  if (const auto* c = dynamic_cast<const nn::Conv2d*>(&m)) return c->weight;
  if (const auto* l = dynamic_cast<const nn::Linear*>(&m)) return l->weight;
  throw value_error(str("synaptic operations: found a ", m.kind(), ", expected Linear or Conv2d"));
}

// Products of ones: exact in f32 for each output, summed in f64.
double products(const nn::Module& m, const Tensor& x, const Tensor& w) {
  Tensor y;
  if (dynamic_cast<const nn::Linear*>(&m)) {
    y = linear(x, w, {}, LinearAttr{});
  } else {
    const nn::Conv2dOptions& o = dynamic_cast<const nn::Conv2d&>(m).options();
    Conv2dAttr a;
    a.stride = o.stride, a.padding = o.padding, a.dilation = o.dilation, a.groups = o.groups;
    y = conv2d(x, w, {}, a);
  }
  return sum(cast(y, DType::f64)).item();
}

// Adds up layers and activations as they come.
class Tally {
 public:
  explicit Tally(int64_t samples) : samples_(static_cast<double>(samples)) {}
  /// x: the rows that meet the layer, of all steps and samples.
  void layer(const nn::Module& m, const Tensor& x, bool spikes) {
    const Tensor& w = weight_of(m);
    weights_ += w.numel(), zero_weights_ += zeros(w);
    const SynapticOperations s = synaptic_operations(m, x);
    const double times = static_cast<double>(x.size(0)) / samples_;
    (spikes ? b_.effective_acs : b_.effective_macs) += s.effective * times;
    b_.dense_operations += s.dense * times;
  }
  void activations(const Tensor& t) { activations_ += t.numel(), silent_ += zeros(t); }
  /// Potentials h [T,N,...] behind every step; the first step counts whole.
  void potentials(const Tensor& h) {
    const std::vector<float> v = cast(h, DType::f32).values<float>();
    const size_t n = v.size() / static_cast<size_t>(h.size(0));
    int64_t changed = static_cast<int64_t>(n);
    for (size_t i = n; i < v.size(); ++i) changed += v[i] != v[i - n];
    b_.membrane_updates += static_cast<double>(changed) / samples_;
  }
  NeuroBench finish(const nn::Module& net) {
    for (const nn::Named& p : net.state_dict()) b_.footprint_bytes += p.tensor.nbytes();
    b_.parameter_count = net.parameter_count();
    const auto share = [](int64_t part, int64_t of) {
      return of == 0 ? 0 : static_cast<double>(part) / static_cast<double>(of);
    };
    b_.connection_sparsity = share(zero_weights_, weights_);
    b_.activation_sparsity = share(silent_, activations_);
    return b_;
  }

 private:
  NeuroBench b_;
  double samples_;
  int64_t weights_ = 0, zero_weights_ = 0, activations_ = 0, silent_ = 0;
};

// Steps and samples of x [T,N,...] side by side, and back.
Tensor folded(const Tensor& x) {
  Shape s{x.size(0) * x.size(1)};
  for (int d = 2; d < x.rank(); ++d) s.push_back(x.size(d));
  return reshape(x, s);
}
Tensor unfolded(const Tensor& y, const Tensor& x) {
  Shape s{x.size(0), x.size(1)};
  for (int d = 1; d < y.rank(); ++d) s.push_back(y.size(d));
  return reshape(y, s);
}

// A layer with a state, from rest: spikes (none of a leaky integrator) and potentials.
struct Fired {
  Tensor spikes, h;
};
std::optional<Fired> fired(const nn::Module& m, const Tensor& x) {
  if (const auto* n = dynamic_cast<const snn::Neuron*>(&m)) {
    const Tensors out = neuron(x, {}, {}, n->attr());
    return Fired{out[0], out[2]};
  }
  if (const auto* n = dynamic_cast<const snn::SynapticNeuron*>(&m)) {
    const Tensors current = neuron(x, {}, {}, n->attr().current);
    const Tensors out = neuron(current[2], {}, {}, n->attr().membrane);
    return Fired{out[0], out[2]};
  }
  if (const auto* n = dynamic_cast<const LeakyIntegrator*>(&m))
    return Fired{{}, neuron(x, {}, {}, n->attr())[2]};
  return {};
}

bool has_weights(const nn::Module& m) {
  return dynamic_cast<const nn::Conv2d*>(&m) || dynamic_cast<const nn::Linear*>(&m);
}

}  // namespace

SynapticOperations synaptic_operations(const nn::Module& layer, const Tensor& x) {
  const Uncounted free;
  const NoRecord off;
  const Tensor& w = weight_of(layer);
  const double n = static_cast<double>(x.size(0));
  return {products(layer, ones_of(x), ones_of(w)) / n,
          products(layer, Tensor::full(x.shape(), 1), Tensor::full(w.shape(), 1)) / n};
}

NeuroBench neurobench_of(SnnNet& net, const Tensor& images) {
  const Uncounted free;
  const NoRecord off;
  const bool training = net.training();
  net.eval();
  std::vector<SnnTrace> trace;
  net.trace = &trace;
  net(images);
  net.trace = nullptr;
  net.train(training);
  Tally tally(images.size(0));
  const std::vector<nn::Module*> layers = net.weighted();
  for (size_t i = 0; i < layers.size(); ++i) {
    if (trace[i].out) tally.activations(trace[i].out);
    const bool spikes = net.activation().kind == SnnActivation::spikes && i > 0;
    const Tensor x = cast(trace[i].in, DType::f32);
    const int64_t rows = spikes ? x.size(0) * x.size(1) : x.size(0);
    Shape shape{rows};
    if (i < 2)
      for (int d = -3; d < 0; ++d) shape.push_back(x.size(d));
    else shape.push_back(x.numel() / rows);
    tally.layer(*layers[i], reshape(x, shape), spikes);
  }
  return tally.finish(net);
}

NeuroBench neurobench_of(NirNet& net, const Tensor& given, bool spikes) {
  const Uncounted free;
  const NoRecord off;
  if (given.rank() < 3 || given.numel() == 0)
    throw shape_error(
        str("neurobench: found ", given, ", expected [T,N,...] of at least one step"));
  if (spikes)
    for (const float v : cast(given, DType::f32).values<float>())
      if (v != 0 && v != 1)
        throw value_error(str("neurobench: found ", v, " in the input, expected spikes, 0 or 1"));
  Tally tally(given.size(1));
  Tensor x = given;
  for (const nn::Module::Child& c : net.layers()) {
    const nn::Module& m = *c.module;
    if (const std::optional<Fired> f = fired(m, x)) {
      tally.potentials(f->h);
      if (f->spikes) tally.activations(f->spikes);
      x = f->spikes ? f->spikes : f->h;
      spikes = f->spikes.defined();
      continue;
    }
    const Tensor rows = folded(x);
    if (has_weights(m)) tally.layer(m, rows, spikes);
    // What only moves spikes leaves them spikes; sums, averages and gains do not.
    spikes = spikes && dynamic_cast<const nn::Flatten*>(&m);
    x = unfolded((*c.module)(rows), x);
  }
  return tally.finish(net);
}

}  // namespace wattle::green
