#include "green/calibration.h"

#include <algorithm>

#include "core/error.h"
#include "core/recorder.h"
#include "data/loader.h"

namespace wattle::green {

quant::InputRanges calibrate(nn::Sequential& net, const data::Dataset& data,
                             const std::string& observer, int64_t rows) {
  if (data.evaluation)
    throw value_error(str("calibrate: found the test set of ", data.name,
                          ", expected training data: what is fitted to the test set says nothing "
                          "about it"));
  if (rows < 1) throw value_error(str("calibrate: ", rows, " rows found, expected at least 1"));
  const NoRecord off;
  quant::fold_batch_norm(net);
  const bool training = net.training();
  net.eval();
  const quant::Calibrator watch(net, observer);
  const int64_t n = std::min(rows, data.rows());
  constexpr int64_t batch = 250;
  for (int64_t at = 0; at < n; at += batch)
    net(to_float(slice(data.images, 0, at, std::min(n, at + batch))));
  net.train(training);
  return watch.ranges();
}

}  // namespace wattle::green
