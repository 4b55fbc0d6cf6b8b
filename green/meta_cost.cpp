#include "green/meta_cost.h"

#include "core/recorder.h"
#include "core/rng.h"
#include "green/trainer.h"

namespace wattle::green {

int64_t weighted_flops(const Ledger& ledger, Phase phase) {
  int64_t n = 0;
  for (const LedgerRow& r : ledger.rows)
    if (r.phase == phase) n += r.cost.flops_weighted();
  return n;
}

StepCost meta_step_cost(const NetSpec& spec, const ImageSpec& image, int64_t batch,
                        const std::string& optimizer) {
  if (batch < 1) throw value_error(str("--batch: found ", batch, ", expected >= 1"));
  const DefaultDevice on_meta(meta);
  const Counters saved = counters();
  const Generator numbers = default_generator();  // no training may notice that its cost was asked
  const auto net = make_net(spec, image);
  const auto opt = nn::make_optimizer(optimizer, net->named_parameters(), 1e-3);
  counters() = Counters();
  const Shape shape{batch, image.channels, image.height, image.height};
  train_step(*net, *opt, Tensor::empty(shape, DType::u8, meta),
             Tensor::empty({batch}, DType::i64, meta));
  StepCost out{net->parameter_count(), batch, make_ledger(counters(), module_kinds(*net)), 0, 0};
  counters() = saved;
  default_generator() = numbers;
  out.forward_flops = weighted_flops(out.ledger, Phase::forward);
  out.backward_flops = weighted_flops(out.ledger, Phase::backward);
  return out;
}

}  // namespace wattle::green
