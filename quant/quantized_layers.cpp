#include "quant/quantized_layers.h"

#include <cmath>

#include "core/error.h"
#include "core/recorder.h"

namespace wattle::quant {
namespace {

// scale[c] = input scale * weight scale[c];  shift[c] = bias[c] - zero point * sum of weights[c] *
// scale[c]: with it, y = sums scale + shift.
struct Rescaling {
  Tensor scale, shift;
};
Rescaling rescaling(const Tensor& codes, const QParams& weight, const Tensor& bias,
                    const QParams& input) {
  const auto w = codes.values<int64_t>();
  const auto ws = weight.scale.values<double>();
  const auto b = bias ? bias.values<double>() : std::vector<double>(ws.size(), 0.0);
  const double s = input.scale.item(), z = input.zero_point.item();
  const size_t each = w.size() / ws.size();
  std::vector<float> scale, shift;
  for (size_t c = 0; c < ws.size(); ++c) {
    int64_t sum = 0;
    for (size_t i = 0; i < each; ++i) sum += w[c * each + i];
    const double total = s * ws[c];
    scale.push_back(static_cast<float>(total));
    shift.push_back(static_cast<float>(b[c] - z * static_cast<double>(sum) * total));
  }
  const auto n = static_cast<int64_t>(scale.size());
  return {Tensor::from(scale, {n}), Tensor::from(shift, {n})};
}

std::string input_text(const QParams& p) {
  return str("input scale ", p.scale.item(), ", zero point ", p.zero_point.item());
}

}  // namespace

QuantizedLinear::QuantizedLinear(const Tensor& weight, const Tensor& bias, const QParams& input)
    : input_(input) {
  const NoRecord off;
  const QParams w = choose_weight_qparams(weight, 0);
  weight_ = register_buffer("weight", quantize(weight.detach(), w));
  const Rescaling r = rescaling(weight_, w, bias, input);
  scale_ = register_buffer("scale", r.scale);
  shift_ = register_buffer("shift", r.shift);
}
Tensor QuantizedLinear::forward(const Tensor& x) {
  return rescale(int_matmul(quantize(x, input_), weight_, true), scale_, shift_, 1);
}
std::string QuantizedLinear::extra() const {
  return str(weight_.size(1), " -> ", weight_.size(0), ", ", input_text(input_));
}

QuantizedConv2d::QuantizedConv2d(const Tensor& weight, const Tensor& bias,
                                 const nn::Conv2dOptions& o, const QParams& input)
    : input_(input) {
  const NoRecord off;
  attr_.stride = o.stride, attr_.padding = o.padding, attr_.dilation = o.dilation;
  attr_.groups = o.groups;
  attr_.pad_value = static_cast<int64_t>(input.zero_point.item());
  const QParams w = choose_weight_qparams(weight, 0);
  weight_ = register_buffer("weight", quantize(weight.detach(), w));
  const Rescaling r = rescaling(weight_, w, bias, input);
  scale_ = register_buffer("scale", r.scale);
  shift_ = register_buffer("shift", r.shift);
}
Tensor QuantizedConv2d::forward(const Tensor& x) {
  return rescale(int_conv2d(quantize(x, input_), weight_, attr_), scale_, shift_, 1);
}
std::string QuantizedConv2d::extra() const {
  return str(weight_.size(1) * attr_.groups, " -> ", weight_.size(0), ", ", input_text(input_));
}

CodedLayer::CodedLayer(const Tensor& weight, const Tensor& bias, const nn::Conv2dOptions* conv,
                       DType dtype, bool activations)
    : shape_(weight.shape()),
      conv_(conv ? std::make_unique<nn::Conv2dOptions>(*conv) : nullptr),
      dtype_(dtype),
      activations_(activations && is_floating(dtype)) {
  const NoRecord off;
  Tensor flat = reshape(contiguous(weight.detach()), {weight.size(0), -1});
  if (is_integer(dtype)) {  // integers need a scale: one for each output
    const int64_t most = dtype == DType::int4 ? 7 : 127;
    const QParams w = choose_weight_qparams(flat, 0, most);
    scale_ = register_buffer("scale", w.scale);
    zero_point_ = register_buffer("zero_point", w.zero_point);
    flat = quantize(flat, w);
  }
  weight_ = register_buffer("weight", cast(flat, dtype));
  if (bias) bias_ = register_buffer("bias", bias.detach());
}
Tensor CodedLayer::forward(const Tensor& x) {
  const Tensor flat = is_integer(dtype_)
                          ? dequantize_affine(weight_, scale_, zero_point_, {.axis = 0})
                          : cast(weight_, DType::f32);
  const Tensor w = reshape(flat, shape_);
  // Activations take the round trip through the format; arithmetic is in f32 either way.
  const Tensor in = activations_ ? cast(cast(x, dtype_), DType::f32) : x;
  if (!conv_) return linear(in, w, bias_);
  return conv2d(in, w, bias_, conv_->stride, conv_->padding, conv_->dilation, conv_->groups);
}

void fold_batch_norm(nn::Sequential& net) {
  const NoRecord off;
  std::vector<std::string> folded;
  for (size_t i = 0; i + 1 < net.children().size(); ++i) {
    auto* conv = dynamic_cast<nn::Conv2d*>(net.children()[i].module.get());
    auto* bn = dynamic_cast<nn::BatchNorm2d*>(net.children()[i + 1].module.get());
    if (!conv || !bn) continue;
    const auto mean = bn->running_mean.values<double>(), var = bn->running_var.values<double>();
    const auto gamma = bn->weight.values<double>(), beta = bn->bias.values<double>();
    float *w = conv->weight.data<float>(), *b = conv->bias ? conv->bias.data<float>() : nullptr;
    if (!b) throw value_error(str("fold_batch_norm: ", net.children()[i].name, " has no bias"));
    const int64_t each = conv->weight.numel() / conv->weight.size(0);
    for (size_t c = 0; c < mean.size(); ++c) {
      const double factor = gamma[c] / std::sqrt(var[c] + bn->eps());
      for (int64_t k = 0; k < each; ++k) {
        float& v = w[static_cast<int64_t>(c) * each + k];
        v = static_cast<float>(double{v} * factor);
      }
      b[c] = static_cast<float>((double{b[c]} - mean[c]) * factor + beta[c]);
    }
    folded.push_back(net.children()[i + 1].name);
  }
  for (const std::string& name : folded) net.remove(name);
}

Calibrator::Calibrator(nn::Sequential& net, const std::string& observer) : net_(net) {
  for (const nn::Module::Child& c : net.children()) {
    if (!nn::is_contraction(*c.module)) continue;
    std::shared_ptr<Observer> o = make_observer(observer);
    observers_[c.name] = o;
    c.module->hooks.input = [o](const Tensor& x) {
      o->observe(x);
      return x;
    };
  }
}
Calibrator::~Calibrator() {
  for (const nn::Module::Child& c : net_.children())
    if (observers_.count(c.name)) c.module->hooks.input = {};
}
InputRanges Calibrator::ranges() const {
  InputRanges r;
  for (const auto& [name, o] : observers_) {
    try {
      r[name] = o->qparams(Mapping::asymmetric, {});
    } catch (const value_error& e) { throw value_error(str("layer ", name, ": ", e.what())); }
  }
  return r;
}

void quantize_(nn::Sequential& net, const QuantizeConfig& config, const InputRanges& ranges) {
  fold_batch_norm(net);
  for (const auto& [name, format] : config.layers) {
    bool known = false;
    for (const nn::Module::Child& c : net.children()) known = known || c.name == name;
    if (!known) throw value_error(str("quantize: the model has no layer '", name, "'"));
  }
  for (size_t i = 0; i < net.children().size(); ++i) {
    const nn::Module::Child child = net.children()[i];
    auto* conv = dynamic_cast<nn::Conv2d*>(child.module.get());
    auto* fc = dynamic_cast<nn::Linear*>(child.module.get());
    if (!conv && !fc) continue;
    const auto own = config.layers.find(child.name);
    const std::string& to = own == config.layers.end() ? config.to : own->second;
    if (to == "f32") continue;
    const Tensor weight = conv ? conv->weight : fc->weight, bias = conv ? conv->bias : fc->bias;
    std::shared_ptr<nn::Module> layer;
    if (to == "int8") {
      const auto range = ranges.find(child.name);
      if (range == ranges.end())
        throw value_error(str("quantize: int8 needs the range of what flows into ", child.name,
                              "; calibrate first"));
      if (conv)
        layer = std::make_shared<QuantizedConv2d>(weight, bias, conv->options(), range->second);
      else layer = std::make_shared<QuantizedLinear>(weight, bias, range->second);
    } else {
      const DType t = dtype_from_name(to);
      if (!is_coded(t))
        throw value_error(str("quantize: found '", to,
                              "', expected int8 or a coded type such as "
                              "fp8_e4m3, posit8, mxfp4, int4"));
      layer = std::make_shared<CodedLayer>(weight, bias, conv ? &conv->options() : nullptr, t,
                                           config.activations);
    }
    net.replace(child.name, layer);
  }
}

int64_t model_bytes(const nn::Module& net) {
  int64_t n = 0;
  for (const nn::Named& t : net.state_dict()) n += t.tensor.nbytes();
  return n;
}

}  // namespace wattle::quant
