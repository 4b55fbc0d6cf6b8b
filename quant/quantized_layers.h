// Layers whose weights are stored in few bits, and the pass that puts them into a trained model.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "nn/layers.h"
#include "quant/observer.h"

namespace wattle::quant {

/// Linear in int8: the input is quantised, products are summed in 32 bits, and one multiply-add per
/// output brings scale, zero point and bias back. Weights are symmetric, a scale for each output.
class QuantizedLinear final : public nn::Module {
 public:
  QuantizedLinear(const Tensor& weight, const Tensor& bias, const QParams& input);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "QuantizedLinear"; }
  std::string extra() const override;

 private:
  QParams input_;
  Tensor weight_, scale_, shift_;  // [out, in] i8, [out], [out]
};

/// Conv2d in the same way.
class QuantizedConv2d final : public nn::Module {
 public:
  QuantizedConv2d(const Tensor& weight, const Tensor& bias, const nn::Conv2dOptions& o,
                  const QParams& input);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "QuantizedConv2d"; }
  std::string extra() const override;

 private:
  QParams input_;
  IntConvAttr attr_;
  Tensor weight_, scale_, shift_;
};

/// Weights in any coded dtype, activations too unless only the weights are meant to be. The last
/// dimension of a weight is its longest run of inputs: convolutions are stored as [K, C R S], so
/// that blocks of MX formats are full.
class CodedLayer final : public nn::Module {
 public:
  /// `conv` is null for a linear layer.
  CodedLayer(const Tensor& weight, const Tensor& bias, const nn::Conv2dOptions* conv, DType dtype,
             bool activations);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return conv_ ? "CodedConv2d" : "CodedLinear"; }
  std::string extra() const override { return std::string(wattle::name(dtype_)); }

 private:
  Shape shape_;
  std::unique_ptr<nn::Conv2dOptions> conv_;
  DType dtype_;
  bool activations_;
  Tensor weight_, bias_;
  Tensor scale_, zero_point_;  // of integer weights
};

/// Folds every BatchNorm2d that follows a Conv2d into it, by its running statistics, and drops it.
void fold_batch_norm(nn::Sequential& net);

/// What a layer becomes. "int8" or the name of a coded dtype ("fp8_e4m3", "posit8", "mxfp4",
/// "int4",
/// ...); "f32" leaves it.
struct QuantizeConfig {
  std::string to = "int8";
  std::map<std::string, std::string> layers = {};  ///< others for single layers, by name
  bool activations = true;                         ///< of coded dtypes; int8 always has them
};

/// Ranges of what flows into each layer, by its name: as observers saw it.
using InputRanges = std::map<std::string, QParams>;

/// Watches what flows into every Conv2d and Linear of a model while calibration data runs through.
class Calibrator {
 public:
  Calibrator(nn::Sequential& net, const std::string& observer);
  ~Calibrator();
  Calibrator(const Calibrator&) = delete;
  Calibrator& operator=(const Calibrator&) = delete;
  /// Throws value_error for a layer that nothing has reached.
  InputRanges ranges() const;

 private:
  nn::Sequential& net_;
  std::map<std::string, std::shared_ptr<Observer>> observers_;
};

/// Replaces the Conv2d and Linear layers of a trained model, whose batch norms are folded first.
/// Throws value_error for a format that is not known, or where int8 lacks a range.
void quantize_(nn::Sequential& net, const QuantizeConfig& config, const InputRanges& ranges = {});

/// Bytes that parameters and buffers of a model take.
int64_t model_bytes(const nn::Module& net);

}  // namespace wattle::quant
