// One step of Adam (Kingma, Ba 2015) and of AdamW (Loshchilov, Hutter 2019), in place, as in
// torch.optim; the two differ in where the weight decay goes.
//   Adam: g = grad + weight_decay * param     AdamW: g = grad, param = param * (1 -
//   lr*weight_decay) m = m + (1 - beta1) (g - m)               v = beta2 v + (1 - beta2) g^2 param
//   = param - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
#pragma once
#include <cmath>

#include "core/simd_math.h"
#include "ops/rules.h"

namespace wattle::adam {

/// What is the same for all elements, computed once a call in f64.
template <class T>
struct Coefficients {
  T fresh1, beta2, fresh2, root, eps, step_size, decay;
  bool uses_decay;
  Coefficients(const AdamAttr& a, bool decoupled)
      : fresh1(T(1 - a.beta1)),
        beta2(T(a.beta2)),
        fresh2(T(1 - a.beta2)),
        root(T(1 / std::sqrt(1 - std::pow(a.beta2, static_cast<double>(a.step))))),
        eps(T(a.eps)),
        step_size(T(a.lr / (1 - std::pow(a.beta1, static_cast<double>(a.step))))),
        decay(T(decoupled ? 1 - a.lr * a.weight_decay : a.weight_decay)),
        uses_decay(a.weight_decay != 0) {}
};

// One element, or one vector of them. `root` is the square root.
template <bool Decoupled, class V, class T, class Root>
WATTLE_FORCE_INLINE void update(const Coefficients<T>& c, V& param, V grad, V& m, V& v,
                                Root&& root) {
  V g = grad;
  if (c.uses_decay) {
    if constexpr (Decoupled) param = param * c.decay;
    else g = g + param * c.decay;
  }
  m = m + (g - m) * c.fresh1;
  v = v * c.beta2 + g * g * c.fresh2;
  param = param - m / (root(v) * c.root + c.eps) * c.step_size;
}

template <bool Decoupled, class A>
void ref(Ins in, Outs, const A& a) {
  dispatch_floating("adam_step", in[0].dtype(), [&]<class T>() {
    const Coefficients<T> c(a, Decoupled);
    T *const p = in[0].data<T>(), *const m = in[2].data<T>(), *const v = in[3].data<T>();
    const T* const g = in[1].data<T>();
    for (int64_t i = 0; i < in[0].numel(); ++i)
      update<Decoupled, T>(c, p[i], g[i], m[i], v[i], [](const T& x) { return num::sqrt(x); });
  });
}

template <bool Decoupled, class A, class Isa>
void run_simd(Ins in, Outs, const A& a) {
  const Coefficients<float> c(a, Decoupled);
  float *const p = in[0].data<float>(), *const m = in[2].data<float>(),
               *const v = in[3].data<float>();
  const float* const g = in[1].data<float>();
  parallel_for(in[0].numel(), 1 << 15, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      const auto root = [](simd::f32<N> x) WATTLE_INLINE_BODY { return simd::sqrt<N>(x); };
      int64_t i = begin;
      for (; i + N <= end; i += N) {
        // Aligned, because a deduced V& drops the typedef's lower alignment.
        alignas(64) simd::f32<N> param = simd::load<N>(p + i), first = simd::load<N>(m + i),
                                 second = simd::load<N>(v + i);
        update<Decoupled>(c, param, simd::load<N>(g + i), first, second, root);
        simd::store<N>(p + i, param);
        simd::store<N>(m + i, first);
        simd::store<N>(v + i, second);
      }
      for (; i < end; ++i)
        update<Decoupled>(c, p[i], g[i], m[i], v[i],
                          [](float x) WATTLE_INLINE_BODY { return __builtin_sqrtf(x); });
    });
  });
}

/// Operands param, grad, exp_avg, exp_avg_sq of one shape and dtype; no results.
Metas shape(const char* op, Ins in, const AdamAttr& a);
/// Per element: m 1 product and 2 sums, v 3 and 1, the denominator 1 and 1 and a root, the update
/// 1 and 1 and a division; weight decay a product, and for Adam a sum.
Cost cost(Ins in, const AdamAttr& a, bool decoupled);

template <bool Decoupled, class A>
std::vector<Kernel<A>> kernels() {
  return {simd_kernel<simd::Avx512>(run_simd<Decoupled, A, simd::Avx512>),
          simd_kernel<simd::Avx2>(run_simd<Decoupled, A, simd::Avx2>),
          simd_kernel<simd::Portable>(run_simd<Decoupled, A, simd::Portable>),
          {"ref", ref<Decoupled, A>}};
}

}  // namespace wattle::adam
