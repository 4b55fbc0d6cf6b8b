// A trained net of ReLU layers into one that spikes: the rate of an integrate-and-fire neuron with
// a soft reset is its input, cut off at 1.
#pragma once
#include <vector>

#include "nn/layers.h"
#include "nn/module.h"

namespace wattle::snn {

struct ConvertOptions {
  int64_t steps = 50;
  /// Of the positive activations of a layer on the calibration images: what becomes the rate 1.
  double percentile = 99.9;
  bool half_threshold = true;  ///< neurons start halfway up, which centres the rounding of rates
};

/// The converted net. Images stay numbers: the first layer's current is the same in every step and
/// computed once. The last layer does not fire; its outputs are means over the steps.
class SpikingNet final : public nn::Module {
 public:
  /// x [N,C,H,W] or [N,F] -> logits [N, classes].
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "SpikingNet"; }
  std::string extra() const override;
  /// Mean rate of each layer of neurons in the last call.
  const std::vector<double>& rates() const { return rates_; }
  /// What was mapped to the rate 1, layer by layer.
  const std::vector<double>& scales() const { return scales_; }
  int64_t steps = 50;

 private:
  friend std::unique_ptr<SpikingNet> convert(const nn::Sequential&, const Tensor&,
                                             const ConvertOptions&);
  struct Layer {
    std::shared_ptr<nn::Module> module;  ///< with weights scaled, or a pooling, or a Flatten
    bool fires = false;
  };
  std::vector<Layer> layers_;
  std::vector<double> rates_, scales_;
  double start_ = 0;
};

/// Conv2d (with a BatchNorm2d after it, which is folded in) and Linear, with a ReLU after them or
/// without, where currents go on as numbers; AvgPool2d; MaxPool2d after neurons, as the maximum of
/// rates so far; Flatten, Dropout. Throws value_error naming the layer for anything else.
/// `calibration` is a batch of training images; the net is not changed and has to be in eval mode.
std::unique_ptr<SpikingNet> convert(const nn::Sequential& net, const Tensor& calibration,
                                    const ConvertOptions& options = {});

/// The p-th percentile of numbers, between neighbours along a line; throws value_error for none.
double percentile(std::vector<float> numbers, double p);

}  // namespace wattle::snn
