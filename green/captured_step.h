// A training step as one launch: captured on a GPU once, replayed for every batch after that.
#pragma once
#include <memory>

#include "core/callable.h"
#include "core/cuda.h"
#include "nn/optim.h"

namespace wattle::green {

/// Captures `step(images, labels)`, which returns the loss and ends with optimizer.step(). A replay
/// gives the bits of a step that runs op by op: learning rate, step number and the place in the
/// stream of random numbers are handed to it. Parameters keep their addresses.
class CapturedStep {
 public:
  using Step = Callable<Tensor(const Tensor& images, const Tensor& labels)>;
  /// The batch gives shapes and dtypes; nothing runs yet. The optimiser must outlive this.
  CapturedStep(Device device, nn::Optimizer& optimizer, const Tensor& images, const Tensor& labels,
               const Step& step);
  /// One step on a batch of those shapes, from any device; the loss on the device, overwritten by
  /// the next run.
  const Tensor& run(const Tensor& images, const Tensor& labels);
  /// The same on the batch of the run before.
  const Tensor& run_again(bool count = true);
  int nodes() const { return graph_->nodes(); }  ///< launches of one step

 private:
  nn::Optimizer& optimizer_;
  Tensor images_, labels_, loss_;
  uint64_t first_offset_ = 0, drawn_ = 0;
  std::unique_ptr<cuda::Graph> graph_;
};

}  // namespace wattle::green
