// sgd_step: one step of torch.optim.SGD, in place.
//   g = grad + weight_decay * param
//   buf = momentum * buf + (1 - dampening) * g, at the first step buf = g;   without momentum d =
//   g, with it d = buf, with nesterov d = g + momentum * buf param = param - lr * d
#include "ops/rules.h"

namespace wattle {
namespace {

// The attributes as numbers of the element type.
template <class T>
struct Coefficients {
  T lr, momentum, fresh, decay;
  bool uses_decay, uses_momentum, first, nesterov;
  explicit Coefficients(const SgdAttr& a)
      : lr(T(a.lr)),
        momentum(T(a.momentum)),
        fresh(T(1 - a.dampening)),
        decay(T(a.weight_decay)),
        uses_decay(a.weight_decay != 0),
        uses_momentum(a.momentum != 0),
        first(a.step == 1),
        nesterov(a.nesterov) {}
};

// One element, or one vector of them: V is T or lanes of it.
template <class V, class T>
WATTLE_FORCE_INLINE void update(const Coefficients<T>& c, V& param, V grad, V& buffer) {
  V g = grad;
  if (c.uses_decay) g = g + param * c.decay;
  if (c.uses_momentum) {
    V next = g;
    if (!c.first) next = buffer * c.momentum + g * c.fresh;
    buffer = next;
    if (c.nesterov) g = g + next * c.momentum;
    else g = next;
  }
  param = param - g * c.lr;
}

void sgd_ref(Ins in, Outs, const SgdAttr& a) {
  dispatch_floating("sgd_step", in[0].dtype(), [&]<class T>() {
    const Coefficients<T> c(a);
    T* const p = in[0].data<T>();
    const T* const g = in[1].data<T>();
    T* const buffer = c.uses_momentum ? in[2].data<T>() : nullptr;
    T unused = T(0);
    for (int64_t i = 0; i < in[0].numel(); ++i)
      update<T>(c, p[i], g[i], buffer ? buffer[i] : unused);
  });
}

template <class Isa>
void sgd_simd(Ins in, Outs, const SgdAttr& a) {
  const Coefficients<float> c(a);
  float* const p = in[0].data<float>();
  const float* const g = in[1].data<float>();
  float* const buffer = c.uses_momentum ? in[2].data<float>() : nullptr;
  parallel_for(in[0].numel(), 1 << 15, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      int64_t i = begin;
      for (; i + N <= end; i += N) {
        // Aligned, because a deduced V& drops the typedef's lower alignment.
        alignas(64) simd::f32<N> param = simd::load<N>(p + i), buf{};
        if (buffer && !c.first) buf = simd::load<N>(buffer + i);
        update(c, param, simd::load<N>(g + i), buf);
        if (buffer) simd::store<N>(buffer + i, buf);
        simd::store<N>(p + i, param);
      }
      for (float unused = 0; i < end; ++i) update(c, p[i], g[i], buffer ? buffer[i] : unused);
    });
  });
}

Metas sgd_shape(Ins in, const SgdAttr& a) {
  rules::arity("sgd_step", in, 2, 3);
  rules::floating("sgd_step", in, 0);
  rules::same_dtype("sgd_step", in);
  for (size_t i = 1; i < in.size(); ++i)
    if (in[i] && in[i].shape() != in[0].shape())
      throw shape_error(str("sgd_step: operand ", i, " is ", in[i], ", the parameter ", in[0]));
  if (a.step < 1) throw value_error(str("sgd_step: step ", a.step, " found, expected at least 1"));
  if (a.momentum != 0 && (in.size() < 3 || !in[2]))
    throw value_error(str("sgd_step: momentum ", a.momentum, " found without a momentum buffer"));
  if (a.nesterov && (a.momentum <= 0 || a.dampening != 0))
    throw value_error(str("sgd_step: nesterov found with momentum ", a.momentum, " and dampening ",
                          a.dampening, ", expected a positive momentum and no dampening"));
  return {};
}

// Per element: lr 1 + 1, weight decay 1 + 1, momentum 2 products and 1 sum, nesterov 1 + 1.
Cost sgd_cost(Ins in, std::span<const Meta>, const SgdAttr& a) {
  const int64_t decay = a.weight_decay != 0, momentum = a.momentum != 0 && a.step > 1;
  const int64_t nesterov = a.nesterov;
  return Cost{.add = 1 + decay + momentum + nesterov, .mul = 1 + decay + 2 * momentum + nesterov} *
         in[0].numel();
}

// The momentum buffer is not read at the first step, and not touched without momentum.
Bytes sgd_bytes(Ins in, std::span<const Meta>, const SgdAttr& a) {
  const int64_t n = in[0].nbytes();
  const bool buffer = a.momentum != 0;
  return {2 * n + (buffer && a.step > 1 ? n : 0), n + (buffer ? n : 0)};
}

const Op<SgdAttr> op{{
    .name = "sgd_step",
    .doc = "One step of stochastic gradient descent, in place",
    .equation = "buf = momentum*buf + (1-dampening)*(grad + weight_decay*param); param -= lr*buf",
    .shape = sgd_shape,
    .cost = sgd_cost,
    .bytes = sgd_bytes,
    .kernels = {simd_kernel<simd::Avx512>(sgd_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(sgd_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(sgd_simd<simd::Portable>),
                {"ref", sgd_ref}},
    .writes = {0, 2},
    .samples = {{{{{3, 5}}, {{3, 5}}}, {0.1}},
                {{{{1}}, {{1}}, {{1}}}, {0.1, 0.9, 0, 0.01, false, 1}},
                {{{{2, 37}}, {{2, 37}}, {{2, 37}}}, {0.1, 0.9, 0.2, 0.01, false, 5}},
                {{{{67}}, {{67}}, {{67}}}, {0.1, 0.9, 0, 0, true, 2}},
                {{{{67}}, {{67}}, {{67}}}, {0.1, 0.8, 0, 0.1, true, 1}},
                {{{{5}}, {{5}}, {{}, 0, 0, SampleIn::absent}}, {0.1, 0, 0, 0.5}}},
}};

}  // namespace

void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& momentum_buffer,
              const SgdAttr& a) {
  op({param, grad, momentum_buffer}, a);
}

}  // namespace wattle
