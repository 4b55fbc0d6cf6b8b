// fake_quantize_affine: y = s (clamp(round(x / s) + z, qmin, qmax) - z), the numbers that quantised
// storage would hold, still as floats.
//   dx = gy inside the range, 0 outside (straight-through estimator)
//   ds = sum gy (round(v) - v) inside, gy times the bound outside, v = x / s (Esser et al.,
//   "Learned
//        step size quantization", ICLR 2020), times grad_scale
#include <cmath>

#include "quant/affine.h"
#include "quant/ops.h"

namespace wattle {
namespace {

using quant::Channels;

using Attr = FakeQuantizeAttr;

constexpr int64_t grain = 1 << 14;

Channels plan(const char* op, Ins in, int first, const Attr& a) {
  const auto at = [&](int i) { return in[static_cast<size_t>(first + i)]; };
  return quant::channels_of(op, at(0), at(1), at(2), a.axis);
}

void ref(Ins in, Outs out, const Attr& a) {
  const Channels c = plan("fake_quantize_affine", in, 0, a);
  dispatch_floating("fake_quantize_affine", in[0].dtype(), [&]<class T>() {
    const T *x = in[0].data<T>(), *scale = in[1].data<T>(), *zero = in[2].data<T>();
    T* y = out[0].data<T>();
    for (int64_t channel = 0; channel < c.count; ++channel) {
      const T s = scale[channel];
      const T lo = T(static_cast<double>(a.qmin)) - zero[channel];
      const T hi = T(static_cast<double>(a.qmax)) - zero[channel];
      for (int64_t o = 0; o < c.outer; ++o)
        for (int64_t i = 0; i < c.inner; ++i) {
          const int64_t at = (o * c.count + channel) * c.inner + i;
          T v = x[at] / s;
          v = v < lo ? lo : v;
          v = v > hi ? hi : v;
          y[at] = num::round_even(v) * s;
        }
    }
  });
}

template <class Isa>
void simd_run(Ins in, Outs out, const Attr& a) {
  const Channels c = plan("fake_quantize_affine", in, 0, a);
  const float *x = in[0].data<float>(), *scale = in[1].data<float>(), *zero = in[2].data<float>();
  float* y = out[0].data<float>();
  quant::for_each_run(c, [&](int64_t channel, int64_t first) {
    const float s = scale[channel];
    const float lo = static_cast<float>(a.qmin) - zero[channel];
    const float hi = static_cast<float>(a.qmax) - zero[channel];
    parallel_for(c.inner, grain, [&](int64_t begin, int64_t end) {
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        const float* from = x + first;
        float* to = y + first;
        for (int64_t i = begin; i < end; ++i) {
          float v = from[i] / s;
          v = v < lo ? lo : v;
          v = v > hi ? hi : v;
          to[i] = quant::round_small(v) * s;
        }
      });
    });
  });
}

Metas shape(Ins in, const Attr& a) {
  rules::arity("fake_quantize_affine", in, 3, 3);
  rules::same_dtype("fake_quantize_affine", in);
  rules::floating("fake_quantize_affine", in, 0);
  quant::check_range("fake_quantize_affine", a, -(1 << 20), 1 << 20);
  plan("fake_quantize_affine", in, 0, a);
  return {in[0].meta()};
}

// ---- fake_quantize_affine_grad(gy, x, scale, zero_point): gx, gscale ----

// One element: what reaches x, and what reaches the scale before the sum.
template <class T>
struct Share {
  T x, scale;
};
template <class T>
Share<T> share(const T& gy, const T& v, const T& lo, const T& hi, const T& rounded) {
  const bool below = v<lo, above = v> hi;
  const T error = rounded - v;
  return {below || above ? T(0) : gy, gy * (below ? lo : above ? hi : error)};
}

void grad_ref(Ins in, Outs out, const Attr& a) {
  const Channels c = plan("fake_quantize_affine_grad", in, 1, a);
  dispatch_floating("fake_quantize_affine_grad", in[0].dtype(), [&]<class T>() {
    const T *gy = in[0].data<T>(), *x = in[1].data<T>(), *scale = in[2].data<T>(),
            *zero = in[3].data<T>();
    T *gx = out[0].data<T>(), *gs = out[1].data<T>();
    for (int64_t channel = 0; channel < c.count; ++channel) {
      const T lo = T(static_cast<double>(a.qmin)) - zero[channel];
      const T hi = T(static_cast<double>(a.qmax)) - zero[channel];
      T sum = T(0);
      for (int64_t o = 0; o < c.outer; ++o)
        for (int64_t i = 0; i < c.inner; ++i) {
          const int64_t at = (o * c.count + channel) * c.inner + i;
          const T g = gy[at], v = x[at] / scale[channel];
          const Share<T> part = share<T>(g, v, lo, hi, num::round_even(v));
          gx[at] = part.x;
          sum = sum + part.scale;
        }
      gs[channel] = sum * T(a.grad_scale);
    }
  });
}

