// Device code of the optimiser steps. In a captured graph learning rate and step number come from
// device memory, as they change from replay to replay.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// What is the same for all elements (ops/adam_kernels.h).
struct Coefficients {
  double root, size, keep;
  WATTLE_HD static Coefficients of(double lr, double step, double beta1, double beta2,
                                   double decay) {
    return {1 / ::sqrt(1 - ::pow(beta2, step)), lr / (1 - ::pow(beta1, step)), 1 - lr * decay};
  }
};

template <class T, bool Decoupled>
struct Adam {
  Coefficients known;
  double beta1, beta2, eps, weight_decay;
  const Live* live;
  T* p;
  const T* g;
  T *m, *v;
  WATTLE_HD void operator()(int64_t i) const {
    const Coefficients c = live ? Coefficients::of(live->lr, static_cast<double>(live->step), beta1,
                                                   beta2, weight_decay)
                                : known;
    const T root = T(c.root), size = T(c.size);
    T param = p[i], grad = g[i];
    if (weight_decay != 0) {
      if (Decoupled) param = param * T(c.keep);
      else grad = grad + param * T(weight_decay);
    }
    const T first = m[i] + (grad - m[i]) * T(1 - beta1);
    const T second = v[i] * T(beta2) + grad * grad * T(1 - beta2);
    m[i] = first;
    v[i] = second;
    p[i] = param - first / (::sqrt(second) * root + T(eps)) * size;
  }
};

template <bool Decoupled>
const char* adam(const Launch& l) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const double b1 = number(l, "beta1"), b2 = number(l, "beta2"),
                 decay = number(l, "weight_decay");
    const Coefficients c = Coefficients::of(number(l, "lr"), number(l, "step"), b1, b2, decay);
    return each(l.in[0].numel,
                Adam<T, Decoupled>{c, b1, b2, number(l, "eps"), decay, l.live, inout<T>(l, 0),
                                   in<T>(l, 1), inout<T>(l, 2), inout<T>(l, 3)});
  });
}

template <class T>
struct Sgd {
  double lr, momentum, dampening, weight_decay;
  bool nesterov;
  int64_t step;
  const Live* live;
  T* p;
  const T* g;
  T* buffer;
  WATTLE_HD void operator()(int64_t i) const {
    T d = g[i];
    const T param = p[i];
    if (weight_decay != 0) d = d + param * T(weight_decay);
    if (momentum != 0) {
      const bool first = (live ? live->step : step) == 1;
      const T next = first ? d : buffer[i] * T(momentum) + d * T(1 - dampening);
      buffer[i] = next;
      d = nesterov ? d + next * T(momentum) : next;
    }
    p[i] = param - d * T(live ? live->lr : lr);
  }
};

}  // namespace

WATTLE_DEVICE_OP(adam_step) { return adam<false>(l); }
WATTLE_DEVICE_OP(adamw_step) { return adam<true>(l); }
WATTLE_DEVICE_OP(sgd_step) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[0].numel,
                Sgd<T>{number(l, "lr"), number(l, "momentum"), number(l, "dampening"),
                       number(l, "weight_decay"), integer(l, "nesterov") != 0, integer(l, "step"),
                       l.live, inout<T>(l, 0), in<T>(l, 1), inout<T>(l, 2)});
  });
}

}  // namespace wattle::device
