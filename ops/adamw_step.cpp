// adamw_step: one step of torch.optim.AdamW, in place (equations in ops/adam_kernels.h).
#include "ops/adam_kernels.h"

namespace wattle {
namespace {

// AdamW decays weights unless told otherwise.
struct AdamWAttr : AdamAttr {
  AdamWAttr() { weight_decay = 0.01; }
  AdamWAttr(const AdamAttr& a) : AdamAttr(a) {}
};

const Op<AdamWAttr> op{{
    .name = "adamw_step",
    .doc = "One step of Adam with decoupled weight decay, in place",
    .equation = "param *= 1 - lr*weight_decay; param -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - "
                "beta2^t)) + eps)",
    .shape = [](Ins in, const AdamWAttr& a) { return adam::shape("adamw_step", in, a); },
    .cost = [](Ins in, std::span<const Meta>,
               const AdamWAttr& a) { return adam::cost(in, a, true); },
    .kernels = adam::kernels<true, AdamWAttr>(),
    .writes = {0, 2, 3},
    .samples = {{{{{3, 5}}, {{3, 5}}, {{3, 5}}, {{3, 5}, 0.01, 1}}, {}},
                {{{{1}}, {{1}}, {{1}}, {{1}, 0.01, 1}}, AdamAttr{1e-2, 0.7, 0.95, 1e-6, 0, 7}},
                {{{{2, 37}}, {{2, 37}}, {{2, 37}}, {{2, 37}, 0.01, 1}},
                 AdamAttr{1e-2, 0.9, 0.999, 1e-8, 0.1, 3}}},
}};

}  // namespace

void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& exp_avg,
                const Tensor& exp_avg_sq, const AdamAttr& a) {
  op({param, grad, exp_avg, exp_avg_sq}, a);
}

}  // namespace wattle
