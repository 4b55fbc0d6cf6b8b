#include "green/captured_step.h"

#include "core/rng.h"

namespace wattle::green {

CapturedStep::CapturedStep(Device device, nn::Optimizer& optimizer, const Tensor& images,
                           const Tensor& labels, const Step& step)
    : optimizer_(optimizer),
      images_(Tensor::empty(images.shape(), images.dtype(), device)),
      labels_(Tensor::empty(labels.shape(), labels.dtype(), device)) {
  Generator& random = default_generator();
  first_offset_ = random.offset;
  graph_ = cuda::Graph::capture([&] { loss_ = step(images_, labels_); });
  // Captured, not run: neither the optimiser nor the random numbers have moved.
  optimizer_.count_steps(-1);
  drawn_ = random.offset - first_offset_;
  random.offset = first_offset_;
}

const Tensor& CapturedStep::run(const Tensor& images, const Tensor& labels) {
  images_.copy_from(images);
  labels_.copy_from(labels);
  return run_again();
}

const Tensor& CapturedStep::run_again(bool count) {
  Generator& random = default_generator();
  optimizer_.count_steps(1);
  graph_->replay({optimizer_.lr, optimizer_.steps(), random.offset - first_offset_}, count);
  random.offset += drawn_;
  return loss_;
}

}  // namespace wattle::green
