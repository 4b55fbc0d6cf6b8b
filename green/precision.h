// Training in low precision: which numbers a net computes with, layer by layer.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/codec.h"
#include "nn/layers.h"
#include "nn/optim.h"
#include "quant/quantized_layers.h"

namespace wattle::green {

/// What one layer computes with.
struct LayerPrecision {
  DType activation = DType::f32;  ///< inputs, weights and results of Conv2d and Linear
  DType gradient = DType::f32;    ///< of its results, and of its inputs before they are cast on
};

/// What a file says of one layer; the rest is as in all layers.
struct LayerChoice {
  std::optional<DType> activation = {}, gradient = {};
};

struct Precision {
  std::string name = "f32";
  std::string about;  ///< one line
  LayerPrecision layer;
  DType master = DType::f32;  ///< parameters and their gradients, optimiser state, normalisation
  DType loss = DType::f32;    ///< logits and loss
  /// What the loss hands back to the last layer. Logits that lie on few values make the same errors
  /// again and again in a gradient of few bits: E5M2 here costs CNN 3,1 two points of accuracy.
  DType loss_gradient = DType::f32;
  /// none; overflow: the scale of the loss follows infinities and NaN (fp16, fp8); saturation:
  /// posits never overflow, so it follows how many gradients end on maxpos and on minpos.
  std::string scaler = "none";
  double loss_scale = 1;  ///< at the start; a power of two
  bool int8_qat = false;  ///< trains in f32 with int8 roundings in the forward pass
  std::map<std::string, LayerChoice> layers = {};  ///< single layers, by name
};

/// f32, bf16, fp16, fp8, posit16, posit8_mixed, posit8, int8_qat.
const std::vector<Precision>& precisions();
/// A preset by name, or a JSON file (a name that ends in .json):
///   {"preset": "posit8_mixed", "loss_scale": 1024,
///    "layers": {"linear3": {"activation": "posit16", "gradient": "posit16"}}}
/// Throws value_error or io_error naming what was found and expected.
Precision precision_from(const std::string& name_or_file);

/// Converts the parameters and hooks the precision into the layers. Call it before an optimiser
/// takes the parameters. Returns the dtype of the last layer's gradient, p.loss_gradient unless
/// that layer has its own. Throws value_error for a layer name that the net does not have, and for
/// codes whose gradient would be plain floats.
DType apply_precision(nn::Sequential& net, const Precision& p);

/// Ranges of what flows into each layer, as quantisation-aware training saw them; they follow a
/// moving average while the net trains.
struct QatRanges {
  std::map<std::string, std::shared_ptr<quant::Observer>> observers;
  quant::InputRanges ranges() const;  ///< for quant::quantize_
};
/// Hooks int8 roundings with straight-through gradients into every Conv2d and Linear.
QatRanges apply_int8_qat(nn::Sequential& net);

/// Scale of the loss, so that small gradients do not vanish in few bits.
class LossScaler {
 public:
  explicit LossScaler(const Precision& p) : kind_(p.scaler), scale_(p.loss_scale) {}
  double scale() const { return scale_; }
  /// After backward: divides the gradients by the scale, and moves the scale. False when gradients
  /// overflowed and the step has to be left out. `rounded`: what roundings of this backward pass
  /// did.
  bool unscale(const std::vector<nn::Named>& parameters, const CastStats& rounded);
  int64_t skipped() const { return skipped_; }

 private:
  std::string kind_;
  double scale_;
  int64_t clean_ = 0, skipped_ = 0;
};

}  // namespace wattle::green
