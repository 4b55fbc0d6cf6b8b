#include "nn/layers.h"

namespace wattle::nn {

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  if (in < 1 || out < 1)
    throw value_error(str("Linear: ", in, " -> ", out, " found, expected at least 1 feature each"));
  weight = register_parameter("weight", init::kaiming_uniform({out, in}, in));
  if (with_bias) bias = register_parameter("bias", init::bias_uniform(out, in));
}

Conv2d::Conv2d(int64_t in, int64_t out, Conv2dOptions o) : o_(o) {
  if (in < 1 || out < 1 || o.groups < 1 || in % o.groups || out % o.groups)
    throw value_error(str("Conv2d: ", in, " -> ", out, " channels in ", o.groups,
                          " groups found, expected channels that the groups divide"));
  const int64_t fan_in = in / o.groups * o.kernel.h * o.kernel.w;
  weight = register_parameter(
      "weight", init::kaiming_uniform({out, in / o.groups, o.kernel.h, o.kernel.w}, fan_in));
  if (o.bias) bias = register_parameter("bias", init::bias_uniform(out, fan_in));
}

std::string Conv2d::extra() const {
  return str(weight.size(1) * o_.groups, " -> ", weight.size(0), ", ", o_.kernel.h, " x ",
             o_.kernel.w);
}

BatchNorm2d::BatchNorm2d(int64_t channels, double eps, double momentum)
    : eps_(eps), momentum_(momentum) {
  const Device d = default_device();
  weight = register_parameter("weight", Tensor::ones({channels}, DType::f32, d));
  bias = register_parameter("bias", Tensor::zeros({channels}, DType::f32, d));
  running_mean = register_buffer("running_mean", Tensor::zeros({channels}, DType::f32, d));
  running_var = register_buffer("running_var", Tensor::ones({channels}, DType::f32, d));
}

Tensor BatchNorm2d::forward(const Tensor& x) {
  if (x.rank() != 4) throw shape_error(str("BatchNorm2d: input ", x, ", expected [N,C,H,W]"));
  return batch_norm(x, running_mean, running_var, weight, bias, training(), momentum_, eps_);
}

LayerNorm::LayerNorm(Shape shape, double eps) : shape_(shape), eps_(eps) {
  weight = register_parameter("weight", Tensor::ones(shape, DType::f32, default_device()));
  bias = register_parameter("bias", Tensor::zeros(shape, DType::f32, default_device()));
}

Embedding::Embedding(int64_t count, int64_t dim) {
  weight = register_parameter("weight", normal({count, dim}));
}

}  // namespace wattle::nn
