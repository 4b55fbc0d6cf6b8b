#include "snn/convert.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/recorder.h"
#include "snn/layers.h"
#include "snn/norm.h"

namespace wattle::snn {
namespace {

[[noreturn]] void fail(const nn::Module::Child& c, const std::string& why) {
  throw value_error(str("convert: layer ", c.name, " (", c.module->kind(), "): ", why));
}

template <class M>
const M* as(const nn::Module& m) {
  return dynamic_cast<const M*>(&m);
}

// Weights and bias of a layer, batch normalisation folded in.
struct Weights {
  Tensor weight, bias;
  const nn::Conv2d* conv = nullptr;
};

Weights weights_of(const nn::Module& m, const nn::BatchNorm2d* bn) {
  Weights w;
  if (const auto* c = as<nn::Conv2d>(m)) {
    const auto folded = bn ? fold(*c, *bn) : nullptr;
    w = folded ? Weights{folded->weight, folded->bias, c} : Weights{c->weight, c->bias, c};
  } else if (const auto* l = as<nn::Linear>(m)) {
    w = {l->weight, l->bias, nullptr};
  }
  if (!w.bias) w.bias = Tensor::zeros({w.weight.size(0)});
  return w;
}

std::shared_ptr<nn::Module> layer_with(const Weights& w, double weight_factor, double bias_factor) {
  const Tensor weight = scale(w.weight, weight_factor);
  const Tensor bias = scale(w.bias, bias_factor);
  if (w.conv) {
    nn::Conv2dOptions o = w.conv->options();
    o.bias = true;
    auto c = std::make_shared<nn::Conv2d>(weight.size(1) * o.groups, weight.size(0), o);
    c->load_state_dict({{"weight", weight}, {"bias", bias}});
    return c;
  }
  auto l = std::make_shared<nn::Linear>(weight.size(1), weight.size(0));
  l->load_state_dict({{"weight", weight}, {"bias", bias}});
  return l;
}

std::vector<float> positive(const Tensor& x) {
  std::vector<float> v = x.values<float>();
  std::erase_if(v, [](float a) { return !(a > 0); });
  return v;
}

}  // namespace

double percentile(std::vector<float> v, double p) {
  if (v.empty()) throw value_error("percentile: found no number");
  if (!(p >= 0 && p <= 100)) throw value_error(str("percentile: found ", p, ", expected 0 to 100"));
  std::sort(v.begin(), v.end());
  const double at = p / 100 * static_cast<double>(v.size() - 1);
  const auto i = static_cast<size_t>(at);
  const double next = i + 1 < v.size() ? double{v[i + 1]} : double{v[i]};
  return double{v[i]} + (at - static_cast<double>(i)) * (next - double{v[i]});
}

std::unique_ptr<SpikingNet> convert(const nn::Sequential& net, const Tensor& calibration,
                                    const ConvertOptions& o) {
  if (o.steps < 1) throw value_error(str("convert: found ", o.steps, " steps, expected >= 1"));
  if (net.training()) throw value_error("convert: the net is in training mode, expected eval");
  const NoRecord off;
  auto out = std::make_unique<SpikingNet>();
  out->steps = o.steps;
  out->start_ = o.half_threshold ? 0.5 : 0;
  const auto& all = net.children();
  Tensor x = calibration;
  double before = 1;    // what rate 1 of the layer before stands for
  bool spikes = false;  // the layer before fires
  for (size_t i = 0; i < all.size(); ++i) {
    nn::Module& m = *all[i].module;
    if (as<nn::Dropout>(m)) continue;
    if (as<nn::MaxPool2d>(m) && i > 0 && !spikes && !out->scales_.empty())
      fail(all[i], "expected a ReLU before it: only of rates is the maximum known");
    if (as<nn::AvgPool2d>(m) || as<nn::MaxPool2d>(m) || as<nn::Flatten>(m)) {
      out->layers_.push_back({all[i].module});
      x = m(x);
      continue;
    }
    if (!as<nn::Conv2d>(m) && !as<nn::Linear>(m))
      fail(all[i], "expected Conv2d, Linear, AvgPool2d, MaxPool2d, Flatten or Dropout here");
    const nn::BatchNorm2d* bn = nullptr;
    x = m(x);
    if (i + 1 < all.size() && (bn = as<nn::BatchNorm2d>(*all[i + 1].module)))
      x = (*all[++i].module)(x);
    const Weights w = weights_of(m, bn);
    if (i + 1 == all.size() || !as<nn::ReLU>(*all[i + 1].module)) {
      out->layers_.push_back({layer_with(w, before, 1)});
      if (i + 1 == all.size()) return out;
      before = 1, spikes = false;  // its currents go on as numbers
      continue;
    }
    x = (*all[++i].module)(x);
    const std::vector<float> active = positive(x);
    if (active.empty()) fail(all[i], "no activation is positive on the calibration images");
    const double scale = percentile(active, o.percentile);
    out->layers_.push_back({layer_with(w, before / scale, 1 / scale), true});
    out->scales_.push_back(scale);
    before = scale, spikes = true;
  }
  throw value_error("convert: the net ends without a layer of weights, expected Linear or Conv2d");
}

namespace {

// Maxima of rates: each window passes on what its largest number of spikes so far grows by, which
// is one spike or none. spikes [T,N,C,H,W] -> [T N,C,H',W'].
Tensor max_of_rates(nn::Module& pool, const Tensor& spikes) {
  const Tensor x = cast(spikes, DType::f32);
  const Shape one(x.shape().begin() + 1, x.rank() - 1);
  Tensor count = Tensor::zeros(one), most;
  Tensors out;
  for (int64_t t = 0; t < x.size(0); ++t) {
    count = add(count, reshape(slice(x, 0, t, t + 1), one));
    const Tensor now = pool(count);
    out.push_back(most ? sub(now, most) : now);
    most = now;
  }
  return cast(concat(out, 0), DType::spike);
}

}  // namespace

std::string SpikingNet::extra() const {
  return str(steps, " steps, ", static_cast<int64_t>(scales_.size()), " layers of neurons");
}

Tensor SpikingNet::forward(const Tensor& x) {
  NeuronAttr attr = preset::spikingjelly_if({});
  attr.out = DType::spike;
  rates_.clear();
  const int64_t n = x.size(0);
  Tensor now = x;  // [N, ...] while it is the same in every step, then [T N, ...]
  bool constant = true;
  const auto in_steps = [&](const Tensor& t, int64_t count) {
    Shape s{count, n};
    for (int d = 1; d < t.rank(); ++d) s.push_back(t.size(d));
    return reshape(t, s);
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& l = layers_[i];
    if (i + 1 == layers_.size() && !constant) now = mean(in_steps(now, steps), {0});
    // Rows of bits end with a byte; flattened they would not.
    if (as<nn::Flatten>(*l.module) && now.dtype() == DType::spike) now = cast(now, DType::f32);
    if (as<nn::MaxPool2d>(*l.module) && now.dtype() == DType::spike)
      now = max_of_rates(*l.module, in_steps(now, steps));
    else now = (*l.module)(now);
    if (!l.fires) continue;
    const Tensor current = in_steps(now, constant ? 1 : steps);
    attr.steps = constant ? steps : 0;
    const Shape state(current.shape().begin() + 1, current.rank() - 1);
    const Tensor s = neuron(current, Tensor::full(state, start_), {}, attr)[0];
    rates_.push_back(mean(s).item());
    Shape folded{steps * n};
    for (int d = 2; d < s.rank(); ++d) folded.push_back(s.size(d));
    now = reshape(s, folded);
    constant = false;
  }
  return now;
}

}  // namespace wattle::snn
