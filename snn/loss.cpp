#include "snn/loss.h"

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

Tensor l1_rate(const Tensor& spikes, double weight) { return scale(mean(spikes), weight); }

Tensor most_spikes(const Tensor& spikes) { return argmax(counts(spikes), 1); }

}  // namespace wattle::snn
