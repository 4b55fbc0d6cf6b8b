// One training: net, optimiser, loader and their state as a whole, so that it can be interrupted at
// any step and go on bit by bit as if it had not been.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "data/loader.h"
#include "green/captured_step.h"
#include "green/nets.h"
#include "green/precision.h"
#include "nn/optim.h"

namespace wattle::green {

struct TrainOptions {
  NetSpec net;
  int epochs = 1;
  int64_t batch = 512;
  std::string optimizer = "adam";
  double lr = 1e-3;
  std::string schedule = "constant";  ///< constant, cosine or step; per step
  DType dtype = DType::f32;           ///< f64: for comparing trajectories, several times slower
  std::string precision = "f32";      ///< a name or file of green/precision.h; not with f64
  std::string device = "cpu";         ///< cpu, cuda or cuda:N
  std::string math = "f32";           ///< f32, tf32, bf16 or fp8: products of f32 numbers on cuda
  /// On cuda: full batches of f32 training are captured once and replayed.
  bool graph = true;
  uint64_t seed = 0;
  bool shuffle = true;
  bool drop_last = false;
  /// As the study did it: the batches of the first epoch are used again in every epoch.
  bool frozen_batches = false;
  /// As the study did it: accuracy with batch statistics of the whole test set instead of eval
  /// mode.
  bool batch_statistics_at_test = false;
};

/// Accuracy and mean loss over a data set.
struct Evaluation {
  double accuracy = 0, loss = 0;
};

/// With several ranks in world() (core/ranks.h) each takes its share of every batch, and gradients
/// and losses are the means over all: the same training, but for the statistics of batch norm,
/// which are those of the share. Ranks keep the same weights.
class Trainer {
 public:
  /// Draws the parameters from `options.seed`. Throws value_error for options that make no sense.
  Trainer(const TrainOptions& options, data::Dataset train);

  /// One step; its loss, or nothing when the last epoch has ended.
  std::optional<double> step();
  bool epoch_ended() const { return at_epoch_end_; }  ///< by the last step()
  int64_t epoch() const { return epoch_; }            ///< epochs finished
  int64_t steps() const { return steps_; }
  int64_t total_steps() const { return options_.epochs * loader_->batches(); }
  nn::Sequential& net() { return *net_; }
  nn::Optimizer& optimizer() { return *optimizer_; }
  const TrainOptions& options() const { return options_; }
  const Precision& precision() const { return precision_; }
  Device device() const { return device_; }
  /// Whether full batches are captured and replayed on cuda, from the next step on.
  void set_graph(bool on) { options_.graph = on; }
  /// The captured step, once there is one.
  CapturedStep* captured() { return captured_.get(); }
  const LossScaler& scaler() const { return scaler_; }
  /// Of int8_qat: ranges of what flows into each layer, for quant::quantize_.
  quant::InputRanges input_ranges() const { return qat_.ranges(); }
  /// Not part of the training; its cost is left out of the thread's counters.
  Evaluation evaluate(const data::Dataset& test);

  /// Full state: weights, optimiser, random numbers, position in the data; one safetensors file,
  /// written atomically. `extra` travels along.
  void save(const std::string& path, const std::map<std::string, std::string>& extra = {}) const;
  /// Continues from a file of save(). Throws io_error or value_error when it belongs to another
  /// training (net, data, batch, seed, ...), naming the difference; nothing is changed then.
  std::map<std::string, std::string> load(const std::string& path);

 private:
  std::string fingerprint() const;
  static data::Batch share_of(const data::Batch& all);
  double run_step(const data::Batch& all);
  TrainOptions options_;
  Device device_;
  Precision precision_;
  LossScaler scaler_;
  QatRanges qat_;
  std::shared_ptr<nn::Sequential> net_;
  std::unique_ptr<nn::Optimizer> optimizer_;
  std::unique_ptr<data::DataLoader> loader_;
  std::unique_ptr<CapturedStep> captured_;
  int64_t epoch_ = 0, steps_ = 0;
  bool at_epoch_end_ = false;
};

/// One training step on a batch: forward in the scopes of the layers, "loss", backward, optimiser.
/// `images` u8 [N,C,H,W]; the loss as a tensor, so that it also runs on meta.
Tensor train_step(nn::Sequential& net, nn::Optimizer& optimizer, const Tensor& images,
                  const Tensor& labels);
/// The same in low precision: the loss in `p.loss`, scaled; a step whose gradients overflowed is
/// left out. The loss that comes back is not scaled.
Tensor train_step(nn::Sequential& net, nn::Optimizer& optimizer, const Tensor& images,
                  const Tensor& labels, const Precision& p, LossScaler& scaler);

}  // namespace wattle::green
