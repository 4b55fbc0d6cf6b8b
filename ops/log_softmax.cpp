// log_softmax(x)_j = x_j - m - log sum_k e^(x_k - m), m = max x, along dim.
//   dx = gy - e^y s,  s = sum_k gy_k
#include "ops/softmax_kernels.h"

namespace wattle {
namespace {

using along::DimAttr;
using along::Dims;

Dims dims(const char* op, const Tensor& x, const DimAttr& a) {
  return along::dims_of(x.shape(), normalize_axis(op, a.dim, x.rank()));
}

void log_softmax_ref(Ins in, Outs out, const DimAttr& a) {
  const Dims s = dims("log_softmax", in[0], a);
  dispatch_floating("log_softmax", in[0].dtype(), [&]<class T>() {
    for (int64_t c = 0; s.d > 0 && c < s.outer * s.inner; ++c) {
      const int64_t base = c / s.inner * s.d * s.inner + c % s.inner;
      const T* x = in[0].data<T>() + base;
      T* y = out[0].data<T>() + base;
      T m = x[0], total{};
      for (int64_t i = 1; i < s.d; ++i) m = x[i * s.inner] > m ? x[i * s.inner] : m;
      for (int64_t i = 0; i < s.d; ++i) total += num::exp(x[i * s.inner] - m);
      const T log_total = num::log(total);
      for (int64_t i = 0; i < s.d; ++i) y[i * s.inner] = x[i * s.inner] - m - log_total;
    }
  });
}

struct LogSoftmaxBody {
  template <class W>
  WATTLE_FORCE_INLINE void operator()(const W& w) const {
    constexpr int N = W::lanes;
    const simd::f32<N> lowest = simd::set1<N>(-__builtin_inff());
    const simd::f32<N> m = along::max_pass<N>(w);
    simd::f32<N> s{};
    for (int64_t v = 0; v < w.count; ++v) s += simd::exp<N>(w.load(0, v, lowest) - m);
    const simd::f32<N> log_total = simd::log<N>(w.sum(s));
    for (int64_t v = 0; v < w.count; ++v) w.store(v, w.load(0, v, lowest) - m - log_total);
  }
};

template <class Isa>
void log_softmax_simd(Ins in, Outs out, const DimAttr& a) {
  along::run<Isa, 1>({dims("log_softmax", in[0], a), {in[0].data<float>()}, out[0].data<float>()},
                     LogSoftmaxBody{});
}

// ---- log_softmax_grad: gy - e^y s ----

void grad_ref(Ins in, Outs out, const DimAttr& a) {
  const Dims s = dims("log_softmax_grad", in[0], a);
  dispatch_floating("log_softmax_grad", in[0].dtype(), [&]<class T>() {
    for (int64_t c = 0; s.d > 0 && c < s.outer * s.inner; ++c) {
      const int64_t base = c / s.inner * s.d * s.inner + c % s.inner;
      const T *gy = in[0].data<T>() + base, *y = in[1].data<T>() + base;
      T* gx = out[0].data<T>() + base;
      T total{};
      for (int64_t i = 0; i < s.d; ++i) total += gy[i * s.inner];
      for (int64_t i = 0; i < s.d; ++i)
        gx[i * s.inner] = gy[i * s.inner] - num::exp(y[i * s.inner]) * total;
    }
  });
}

struct GradBody {
  template <class W>
  WATTLE_FORCE_INLINE void operator()(const W& w) const {
    constexpr int N = W::lanes;
    const simd::f32<N> zero{};
    simd::f32<N> total{};
    for (int64_t v = 0; v < w.count; ++v) total += w.load(0, v, zero);
    total = w.sum(total);
    for (int64_t v = 0; v < w.count; ++v)
      w.store(v, w.load(0, v, zero) - simd::exp<N>(w.load(1, v, zero)) * total);
  }
};

template <class Isa>
void grad_simd(Ins in, Outs out, const DimAttr& a) {
  along::run<Isa, 2>({dims("log_softmax_grad", in[0], a),
                      {in[0].data<float>(), in[1].data<float>()},
                      out[0].data<float>()},
                     GradBody{});
}

Tensors grad_backward(const Saved<DimAttr>& s, Ins g);

const Op<DimAttr> grad_op{{
    .name = "log_softmax_grad",
    .doc = "Gradient of log_softmax",
    .equation = "gx = gy - e^y sum gy",
    .shape =
        [](Ins in, const DimAttr& a) {
          rules::arity("log_softmax_grad", in, 2, 2);
          rules::same_dtype("log_softmax_grad", in);
          rules::floating("log_softmax_grad", in, 0);
          if (in[0].shape() != in[1].shape())
            throw shape_error(
                str("log_softmax_grad: shapes ", in[0].shape(), " and ", in[1].shape(), " differ"));
          normalize_axis("log_softmax_grad", a.dim, in[0].rank());
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const DimAttr&) {
          const int64_t n = in[0].numel();
          return Cost{.add = 2 * n, .mul = n, .special = n};
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

// <g, gx> = sum_k g_k gy_k - (sum_k g_k e^y_k) s, so d/dgy = g - sum g e^y, d/dy = -g e^y s.
Tensors grad_backward(const Saved<DimAttr>& s, Ins g) {
  Tensors d(2);
  const Shape dim = {s.attr().dim};
  const Tensor weighted = mul(g[0], exp(s.in(1)));
  if (s.needs(0)) d[0] = sub(g[0], sum(weighted, dim, true));
  if (s.needs(1)) d[1] = neg(mul(weighted, sum(s.in(0), dim, true)));
  return d;
}

const Op<DimAttr> op{{
    .name = "log_softmax",
    .doc = "Logarithm of softmax along a dim",
    .equation = "y = x - max x - log sum e^(x - max x)",
    .shape =
        [](Ins in, const DimAttr& a) {
          rules::arity("log_softmax", in, 1, 1);
          rules::floating("log_softmax", in, 0);
          normalize_axis("log_softmax", a.dim, in[0].rank());
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const DimAttr& a) {
          const int64_t n = in[0].numel();
          const Dims s = dims("log_softmax", in[0], a);
          const int64_t columns = n == 0 ? 0 : s.outer * s.inner;
          return Cost{.add = 4 * n, .cmp = n - columns, .special = n + columns};
        },
    .kernels = {simd_kernel<simd::Avx512>(log_softmax_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(log_softmax_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(log_softmax_simd<simd::Portable>),
                {"ref", log_softmax_ref}},
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

Tensor log_softmax(const Tensor& x, int64_t dim) { return op.one({x}, {.dim = dim}); }

}  // namespace wattle
