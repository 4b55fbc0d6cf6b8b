// relu(x) = max(x, 0).   dx = gy where y > 0, else 0.
#include "ops/rules.h"

namespace wattle {
namespace {

constexpr int64_t grain = 1 << 15;

// ---- relu ----

template <class T>
void relu_run(const T* x, T* y, int64_t n) {
  // Written so that not-a-number passes through, as in PyTorch.
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] < T(0) ? T(0) : x[i];
}

void relu_ref(Ins in, Outs out, const NoAttr&) {
  dispatch_floating("relu", in[0].dtype(),
                    [&]<class T>() { relu_run(in[0].data<T>(), out[0].data<T>(), in[0].numel()); });
}

template <class Isa>
void relu_simd(Ins in, Outs out, const NoAttr&) {
  const float* x = in[0].data<float>();
  float* y = out[0].data<float>();
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      const simd::f32<N> zero{};
      int64_t i = begin;
      for (; i + N <= end; i += N) {
        const simd::f32<N> v = simd::load<N>(x + i);
        simd::store<N>(y + i, v < zero ? zero : v);
      }
      for (; i < end; ++i) y[i] = x[i] < 0 ? 0 : x[i];
    });
  });
}

Metas same_as_first(Ins in, const NoAttr&) {
  rules::arity("relu", in, 1, 1);
  rules::floating("relu", in, 0);
  return {in[0].meta()};
}

// ---- relu_grad: gy where y > 0 ----

void relu_grad_ref(Ins in, Outs out, const NoAttr&) {
  dispatch_floating("relu_grad", in[0].dtype(), [&]<class T>() {
    const T *gy = in[0].data<T>(), *y = in[1].data<T>();
    T* gx = out[0].data<T>();
    for (int64_t i = 0; i < in[0].numel(); ++i) {
      const T g = gy[i];  // read whether it passes or not, as every kernel does
      gx[i] = y[i] > T(0) ? g : T(0);
    }
  });
}

template <class Isa>
void relu_grad_simd(Ins in, Outs out, const NoAttr&) {
  const float *gy = in[0].data<float>(), *y = in[1].data<float>();
  float* gx = out[0].data<float>();
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      const simd::f32<N> zero{};
      int64_t i = begin;
      for (; i + N <= end; i += N)
        simd::store<N>(gx + i, simd::load<N>(y + i) > zero ? simd::load<N>(gy + i) : zero);
      for (; i < end; ++i) gx[i] = y[i] > 0 ? gy[i] : 0;
    });
  });
}

const Op<> relu_grad_op{{
    .name = "relu_grad",
    .doc = "Gradient of relu",
    .equation = "gx = gy where y > 0, else 0",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("relu_grad", in, 2, 2);
          rules::same_dtype("relu_grad", in);
          if (in[0].shape() != in[1].shape())
            throw shape_error(
                str("relu_grad: shapes ", in[0].shape(), " and ", in[1].shape(), " differ"));
          return Metas{in[0].meta()};
        },
    .cost = [](Ins in, std::span<const Meta>, const NoAttr&) { return Cost{.cmp = in[0].numel()}; },
    .kernels = {simd_kernel<simd::Avx512>(relu_grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(relu_grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(relu_grad_simd<simd::Portable>),
                {"ref", relu_grad_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<NoAttr>& s, Ins g) {
          return Tensors{relu_grad_op.one({g[0], s.in(1)}), {}};
        },
    .samples = {{{{{3, 5}}, {{3, 5}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{1}}, {{1}, 0.5, 1}}},
                {{{{2, 37}}, {{2, 37}, -1, 1, SampleIn::uniform, {0}}}}},
}};

const Op<> relu_op{{
    .name = "relu",
    .doc = "Rectified linear unit",
    .equation = "y = max(x, 0)",
    .shape = same_as_first,
    .cost = [](Ins in, std::span<const Meta>, const NoAttr&) { return Cost{.cmp = in[0].numel()}; },
    .kernels = {simd_kernel<simd::Avx512>(relu_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(relu_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(relu_simd<simd::Portable>),
                {"ref", relu_ref}},
    .saves_out = {0},
    .backward =
        [](const Saved<NoAttr>& s, Ins gy) {
          return Tensors{relu_grad_op.one({gy[0], s.out(0)})};
        },
    .samples = {{{{{3, 5}, -1, 1, SampleIn::uniform, {0}}}},
                {{{{1}, 0.5, 1}}},
                {{{{2, 37}, -1, 1, SampleIn::uniform, {0}}}}},
}};

}  // namespace

Tensor relu(const Tensor& x) { return relu_op.one({x}); }
Tensor relu_grad(const Tensor& gy, const Tensor& y) { return relu_grad_op.one({gy, y}); }

}  // namespace wattle
