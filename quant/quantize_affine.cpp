// quantize_affine: q = clamp(round(x / s) + z, qmin, qmax) as i8, or u8 where qmin >= 0. No
// gradient: training uses fake_quantize_affine.
#include <cmath>

#include "quant/affine.h"

namespace wattle {
namespace {

using Attr = AffineAttr;
using quant::Channels;

Channels plan(Ins in, const Attr& a) {
  return quant::channels_of("quantize_affine", in[0], in[1], in[2], a.axis);
}

Metas shape(Ins in, const Attr& a) {
  rules::arity("quantize_affine", in, 3, 3);
  rules::same_dtype("quantize_affine", in);
  rules::floating("quantize_affine", in, 0);
  const bool no_sign = a.qmin >= 0;
  quant::check_range("quantize_affine", a, no_sign ? 0 : -128, no_sign ? 255 : 127);
  plan(in, a);
  return {{in[0].shape(), no_sign ? DType::u8 : DType::i8}};
}

// NaN has no integer: it becomes the zero point, as 0 does.
template <class T>
T code(const T& x, const T& s, const T& z, const T& lo, const T& hi) {
  T v = x / s;
  v = v < lo ? lo : v;
  v = v > hi ? hi : v;
  return num::round_even(v) + z;
}

void ref(Ins in, Outs out, const Attr& a) {
  const Channels c = plan(in, a);
  dispatch_floating("quantize_affine", in[0].dtype(), [&]<class T>() {
    const T *x = in[0].data<T>(), *scale = in[1].data<T>(), *zero = in[2].data<T>();
    auto* y = static_cast<uint8_t*>(out[0].raw());
    for (int64_t channel = 0; channel < c.count; ++channel) {
      const T lo = T(static_cast<double>(a.qmin)) - zero[channel];
      const T hi = T(static_cast<double>(a.qmax)) - zero[channel];
      for (int64_t o = 0; o < c.outer; ++o)
        for (int64_t i = 0; i < c.inner; ++i) {
          const int64_t at = (o * c.count + channel) * c.inner + i;
          const auto q = static_cast<double>(code<T>(x[at], scale[channel], zero[channel], lo, hi));
          y[at] = static_cast<uint8_t>(
              static_cast<int>(std::isnan(q) ? static_cast<double>(zero[channel]) : q));
        }
    }
  });
}

template <class Isa>
void simd_run(Ins in, Outs out, const Attr& a) {
  const Channels c = plan(in, a);
  const float *x = in[0].data<float>(), *scale = in[1].data<float>(), *zero = in[2].data<float>();
  auto* y = static_cast<uint8_t*>(out[0].raw());
  quant::for_each_run(c, [&](int64_t channel, int64_t first) {
    const float s = scale[channel], z = zero[channel];
    const float lo = static_cast<float>(a.qmin) - z, hi = static_cast<float>(a.qmax) - z;
    parallel_for(c.inner, 1 << 14, [&](int64_t begin, int64_t end) {
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        for (int64_t i = begin; i < end; ++i) {
          float v = x[first + i] / s;
          v = v != v ? 0.0f : v;
          v = v < lo ? lo : v;
          v = v > hi ? hi : v;
          y[first + i] = static_cast<uint8_t>(static_cast<int32_t>(quant::round_small(v) + z));
        }
      });
    });
  });
}

const Op<Attr> op{{
    .name = "quantize_affine",
    .doc = "Floats to 8-bit integers under a scale and a zero point",
    .equation = "q = clamp(round(x / s) + z, qmin, qmax)",
    .shape = shape,
    .cost =
        [](Ins in, std::span<const Meta>, const Attr&) {
          const int64_t n = in[0].numel(), c = in[1].numel();
          return Cost{.add = 2 * n + 2 * c, .cmp = 2 * n, .special = n};
        },
    .kernels = {simd_kernel<simd::Avx512>(simd_run<simd::Avx512>),
                simd_kernel<simd::Avx2>(simd_run<simd::Avx2>),
                simd_kernel<simd::Portable>(simd_run<simd::Portable>),
                {"ref", ref}},
    .samples = {{{{{5, 7}, -3, 3}, {{1}, 0.1, 0.2}, {{1}, 0, 0}}, {-1, -8, 7}},
                {{{{1}}, {{1}, 0.1, 0.2}, {{1}, 3, 3}}, {-1, 0, 255}},
                {{{{3, 4, 9}, -3, 3}, {{4}, 0.1, 0.2}, {{4}, 5, 5}}, {1, -128, 127}}},
}};

}  // namespace

Tensor quantize_affine(const Tensor& x, const Tensor& scale, const Tensor& zero_point,
                       const AffineAttr& attr) {
  return op.one({x, scale, zero_point}, attr);
}

}  // namespace wattle
