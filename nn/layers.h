// The layers. Defaults, names of parameters and initialisation are PyTorch's.
#pragma once
#include "nn/init.h"
#include "nn/module.h"

namespace wattle::nn {

/// x [.., in] -> [.., out]
class Linear final : public Module {
 public:
  Linear(int64_t in, int64_t out, bool with_bias = true);
  Tensor forward(const Tensor& x) override {
    return linear(x, through(hooks.weight, weight), through(hooks.bias, bias),
                  LinearAttr{.weight_grad = hooks.weight_grad});
  }
  const char* kind() const override { return "Linear"; }
  std::string extra() const override { return str(weight.size(1), " -> ", weight.size(0)); }
  Tensor weight, bias;  ///< [out, in], [out]
};

struct Conv2dOptions {
  Pair kernel = 3, stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
  bool bias = true;
};

/// x [N,in,H,W] -> [N,out,Ho,Wo]
class Conv2d final : public Module {
 public:
  Conv2d(int64_t in, int64_t out, Conv2dOptions o);
  const Conv2dOptions& options() const { return o_; }
  Tensor forward(const Tensor& x) override {
    Conv2dAttr a;
    a.stride = o_.stride, a.padding = o_.padding, a.dilation = o_.dilation, a.groups = o_.groups;
    a.weight_grad = hooks.weight_grad;
    return conv2d(x, through(hooks.weight, weight), through(hooks.bias, bias), a);
  }
  const char* kind() const override { return "Conv2d"; }
  std::string extra() const override;
  Tensor weight, bias;  ///< [out, in/groups, R, S], [out]

 private:
  Conv2dOptions o_;
};

class ReLU final : public Module {
 public:
  Tensor forward(const Tensor& x) override { return relu(x); }
  const char* kind() const override { return "ReLU"; }
};

/// Normalises over N, H and W: by the batch while training, by running statistics otherwise.
class BatchNorm2d final : public Module {
 public:
  explicit BatchNorm2d(int64_t channels, double eps = 1e-5, double momentum = 0.1);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "BatchNorm2d"; }
  std::string extra() const override { return str(weight.size(0)); }
  double eps() const { return eps_; }
  Tensor weight, bias, running_mean, running_var;  ///< [channels]

 private:
  double eps_, momentum_;
};

class MaxPool2d final : public Module {
 public:
  explicit MaxPool2d(Pair kernel, std::optional<Pair> stride = {}, Pair padding = 0)
      : kernel_(kernel), stride_(stride), padding_(padding) {}
  Tensor forward(const Tensor& x) override { return max_pool2d(x, kernel_, stride_, padding_); }
  const char* kind() const override { return "MaxPool2d"; }
  std::string extra() const override { return str(kernel_.h, " x ", kernel_.w); }

 private:
  Pair kernel_;
  std::optional<Pair> stride_;
  Pair padding_;
};

class AvgPool2d final : public Module {
 public:
  explicit AvgPool2d(Pair kernel, std::optional<Pair> stride = {}, Pair padding = 0)
      : kernel_(kernel), stride_(stride), padding_(padding) {}
  Tensor forward(const Tensor& x) override { return avg_pool2d(x, kernel_, stride_, padding_); }
  Pair kernel() const { return kernel_; }
  Pair stride() const { return stride_.value_or(kernel_); }
  Pair padding() const { return padding_; }
  const char* kind() const override { return "AvgPool2d"; }
  std::string extra() const override { return str(kernel_.h, " x ", kernel_.w); }

 private:
  Pair kernel_;
  std::optional<Pair> stride_;
  Pair padding_;
};

/// [N, ...] -> [N, rest]
class Flatten final : public Module {
 public:
  Tensor forward(const Tensor& x) override {
    return reshape(x, {x.size(0), x.shape().numel(1, x.rank())});
  }
  const char* kind() const override { return "Flatten"; }
};

class Dropout final : public Module {
 public:
  explicit Dropout(double p = 0.5) : p_(p) {}
  Tensor forward(const Tensor& x) override { return dropout(x, p_, training()); }
  const char* kind() const override { return "Dropout"; }
  std::string extra() const override { return str("p = ", p_); }

 private:
  double p_;
};

/// Over the last dims, whose sizes are `shape`.
class LayerNorm final : public Module {
 public:
  explicit LayerNorm(Shape shape, double eps = 1e-5);
  Tensor forward(const Tensor& x) override { return layer_norm(x, shape_, weight, bias, eps_); }
  const char* kind() const override { return "LayerNorm"; }
  std::string extra() const override { return shape_.str(); }
  Tensor weight, bias;

 private:
  Shape shape_;
  double eps_;
};

/// Indices of any shape -> [.., dim]
class Embedding final : public Module {
 public:
  Embedding(int64_t count, int64_t dim);
  Tensor forward(const Tensor& index) override { return embedding(index, weight); }
  const char* kind() const override { return "Embedding"; }
  std::string extra() const override { return str(weight.size(0), " x ", weight.size(1)); }
  Tensor weight;  ///< [count, dim]
};

/// Whether a layer is a Conv2d or a Linear: what quantisation and precisions act on.
inline bool is_contraction(const Module& m) {
  return dynamic_cast<const Conv2d*>(&m) || dynamic_cast<const Linear*>(&m);
}

}  // namespace wattle::nn
