#include "green/precision.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/codec.h"
#include "core/error.h"
#include "core/recorder.h"
#include "data/bytes.h"

namespace wattle::green {
namespace {

using json = nlohmann::json;

Precision preset(std::string name, std::string about, DType activation, DType gradient,
                 DType master, DType loss, std::string scaler = "none", double scale = 1,
                 std::optional<DType> loss_gradient = {}) {
  Precision p;
  p.name = std::move(name);
  p.about = std::move(about);
  p.layer = {activation, gradient};
  p.master = master;
  p.loss = loss;
  p.loss_gradient = loss_gradient.value_or(gradient);
  p.scaler = std::move(scaler);
  p.loss_scale = scale;
  return p;
}

LayerChoice layer_from(const json& j, const std::string& what) {
  LayerChoice p;
  if (!j.is_object())
    throw value_error(str(what, ": found ", j.type_name(), ", expected an object"));
  for (const auto& [key, value] : j.items()) {
    if ((key != "activation" && key != "gradient") || !value.is_string())
      throw value_error(str(what, ": found '", key,
                            "', expected activation or gradient, each the "
                            "name of a dtype"));
    const DType t = dtype_from_name(value.get<std::string>());
    if (!is_floating(t) || info(t).block > 1)
      throw value_error(str(what, ".", key, ": found ", name(t),
                            ", expected a floating type of one number each"));
    (key == "activation" ? p.activation : p.gradient) = t;
  }
  return p;
}

Precision from_file(const std::string& path) {
  const auto bytes = io::read_file(path, 1 << 20);
  json j;
  try {
    j = json::parse(bytes.begin(), bytes.end());
  } catch (const json::exception& e) { throw io_error(str(path, ": is not JSON: ", e.what())); }
  if (!j.is_object() || !j.contains("preset") || !j["preset"].is_string())
    throw value_error(str(path, ": expected an object with \"preset\", the name of a precision"));
  Precision p = precision_from(j["preset"].get<std::string>());
  for (const auto& [key, value] : j.items()) {
    if (key == "preset") continue;
    if (key == "loss_scale" && value.is_number() && value.get<double>() > 0) {
      p.loss_scale = value.get<double>();
    } else if (key == "layers" && value.is_object()) {
      for (const auto& [layer, own] : value.items())
        p.layers[layer] = layer_from(own, str(path, ": layers.", layer));
    } else {
      throw value_error(str(path, ": found '", key, "', expected preset, loss_scale > 0, layers"));
    }
  }
  p.name = path;
  return p;
}

// Into `to`, which a layer whose gradients are `here` computes with; from codes, the gradient goes
// back as `before`, else in x's own type.
Tensor as(const Tensor& x, DType to, DType here, DType before) {
  if (x.dtype() == to && (!is_coded(to) || here == before)) return x;
  CastAttr a{.to = to};
  if (is_coded(x.dtype())) a.grad = before;
  return cast(x, a);
}

LayerPrecision of_layer(const Precision& p, const std::string& layer, bool last) {
  const auto found = p.layers.find(layer);
  static const LayerChoice none;
  const LayerChoice& own = found == p.layers.end() ? none : found->second;
  const DType activation = own.activation.value_or(p.layer.activation);
  DType gradient = last ? p.loss_gradient : p.layer.gradient;
  if (is_coded(activation) && !is_coded(gradient)) gradient = activation;  // a layer of an f32 net
  const LayerPrecision l{activation, own.gradient.value_or(gradient)};
  if (is_coded(l.activation) && !is_coded(l.gradient))
    throw value_error(str("precision ", p.name, ": ", layer, " computes in ", name(l.activation),
                          "; found gradient ", name(l.gradient), ", expected a format of codes"));
  return l;
}

// One wait for all of them: 0 times a number is 0, times infinity it is NaN.
bool finite_grads(const std::vector<nn::Named>& parameters) {
  Tensor zeros;
  for (const nn::Named& p : parameters)
    if (const Tensor g = p.tensor.grad()) {
      const Tensor zero = sum(scale(g, 0));
      zeros = zeros ? add(zeros, zero) : zero;
    }
  return !zeros || zeros.item() == 0;
}

}  // namespace

const std::vector<Precision>& precisions() {
  using D = DType;
  static const std::vector<Precision> all = [] {
    std::vector<Precision> p{
        preset("f32", "everything in binary32", D::f32, D::f32, D::f32, D::f32),
        preset("bf16", "bfloat16 layers, f32 master weights", D::bf16, D::bf16, D::f32, D::f32),
        preset("fp16", "binary16 layers, f32 master weights, loss scaling", D::fp16, D::fp16,
               D::f32, D::f32, "overflow", 65536),
        preset("fp8", "E4M3 forward, E5M2 gradients, f32 master weights, loss scaling", D::fp8_e4m3,
               D::fp8_e5m2, D::f32, D::f32, "overflow", 4096, D::bf16),
        preset("posit16", "posit16 everywhere", D::posit16, D::posit16, D::posit16, D::posit16,
               "saturation", 256),
        preset("posit8_mixed", "posit8 forward and backward, posit16 optimiser and loss", D::posit8,
               D::posit8, D::posit16, D::posit16, "saturation", 1024, D::posit16),
        preset("posit8", "posit8 everywhere, the optimiser included", D::posit8, D::posit8,
               D::posit8, D::posit8, "saturation", 1024),
        preset("int8_qat", "f32 with int8 roundings in the forward pass", D::f32, D::f32, D::f32,
               D::f32)};
    p.back().int8_qat = true;
    return p;
  }();
  return all;
}

Precision precision_from(const std::string& name) {
  if (name.ends_with(".json")) return from_file(name);
  std::string known;
  for (const Precision& p : precisions()) {
    if (p.name == name) return p;
    known += (known.empty() ? "" : ", ") + p.name;
  }
  throw value_error(str("precision: found '", name, "', expected one of ", known,
                        ", or a file that ends in .json"));
}

DType apply_precision(nn::Sequential& net, const Precision& p) {
  std::string last;
  for (const nn::Module::Child& c : net.children())
    if (nn::is_contraction(*c.module)) last = c.name;
  for (const auto& [layer, own] : p.layers) {
    bool known = false;
    for (const nn::Module::Child& c : net.children())
      known = known || (c.name == layer && nn::is_contraction(*c.module));
    if (!known)
      throw value_error(
          str("precision ", p.name, ": the net has no Conv2d or Linear called '", layer, "'"));
  }
  net.to(p.master);
  LayerPrecision before = p.layer;  // the contraction that comes before
  for (const nn::Module::Child& c : net.children()) {
    nn::Hooks& h = c.module->hooks;
    if (nn::is_contraction(*c.module)) {
      const LayerPrecision l = of_layer(p, c.name, c.name == last);
      const DType back = before.gradient;
      h.input = [l, back](const Tensor& x) { return as(x, l.activation, l.gradient, back); };
      // A parameter's gradient comes back in the parameter's own type.
      h.weight = [l](const Tensor& w) { return cast(w, l.activation); };
      h.bias = h.weight;
      h.weight_grad = p.master;
      before = l;
    } else if (dynamic_cast<nn::BatchNorm2d*>(c.module.get()) ||
               dynamic_cast<nn::LayerNorm*>(c.module.get())) {
      const DType master = p.master, activation = p.layer.activation, back = before.gradient;
      h.input = [master, back](const Tensor& x) { return as(x, master, master, back); };
      h.output = [activation](const Tensor& y) { return cast(y, activation); };
      before.gradient = p.layer.gradient;
    }
  }
  return before.gradient;
}

quant::InputRanges QatRanges::ranges() const {
  quant::InputRanges r;
  for (const auto& [name, observer] : observers)
    r[name] = observer->qparams(quant::Mapping::asymmetric, {});
  return r;
}

QatRanges apply_int8_qat(nn::Sequential& net) {
  QatRanges ranges;
  for (const nn::Module::Child& c : net.children()) {
    if (!nn::is_contraction(*c.module)) continue;
    std::shared_ptr<quant::Observer> observer = quant::make_observer("ema");
    ranges.observers[c.name] = observer;
    nn::Module* const layer = c.module.get();
    c.module->hooks.input = [observer, layer](const Tensor& x) {
      if (layer->training() && !x.is_meta()) observer->observe(x);
      return quant::fake_quantize(x, observer->qparams(quant::Mapping::asymmetric, {}));
    };
    c.module->hooks.weight = [](const Tensor& w) {
      return quant::fake_quantize(w, quant::choose_weight_qparams(w, 0));
    };
  }
  return ranges;
}

bool LossScaler::unscale(const std::vector<nn::Named>& parameters, const CastStats& rounded) {
  const NoRecord off;
  const double used = scale_;
  if (kind_ == "overflow") {
    // What lies beyond the largest number is clamped to it, so infinity never shows; the roundings
    // tell. But a GPU's products of halves are rounded by its library, to infinity and uncounted.
    const bool elsewhere = parameters.front().tensor.device().kind == DeviceKind::cuda;
    if (rounded.to_max > 0 || rounded.nar > 0 || (elsewhere && !finite_grads(parameters))) {
      scale_ = std::max(1.0, scale_ / 2);
      clean_ = 0;
      ++skipped_;
      return false;
    }
    if (++clean_ == 2000) scale_ *= 2, clean_ = 0;
  } else if (kind_ == "saturation" && rounded.n > 0) {
    const auto share = [&](int64_t n) {
      return static_cast<double>(n) / static_cast<double>(rounded.n);
    };
    ++clean_;
    if (share(rounded.to_max) > 1e-4) scale_ = std::max(1.0, scale_ / 2), clean_ = 0;
    else if (share(rounded.to_min) > 1e-2 && clean_ >= 100) scale_ *= 2, clean_ = 0;
  }
  if (used != 1) nn::scale_grads(parameters, 1 / used);
  return true;
}

}  // namespace wattle::green
