// softmax(x)_j = e^(x_j - m) / sum_k e^(x_k - m), m = max x, along dim.
//   dx = y (gy - s),  s = sum_k gy_k y_k
#include "ops/softmax_kernels.h"

namespace wattle {
namespace {

using along::DimAttr;
using along::Dims;

Dims dims(const char* op, const Tensor& x, const DimAttr& a) {
  return along::dims_of(x.shape(), normalize_axis(op, a.dim, x.rank()));
}

void softmax_ref(Ins in, Outs out, const DimAttr& a) {
  const Dims s = dims("softmax", in[0], a);
  dispatch_floating("softmax", in[0].dtype(), [&]<class T>() {
    for (int64_t c = 0; s.d > 0 && c < s.outer * s.inner; ++c) {
      const int64_t base = c / s.inner * s.d * s.inner + c % s.inner;
      const T* x = in[0].data<T>() + base;
      T* y = out[0].data<T>() + base;
      T m = x[0], total{};
      for (int64_t i = 1; i < s.d; ++i) m = x[i * s.inner] > m ? x[i * s.inner] : m;
      for (int64_t i = 0; i < s.d; ++i) {
        y[i * s.inner] = num::exp(x[i * s.inner] - m);
        total += y[i * s.inner];
      }
      for (int64_t i = 0; i < s.d; ++i) y[i * s.inner] /= total;
    }
  });
}

struct SoftmaxBody {
  template <class W>
  WATTLE_FORCE_INLINE void operator()(const W& w) const {
    constexpr int N = W::lanes;
    const simd::f32<N> s = along::exp_pass<N>(w, along::max_pass<N>(w));
    for (int64_t v = 0; v < w.count; ++v) w.store(v, w.load_out(v) / s);
  }
};

template <class Isa>
void softmax_simd(Ins in, Outs out, const DimAttr& a) {
  along::run<Isa, 1>({dims("softmax", in[0], a), {in[0].data<float>()}, out[0].data<float>()},
                     SoftmaxBody{});
}

// ---- softmax_grad: y (gy - s) ----

void grad_ref(Ins in, Outs out, const DimAttr& a) {
  const Dims s = dims("softmax_grad", in[0], a);
  dispatch_floating("softmax_grad", in[0].dtype(), [&]<class T>() {
    for (int64_t c = 0; s.d > 0 && c < s.outer * s.inner; ++c) {
      const int64_t base = c / s.inner * s.d * s.inner + c % s.inner;
      const T *gy = in[0].data<T>() + base, *y = in[1].data<T>() + base;
      T* gx = out[0].data<T>() + base;
      T dot{};
      for (int64_t i = 0; i < s.d; ++i) dot += gy[i * s.inner] * y[i * s.inner];
      for (int64_t i = 0; i < s.d; ++i) gx[i * s.inner] = y[i * s.inner] * (gy[i * s.inner] - dot);
    }
  });
}

struct GradBody {
  template <class W>
  WATTLE_FORCE_INLINE void operator()(const W& w) const {
    constexpr int N = W::lanes;
    const simd::f32<N> zero{};
    simd::f32<N> dot{};
    for (int64_t v = 0; v < w.count; ++v) dot += w.load(0, v, zero) * w.load(1, v, zero);
    dot = w.sum(dot);
    for (int64_t v = 0; v < w.count; ++v)
      w.store(v, w.load(1, v, zero) * (w.load(0, v, zero) - dot));
  }
};

template <class Isa>
void grad_simd(Ins in, Outs out, const DimAttr& a) {
  along::run<Isa, 2>({dims("softmax_grad", in[0], a),
                      {in[0].data<float>(), in[1].data<float>()},
                      out[0].data<float>()},
                     GradBody{});
}

Tensors grad_backward(const Saved<DimAttr>& s, Ins g);

const Op<DimAttr> grad_op{{
    .name = "softmax_grad",
    .doc = "Gradient of softmax",
    .equation = "gx = y (gy - sum gy y)",
    .shape =
        [](Ins in, const DimAttr& a) {
          rules::arity("softmax_grad", in, 2, 2);
          rules::same_dtype("softmax_grad", in);
          rules::floating("softmax_grad", in, 0);
          if (in[0].shape() != in[1].shape())
            throw shape_error(
                str("softmax_grad: shapes ", in[0].shape(), " and ", in[1].shape(), " differ"));
          normalize_axis("softmax_grad", a.dim, in[0].rank());
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const DimAttr&) {
          const int64_t n = in[0].numel();
          return Cost{.add = 2 * n, .mul = 2 * n};
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref", grad_ref}},
    .saves_in = {0, 1},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}}}},
                {{{{2, 1, 3}}, {{2, 1, 3}}}, {.dim = 1}},
                {{{{3, 37}}, {{3, 37}}}, {.dim = 0}},
                {{{{2, 67}}, {{2, 67}}}}},
}};

// <g, gx> = sum_k g_k y_k (gy_k - s), so d/dgy = y (g - <g, y>) and
// d/dy = g (gy - s) - gy <g, y>.
Tensors grad_backward(const Saved<DimAttr>& s, Ins g) {
  Tensors d(2);
  const Tensor gy = s.in(0), y = s.in(1);
  const Shape dim = {s.attr().dim};
  if (s.needs(0)) d[0] = grad_op.one({g[0], y}, s.attr());
  if (s.needs(1))
    d[1] =
        sub(mul(g[0], sub(gy, sum(mul(gy, y), dim, true))), mul(gy, sum(mul(g[0], y), dim, true)));
  return d;
}

const Op<DimAttr> op{{
    .name = "softmax",
    .doc = "Exponentials that sum to one along a dim",
    .equation = "y = e^(x - max x) / sum e^(x - max x)",
    .shape =
        [](Ins in, const DimAttr& a) {
          rules::arity("softmax", in, 1, 1);
          rules::floating("softmax", in, 0);
          normalize_axis("softmax", a.dim, in[0].rank());
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const DimAttr& a) {
          const int64_t n = in[0].numel();
          const Dims s = dims("softmax", in[0], a);
          return Cost{.add = 2 * n, .cmp = n == 0 ? 0 : n - s.outer * s.inner, .special = 2 * n};
        },
    .kernels = {simd_kernel<simd::Avx512>(softmax_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(softmax_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(softmax_simd<simd::Portable>),
                {"ref", softmax_ref}},
    .saves_out = {0},
    .backward =
        [](const Saved<DimAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.out(0)}, s.attr())};
        },
    .samples = {{{{{3, 5}}}},
                {{{{2, 1, 3}}}, {.dim = 1}},
                {{{{3, 37}, -30, 30}}, {.dim = 0}},
                {{{{2, 67}}}},
                {{{{21, 3, 2}}}, {.dim = 1}}},
}};

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return op.one({x}, {.dim = dim}); }

}  // namespace wattle
