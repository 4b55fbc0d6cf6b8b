#include "snn/loss.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace wattle::snn {
namespace {

void check(const char* loss, const Tensor& outputs, const Tensor& target) {
  if (outputs.rank() != 3 || target.shape() != Shape{outputs.size(1)} || outputs.size(0) < 1)
    throw shape_error(str(loss, ": found outputs ", outputs, " and target ", target,
                          ", expected [T,N,C] and [N]"));
}

Tensor numbers(const Tensor& s) { return s.dtype() == DType::spike ? cast(s, DType::f32) : s; }
Tensor counts(const Tensor& s) { return sum(s, {0}); }

}  // namespace

Tensor ce_rate(const Tensor& outputs, const Tensor& target) {
  check("ce_rate", outputs, target);
  const int64_t t = outputs.size(0), n = outputs.size(1);
  const Tensor every = reshape(contiguous(expand(reshape(target, {1, n}), {t, n})), {t * n});
  return cross_entropy(reshape(numbers(outputs), {t * n, outputs.size(2)}), every);
}

Tensor ce_sum(const Tensor& outputs, const Tensor& target) {
  return scale(ce_rate(outputs, target), static_cast<double>(outputs.size(0)));
}

Tensor ce_count(const Tensor& spikes, const Tensor& target) {
  check("ce_count", spikes, target);
  return cross_entropy(counts(spikes), target);
}

Tensor ce_max_membrane(const Tensor& potentials, const Tensor& target) {
  check("ce_max_membrane", potentials, target);
  return cross_entropy(max(potentials, {0})[0], target);
}

Tensor mse_rate(const Tensor& spikes, const Tensor& target) {
  check("mse_rate", spikes, target);
  const Tensor wanted = cast(one_hot(target, spikes.size(2)), DType::f32);
  return mse_loss(mean(spikes, {0}), wanted);
}

Tensor mse_count(const Tensor& spikes, const Tensor& target, double right, double wrong) {
  check("mse_count", spikes, target);
  const auto t = static_cast<double>(spikes.size(0));
  const double on = std::floor(t * right), off = std::floor(t * wrong);
  const Tensor hot = cast(one_hot(target, spikes.size(2)), DType::f32);
  return scale(mse_loss(counts(spikes), scale(hot, on - off, off)), 1 / t);
}

Tensor first_spike_times(const Tensor& spikes) {
  if (spikes.rank() != 3)
    throw shape_error(str("first_spike_times: found ", spikes, ", expected [T,N,C]"));
  const Tensor s = numbers(spikes);
  const int64_t steps = s.size(0), n = s.numel() / std::max<int64_t>(1, steps);
  const Tensor first = Tensor::zeros(s.shape());  // 1 at first spikes
  const Tensor times = Tensor::full({s.size(1), s.size(2)}, static_cast<double>(steps));
  const float* const v = s.data<float>();
  for (int64_t i = 0; i < n; ++i)
    for (int64_t t = 0; t < steps; ++t)
      if (v[t * n + i] > 0) {
        first.data<float>()[t * n + i] = 1;
        times.data<float>()[i] = static_cast<float>(t + 1);  // 1 - 1 below
        break;
      }
  // times - sum of the first spikes: the values are right, and so is the gradient.
  return sub(times, sum(mul(s, first), {0}));
}

Tensor ce_ttfs(const Tensor& spikes, const Tensor& target) {
  check("ce_ttfs", spikes, target);
  return cross_entropy(scale(first_spike_times(spikes), -1), target);
}

Tensor mse_ttfs(const Tensor& spikes, const Tensor& target, double right,
                std::optional<double> wrong) {
  check("mse_ttfs", spikes, target);
  const double steps = static_cast<double>(spikes.size(0));
  const Tensor wanted =
      Tensor::full({spikes.size(1), spikes.size(2)}, wrong.value_or(steps) / steps);
  const std::vector<int64_t> classes = target.values<int64_t>();
  for (size_t i = 0; i < classes.size(); ++i)
    wanted.data<float>()[static_cast<int64_t>(i) * spikes.size(2) + classes[i]] =
        static_cast<float>(right / steps);
  const Tensor d = sub(scale(first_spike_times(spikes), 1 / steps), wanted);
  return mean(mul(d, d));
}

Tensor l1_rate(const Tensor& spikes, double weight) { return scale(mean(spikes), weight); }

Tensor most_spikes(const Tensor& spikes) { return argmax(counts(spikes), 1); }

}  // namespace wattle::snn