template <class Isa>
void grad_simd(Ins in, Outs out, const Attr& a) {
  const Channels c = plan("fake_quantize_affine_grad", in, 1, a);
  const float *gy = in[0].data<float>(), *x = in[1].data<float>(), *scale = in[2].data<float>(),
              *zero = in[3].data<float>();
  float *gx = out[0].data<float>(), *gs = out[1].data<float>();
  std::vector<double> sums(static_cast<size_t>(c.count), 0.0);
  std::vector<double> parts;
  quant::for_each_run(c, [&](int64_t channel, int64_t first) {
    const float s = scale[channel];
    const float lo = static_cast<float>(a.qmin) - zero[channel];
    const float hi = static_cast<float>(a.qmax) - zero[channel];
    parts.assign(static_cast<size_t>((c.inner + grain - 1) / grain), 0.0);
    parallel_for(c.inner, grain, [&](int64_t begin, int64_t end) {
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        double sum = 0;
        constexpr int64_t piece = 256;
        float shares[piece];
        for (int64_t at = begin; at < end; at += piece) {
          const int64_t n = end - at < piece ? end - at : piece;
          const float *g = gy + first + at, *from = x + first + at;
          float* to = gx + first + at;
          for (int64_t i = 0; i < n; ++i) {
            const float v = from[i] / s;
            const bool below = v<lo, above = v> hi;
            const float clamped = below ? lo : above ? hi : v;
            const float error = quant::round_small(clamped) - (below || above ? 0.0f : v);
            to[i] = below || above ? 0.0f : g[i];
            shares[i] = g[i] * error;
          }
          float part[N] = {};
          int64_t i = 0;
          for (; i + N <= n; i += N)
            for (int l = 0; l < N; ++l) part[l] += shares[i + l];
          for (; i < n; ++i) part[0] += shares[i];
          for (int l = 0; l < N; ++l) sum += double{part[l]};
        }
        parts[static_cast<size_t>(begin / grain)] = sum;
      });
    });
    for (double p : parts) sums[static_cast<size_t>(channel)] += p;
  });
  for (size_t i = 0; i < sums.size(); ++i) gs[i] = static_cast<float>(sums[i] * a.grad_scale);
}

const Op<Attr> grad_op{{
    .name = "fake_quantize_affine_grad",
    .doc = "Gradients of fake_quantize_affine: straight through, and of a learned step size",
    .equation = "gx = gy inside the range, else 0;  gs = grad_scale sum gy (round(v) - v or bound)",
    .shape =
        [](Ins in, const Attr& a) {
          rules::arity("fake_quantize_affine_grad", in, 4, 4);
          rules::same_dtype("fake_quantize_affine_grad", in);
          rules::floating("fake_quantize_affine_grad", in, 0);
          if (in[0].shape() != in[1].shape())
            throw shape_error(str("fake_quantize_affine_grad: gradient ", in[0].shape(),
                                  ", expected the input's shape ", in[1].shape()));
          plan("fake_quantize_affine_grad", in, 1, a);
          return Metas{in[0].meta(), in[2].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const Attr&) {
          const int64_t n = in[0].numel(), c = in[2].numel();
          return Cost{.add = 3 * n + 2 * c, .mul = n + c, .cmp = 2 * n, .special = n};
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref", grad_ref}},
    .samples = {{{{{5, 7}}, {{5, 7}, -3, 3}, {{1}, 0.1, 0.2}, {{1}, 0, 0}}, {{-1, -8, 7}, 0.5}},
                {{{{1}}, {{1}}, {{1}, 0.1, 0.2}, {{1}, 0, 0}}, {}},
                {{{{3, 4, 9}}, {{3, 4, 9}, -3, 3}, {{4}, 0.1, 0.2}, {{4}, 0, 0}}, {{1, -8, 7}}}},
}};

const Op<Attr> op{{
    .name = "fake_quantize_affine",
    .doc = "Rounds to what quantised storage would hold; straight-through gradient",
    .equation = "y = s (clamp(round(x / s) + z, qmin, qmax) - z)",
    .shape = shape,
    .cost =
        [](Ins in, std::span<const Meta>, const Attr&) {
          const int64_t n = in[0].numel(), c = in[1].numel();
          return Cost{.add = n + 2 * c, .mul = n, .cmp = 2 * n, .special = n};
        },
    .kernels = {simd_kernel<simd::Avx512>(simd_run<simd::Avx512>),
                simd_kernel<simd::Avx2>(simd_run<simd::Avx2>),
                simd_kernel<simd::Portable>(simd_run<simd::Portable>),
                {"ref", ref}},
    .saves_in = {0, 1, 2},
    .estimated_gradient = true,
    .backward =
        [](const Saved<Attr>& s, Ins gy) {
          const Tensors g = grad_op({gy[0], s.in(0), s.in(1), s.in(2)}, s.attr());
          return Tensors{g[0], g[1], {}};
        },
    .samples = {{{{{5, 7}, -3, 3}, {{1}, 0.1, 0.2}, {{1}, 0, 0}}, {{-1, -8, 7}}},
                {{{{1}}, {{1}, 0.1, 0.2}, {{1}, 0, 0}}, {}},
                {{{{3, 4, 9}, -3, 3}, {{4}, 0.1, 0.2}, {{4}, 0, 0}}, {{1, -8, 7}}}},
}};

}  // namespace

Tensor fake_quantize_affine(const Tensor& x, const Tensor& scale, const Tensor& zero_point,
                            const FakeQuantizeAttr& attr) {
  return op.one({x, scale, zero_point}, attr);
}

}  // namespace wattle
