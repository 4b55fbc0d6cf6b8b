// Surrogate gradients on a device (snn/surrogate.h).
#pragma once
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

WATTLE_HD float abs_of(float x) { return fabsf(x); }
WATTLE_HD double abs_of(double x) { return ::fabs(x); }

enum Kind : int32_t {
  atan_kind,
  sigmoid_kind,
  fast_sigmoid_kind,
  super_spike_kind,
  soft_sign_kind,
  triangle_kind,
  quadratic_kind,
  rectangle_kind,
  exponential_kind,
  straight_through_kind
};
struct SurrogateRow {
  const char* name;
  double usual;
};
constexpr SurrogateRow surrogates[] = {
    {"atan", 2},        {"sigmoid", 4},         {"fast_sigmoid", 25}, {"super_spike", 1},
    {"soft_sign", 2},   {"triangle", 0.3},      {"quadratic", 1},     {"rectangle", 1},
    {"exponential", 1}, {"straight_through", 1}};

// What stands for the derivative of the step at u (snn/surrogate.h).
struct Surrogate {
  int32_t kind = -1;
  double a = 0;
  explicit Surrogate(const Launch& l) {
    const double slope = number(l, "slope");
    for (int i = 0; i < 10; ++i)
      if (says(l, "surrogate", surrogates[i].name))
        kind = i, a = slope == 0 ? surrogates[i].usual : slope;
  }
  template <class T>
  WATTLE_HD T operator()(T u) const {
    const T one(1);
    switch (kind) {
      case atan_kind: {
        const T t = u * T(1.5707963267948966 * a);
        return T(a / 2) / (one + t * t);
      }
      case sigmoid_kind: {
        const T e = exp_of(abs_of(u) * T(-a)), d = one + e;
        return e * T(a) / (d * d);
      }
      case fast_sigmoid_kind: {
        const T d = one + abs_of(u) * T(a);
        return one / (d * d);
      }
      case super_spike_kind: {
        const T d = one + abs_of(u);
        return T(a) / (d * d);
      }
      case soft_sign_kind: {
        const T d = T(1 / a) + abs_of(u);
        return T(1 / (2 * a)) / (d * d);
      }
      case triangle_kind: {
        const T d = one - abs_of(u);
        return d > T(0) ? d * T(a) : T(0);
      }
      case quadratic_kind: {
        const T d = T(a) - abs_of(u) * T(a * a);
        return d > T(0) ? d : T(0);
      }
      case rectangle_kind: return abs_of(u) < T(1 / (2 * a)) ? T(a) : T(0);
      case exponential_kind: return exp_of(abs_of(u) * T(-1 / a)) * T(1 / (2 * a));
      default: return one;
    }
  }
};

// Adds up the parts of a sum over neurons.
template <class T>
struct Total {
  const T* x;  // null = nothing to add
  T* y;
  struct Acc {
    T v;
  };
  WATTLE_HD Acc start() const { return {T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t, int64_t i) const { a.v += x[i]; }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.v += b.v; }
  WATTLE_HD void store(int64_t, const Acc& a) const { y[0] = a.v; }
};

}  // namespace
}  // namespace wattle::device
