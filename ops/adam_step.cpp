// adam_step: one step of torch.optim.Adam, in place (equations in ops/adam_kernels.h).
#include "ops/adam_kernels.h"

namespace wattle {

Metas adam::shape(const char* op, Ins in, const AdamAttr& a) {
  rules::arity(op, in, 4, 4);
  rules::floating(op, in, 0);
  rules::same_dtype(op, in);
  for (size_t i = 1; i < in.size(); ++i)
    if (in[i].shape() != in[0].shape())
      throw shape_error(str(op, ": operand ", i, " is ", in[i], ", the parameter ", in[0]));
  if (a.step < 1) throw value_error(str(op, ": step ", a.step, " found, expected at least 1"));
  for (double beta : {a.beta1, a.beta2})
    if (!(beta >= 0 && beta < 1))
      throw value_error(str(op, ": beta ", beta, " found, expected one in [0, 1)"));
  return {};
}

Cost adam::cost(Ins in, const AdamAttr& a, bool decoupled) {
  const int64_t decay = a.weight_decay != 0;
  return Cost{.add = 5 + (decoupled ? 0 : decay), .mul = 6 + decay, .special = 2} * in[0].numel();
}

namespace {

const Op<AdamAttr> op{{
    .name = "adam_step",
    .doc = "One step of Adam, in place",
    .equation = "param -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)",
    .shape = [](Ins in, const AdamAttr& a) { return adam::shape("adam_step", in, a); },
    .cost = [](Ins in, std::span<const Meta>,
               const AdamAttr& a) { return adam::cost(in, a, false); },
    .kernels = adam::kernels<false, AdamAttr>(),
    .writes = {0, 2, 3},
    .samples = {{{{{3, 5}}, {{3, 5}}, {{3, 5}}, {{3, 5}, 0.01, 1}}, {1e-2}},
                {{{{1}}, {{1}}, {{1}}, {{1}, 0.01, 1}}, {1e-2, 0.7, 0.95, 1e-6, 0.1, 7}},
                {{{{2, 37}}, {{2, 37}}, {{2, 37}}, {{2, 37}, 0.01, 1}},
                 {1e-2, 0.9, 0.999, 1e-8, 0.01, 3}}},
}};

}  // namespace

void adam_step(const Tensor& param, const Tensor& grad, const Tensor& exp_avg,
               const Tensor& exp_avg_sq, const AdamAttr& a) {
  op({param, grad, exp_avg, exp_avg_sq}, a);
}

}  // namespace wattle
