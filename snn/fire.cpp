// fire: s = [u >= 0], or [u > 0].   du = gs surrogate(u), in place of a derivative that is 0.
#include "ops/rules.h"
#include "snn/ops.h"
#include "snn/surrogate.h"

namespace wattle {
namespace {

constexpr int64_t grain = 1 << 14;

snn::Surrogate checked(const char* op, const FireAttr& a) {
  return snn::surrogate(op, a.surrogate, a.slope);
}

void fire_ref(Ins in, Outs out, const FireAttr& a) {
  dispatch_floating("fire", in[0].dtype(), [&]<class T>() {
    const T* const u = in[0].data<T>();
    for (int64_t i = 0; i < in[0].numel(); ++i) {
      const bool fires = a.strict ? u[i] > T(0) : u[i] >= T(0);
      out[0].data<T>()[i] = fires ? T(1) : T(0);
    }
  });
}

template <class Isa>
void fire_simd(Ins in, Outs out, const FireAttr& a) {
  const float* const u = in[0].data<float>();
  float* const s = out[0].data<float>();
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t i = begin; i < end; ++i)
        s[i] = (a.strict ? u[i] > 0.0f : u[i] >= 0.0f) ? 1.0f : 0.0f;
    });
  });
}

void grad_ref(Ins in, Outs out, const FireAttr& a) {
  const snn::Surrogate s = checked("fire_grad", a);
  dispatch_floating("fire_grad", in[0].dtype(), [&]<class T>() {
    for (int64_t i = 0; i < in[0].numel(); ++i) {
      const T g = in[0].data<T>()[i], u = in[1].data<T>()[i];
      out[0].data<T>()[i] = g * snn::surrogate_value<T>(s, u);
    }
  });
}

template <class Isa>
void grad_simd(Ins in, Outs out, const FireAttr& a) {
  const snn::Surrogate s = checked("fire_grad", a);
  const float *const gs = in[0].data<float>(), *const u = in[1].data<float>();
  float* const gu = out[0].data<float>();
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      int64_t i = begin;
      for (; i + N <= end; i += N)
        simd::store<N>(gu + i,
                       simd::load<N>(gs + i) * snn::surrogate_lanes<N>(s, simd::load<N>(u + i)));
      float rest[N] = {};
      std::copy(u + i, u + end, rest);
      simd::store<N>(rest, snn::surrogate_lanes<N>(s, simd::load<N>(rest)));
      for (int64_t l = 0; i < end; ++i, ++l) gu[i] = gs[i] * rest[l];
    });
  });
}

const Op<FireAttr> grad_op{{
    .name = "fire_grad",
    .doc = "Gradient of fire: what reaches a spike, times the surrogate",
    .equation = "gu = gs surrogate(u)",
    .shape =
        [](Ins in, const FireAttr& a) {
          rules::arity("fire_grad", in, 2, 2);
          rules::same_dtype("fire_grad", in);
          rules::floating("fire_grad", in, 0);
          checked("fire_grad", a);
          if (in[0].shape() != in[1].shape())
            throw shape_error(
                str("fire_grad: gradient ", in[0].shape(), ", expected ", in[1].shape()));
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const FireAttr& a) {
          const Cost one = snn::surrogate_cost(checked("fire_grad", a).kind) + Cost{.mul = 1};
          return one * in[0].numel();
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref", grad_ref}},
    .samples = {{{{{3, 5}}, {{3, 5}}}, {}},
                {{{{1}}, {{1}}}, {.surrogate = "sigmoid"}},
                {{{{2, 37}}, {{2, 37}}}, {.surrogate = "fast_sigmoid"}},
                {{{{37}}, {{37}}}, {.surrogate = "super_spike"}},
                {{{{37}}, {{37}}}, {.surrogate = "soft_sign"}},
                {{{{37}}, {{37}, -2, 2}}, {.surrogate = "triangle"}},
                {{{{37}}, {{37}, -2, 2}}, {.surrogate = "quadratic"}},
                {{{{37}}, {{37}}}, {.surrogate = "rectangle"}},
                {{{{37}}, {{37}}}, {.surrogate = "exponential"}},
                {{{{37}}, {{37}}}, {.surrogate = "straight_through"}}},
}};

const Op<FireAttr> op{{
    .name = "fire",
    .doc = "Step at 0 with a surrogate gradient",
    .equation = "s = 1 where u >= 0, else 0",
    .shape =
        [](Ins in, const FireAttr& a) {
          rules::arity("fire", in, 1, 1);
          rules::floating("fire", in, 0);
          checked("fire", a);
          return Metas{in[0].meta()};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const FireAttr&) { return Cost{.cmp = in[0].numel()}; },
    .kernels = {simd_kernel<simd::Avx512>(fire_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(fire_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(fire_simd<simd::Portable>),
                {"ref", fire_ref}},
    .saves_in = {0},
    .estimated_gradient = true,
    .backward =
        [](const Saved<FireAttr>& s, Ins g) {
          return Tensors{grad_op.one({g[0], s.in(0)}, s.attr())};
        },
    .samples = {{{{{3, 5}}}, {}}, {{{{1}}}, {}}, {{{{2, 37}}}, {.strict = true}}},
}};

}  // namespace

Tensor fire(const Tensor& u, const FireAttr& attr) { return op.one({u}, attr); }

}  // namespace wattle
