#include "snn/norm.h"

#include <cmath>

#include "core/error.h"
#include "core/recorder.h"

namespace wattle::snn {
namespace {

void check(const char* what, const Tensor& x, int64_t steps) {
  if (x.rank() != 5 || x.size(0) != steps)
    throw shape_error(str(what, ": found ", x, ", expected [", steps, ",N,C,H,W]"));
}

Tensor folded(const Tensor& x) {
  return reshape(x, {x.size(0) * x.size(1), x.size(2), x.size(3), x.size(4)});
}

}  // namespace

std::shared_ptr<nn::BatchNorm2d> td_batch_norm(int64_t channels, double v_th, double alpha) {
  auto m = std::make_shared<nn::BatchNorm2d>(channels);
  const NoRecord off;
  m->weight.set_data(Tensor::full({channels}, alpha * v_th));
  return m;
}

TemporalEffectiveBatchNorm::TemporalEffectiveBatchNorm(int64_t channels, int64_t steps)
    : factor(register_parameter("factor", Tensor::ones({steps}))),
      norm_(register_module("norm", std::make_shared<nn::BatchNorm2d>(channels))) {}

Tensor TemporalEffectiveBatchNorm::forward(const Tensor& x) {
  check(kind(), x, factor.numel());
  const Tensor y = reshape((*norm_)(folded(x)), x.shape());
  return mul(y, reshape(factor, {factor.numel(), 1, 1, 1, 1}));
}

BatchNormThroughTime::BatchNormThroughTime(int64_t channels, int64_t steps, double eps,
                                           double momentum)
    : weight(register_parameter("weight", Tensor::ones({steps, channels}))),
      eps_(eps),
      momentum_(momentum) {
  for (int64_t t = 0; t < steps; ++t) {
    const std::string n = std::to_string(t + 1);
    running_mean.push_back(register_buffer("running_mean" + n, Tensor::zeros({channels})));
    running_var.push_back(register_buffer("running_var" + n, Tensor::ones({channels})));
  }
}

Tensor BatchNormThroughTime::forward(const Tensor& x) {
  check(kind(), x, weight.size(0));
  const Tensor no_shift = Tensor::zeros({weight.size(1)});
  Tensors out;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto i = static_cast<size_t>(t);
    const Tensor now = reshape(slice(x, 0, t, t + 1), {x.size(1), x.size(2), x.size(3), x.size(4)});
    const Tensor w = reshape(slice(weight, 0, t, t + 1), {weight.size(1)});
    out.push_back(
        batch_norm(now, running_mean[i], running_var[i], w, no_shift, training(), momentum_, eps_));
  }
  return reshape(concat(out, 0), x.shape());
}

std::shared_ptr<nn::Conv2d> fold(const nn::Conv2d& conv, const nn::BatchNorm2d& norm,
                                 double factor) {
  if (norm.weight.numel() != conv.weight.size(0))
    throw shape_error(str("fold: found a normalisation of ", norm.weight.numel(),
                          " channels, expected ", conv.weight.size(0)));
  const NoRecord off;
  nn::Conv2dOptions o = conv.options();
  o.bias = true;
  auto out = std::make_shared<nn::Conv2d>(conv.weight.size(1) * o.groups, conv.weight.size(0), o);
  const int64_t n = conv.weight.numel() / std::max<int64_t>(1, conv.weight.size(0));
  for (int64_t c = 0; c < conv.weight.size(0); ++c) {
    const auto at = [c](const Tensor& t) { return double{t.data<float>()[c]}; };
    const double scale = factor * at(norm.weight) / std::sqrt(at(norm.running_var) + norm.eps());
    for (int64_t i = c * n; i < (c + 1) * n; ++i)
      out->weight.data<float>()[i] =
          static_cast<float>(scale * double{conv.weight.data<float>()[i]});
    const double bias = conv.bias ? at(conv.bias) : 0;
    out->bias.data<float>()[c] =
        static_cast<float>(scale * (bias - at(norm.running_mean)) + factor * at(norm.bias));
  }
  return out;
}

}  // namespace wattle::snn
