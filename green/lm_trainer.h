// Training of small language models on a stream of text.
#pragma once
#include <memory>
#include <optional>

#include "green/text_stream.h"
#include "moe/language_model.h"
#include "nn/optim.h"

namespace wattle::green {

struct LmTrainOptions {
  moe::LmConfig model;
  int64_t steps = 4000, batch = 32, length = 64;
  double lr = 3e-3;  ///< grows over `warmup` steps, then x 0.316 at 80 % and at 90 % of the steps
  int64_t warmup = 200;
  double weight_decay = 0.1, clip = 1;
  uint64_t seed = 0;                         ///< of the weights and of the order of the text
  DType dtype = DType::f32;                  ///< of weights, gradients and moments: f32 or f64
  std::string device = "cpu", math = "f32";  ///< as in TrainOptions; ranks need cpu
};

/// Throws value_error naming the option.
void check(const LmTrainOptions& o);
/// Factor of the learning rate at `step` (from 0).
double lm_schedule(const LmTrainOptions& o, int64_t step);

struct LmEvaluation {
  double loss = 0;  ///< nats per byte, without auxiliary losses
  int64_t tokens = 0;
  std::vector<moe::RouterStats> layers;  ///< of all tokens together; empty for a dense model
  /// Mean of the layers' MaxVio over all tokens ("global"); 0 for a dense model.
  double max_vio() const;
};

/// With several ranks in moe::world() each trains on its share of every batch and holds its share
/// of the experts; gradients of everything else are averaged, and losses are those of the whole
/// batch.
class LmTrainer {
 public:
  /// Throws value_error where the ranks do not divide the batch.
  LmTrainer(const LmTrainOptions& o, std::shared_ptr<const TextStream> text);
  /// One AdamW step (0.9, 0.95); the loss before it without auxiliary losses. Nothing after the
  /// last step.
  std::optional<double> step();
  int64_t steps() const { return steps_; }
  /// Weights, biases, moments and the number of steps, one file per rank in dir/step-N; dir/latest
  /// names the newest complete one. Collective.
  void save_checkpoint(const std::string& dir) const;
  /// Continues from dir/latest, bit for bit; false when there is none. Throws io_error or
  /// value_error naming the file.
  bool load_checkpoint(const std::string& dir);
  moe::LanguageModel& model() { return *model_; }
  const LmTrainOptions& options() const { return o_; }

 private:
  LmTrainOptions o_;
  Device device_;
  std::shared_ptr<const TextStream> text_;
  std::shared_ptr<moe::LanguageModel> model_;
  TextBatch own_batch() const;
  void average_gradients();
  void clip_gradients();
  std::unique_ptr<nn::Adam> optimizer_;
  int64_t steps_ = 0;
};

/// Windows of held-out text in order, at most `tokens` of them (0 = all); uncounted.
LmEvaluation evaluate_lm(moe::LanguageModel& model, const std::vector<uint8_t>& text,
                         int64_t tokens = 0);

/// A model in one safetensors file: weights, and its configuration in the metadata.
void save_lm(const std::string& path, moe::LanguageModel& model);
/// Throws io_error or value_error naming `path` and what is wrong.
std::shared_ptr<moe::LanguageModel> load_lm(const std::string& path);

}  // namespace wattle::green
