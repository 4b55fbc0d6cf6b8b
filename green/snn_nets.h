// One topology, four arms: a net of ReLU layers, the same with activations of few bits, and the
// same with spiking neurons; each with weights in f32 or int8.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "green/nets.h"
#include "nn/layers.h"
#include "snn/ops.h"

namespace wattle::green {

/// Convolution 3x3 (padding 1), activation, maximum over 2x2, twice; then a hidden and an output
/// linear layer.
struct SnnShape {
  int64_t conv1 = 16, conv2 = 32, hidden = 128;
};

/// What stands where a net is not linear.
struct SnnActivation {
  enum Kind : uint8_t { relu, quantized, spikes } kind = relu;
  int64_t steps = 4;  ///< spikes: T
  int bits = 3;       ///< quantized: 2^bits - 1 levels above 0
};
/// The bits that hold as many values as T steps of a spike have: ceil(log2(T + 1)).
int bits_of_steps(int64_t steps);

/// Input and output of one layer with weights, as a forward on images saw them.
struct SnnTrace {
  Tensor in;   ///< [N,...] numbers, or [T,N,...] spikes
  Tensor out;  ///< of the activation after it, before pooling; undefined for the last layer
};

/// Images (numbers in 0..1) -> logits. The first layer's current is the same in every step and
/// computed once; the output does not fire: its logits are means over the steps.
class SnnNet final : public nn::Module {
 public:
  SnnNet(const SnnShape& shape, const SnnActivation& activation, const ImageSpec& image);
  Tensor forward(const Tensor& images) override;
  const char* kind() const override { return "SnnNet"; }

  const SnnShape& shape() const { return shape_; }
  const SnnActivation& activation() const { return act_; }
  /// The layers with weights, in order: conv1, conv2, fc1, fc2.
  std::vector<nn::Module*> weighted() const;
  /// Mean of all spikes (steps, images, neurons) of each activation in the last forward; numbers
  /// with a gradient. Empty for nets without spikes.
  const Tensors& rates() const { return rates_; }

  /// Weights as int8 holds them, one scale a channel; gradients pass straight through.
  void hold_weights_in_int8(bool on);
  /// For inference: spikes are bits, and linear layers read a row of weights for each input, as
  /// they are now.
  void pack_spikes(bool on);
  bool silenced = false;  ///< no hidden neuron fires: what is then left does not spike
  std::vector<SnnTrace>* trace = nullptr;  ///< filled by forward while set

 private:
  Tensor linear_part(size_t layer, const Tensor& x);
  Tensor activate(size_t layer, const Tensor& x);
  Tensor pooled(const Tensor& x) const;

  SnnShape shape_;
  SnnActivation act_;
  std::shared_ptr<nn::Conv2d> conv_[2];
  std::shared_ptr<nn::Linear> fc_[2];
  Tensor scale_[3];  ///< of quantized activations
  bool packed_ = false;
  Tensor rows_[2];  ///< weights of linear layers [in, out], while spikes are packed
  Tensors rates_;
};

}  // namespace wattle::green
