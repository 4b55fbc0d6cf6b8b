#include "green/neurobench.h"

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
  NeuroBench b;
  for (const nn::Named& p : net.state_dict()) b.footprint_bytes += p.tensor.nbytes();
  const std::vector<nn::Module*> layers = net.weighted();
  const double n = static_cast<double>(images.size(0));
  int64_t weights = 0, zero_weights = 0, activations = 0, silent = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Tensor& w = weight_of(*layers[i]);
    weights += w.numel(), zero_weights += zeros(w);
    if (trace[i].out) activations += trace[i].out.numel(), silent += zeros(trace[i].out);
    const bool spikes = net.activation().kind == SnnActivation::spikes && i > 0;
    const Tensor x = cast(trace[i].in, DType::f32);
    const int64_t rows = spikes ? x.size(0) * x.size(1) : x.size(0);
    Shape shape{rows};
    if (i < 2)
      for (int d = -3; d < 0; ++d) shape.push_back(x.size(d));
    else shape.push_back(x.numel() / rows);
    const SynapticOperations s = synaptic_operations(*layers[i], reshape(x, shape));
    const double times = static_cast<double>(rows) / n;  // steps of a sample
    (spikes ? b.effective_acs : b.effective_macs) += s.effective * times;
    b.dense_operations += s.dense * times;
  }
  b.connection_sparsity = static_cast<double>(zero_weights) / static_cast<double>(weights);
  b.activation_sparsity = static_cast<double>(silent) / static_cast<double>(activations);
  return b;
}

}  // namespace wattle::green
