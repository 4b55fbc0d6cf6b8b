// Parts of a data set, and the share of it that a net names right.
#pragma once
#include "core/recorder.h"
#include "data/loader.h"
#include "nn/module.h"
#include "ops/ops.h"

namespace wattle::green {

/// Images and labels [begin, end).
inline data::Dataset rows_of(const data::Dataset& d, int64_t begin, int64_t end) {
  data::Dataset out = d;
  out.images = slice(d.images, 0, begin, end), out.labels = slice(d.labels, 0, begin, end);
  return out;
}

/// images u8 -> net(numbers in 0..1) [N, classes]; the largest logit is the answer. The net is used
/// in the mode that it is in.
inline double accuracy_of(nn::Module& net, const data::Dataset& d, int64_t batch = 250) {
  const NoRecord off;
  data::DataLoader loader(d, {.batch = batch, .shuffle = false});
  const nn::StateDict state = net.state_dict();
  const Device device = state.empty() ? cpu : state.front().tensor.device();
  int64_t right = 0;
  for (const data::Batch& b : loader) {
    const auto guess = argmax(net(to_float(b.images.to(device))), 1).values<int64_t>();
    const auto truth = b.labels.values<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) right += guess[i] == truth[i];
  }
  return static_cast<double>(right) / static_cast<double>(d.rows());
}

}  // namespace wattle::green
