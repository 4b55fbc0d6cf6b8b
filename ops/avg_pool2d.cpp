// avg_pool2d: y[n,c,oh,ow] = sum over kh, kw of x[n,c, oh*sh - ph + kh, ow*sw - pw + kw] /
// d(oh,ow). The divisor d counts the taps that lie on the input or its padding, without the padding
// when count_include_pad is false; what a last window of ceil mode covers beyond the padding never
// counts.
//   gx[h,w] = sum over the windows that cover (h,w) of gy / d
#include "ops/pool2d.h"

namespace wattle {
namespace {

using namespace pool2d;

struct AvgPoolAttr {
  Pair kernel_size;
  std::optional<Pair> stride;
  Pair padding = 0;
  bool ceil_mode = false, count_include_pad = true;
  template <class V>
  void visit(V&& v) {
    v("kernel_size", kernel_size), v("stride", stride), v("padding", padding);
    v("ceil_mode", ceil_mode), v("count_include_pad", count_include_pad);
  }
};

struct AvgPoolGradAttr : AvgPoolAttr {
  Pair input_size;  // H and W of x
  template <class V>
  void visit(V&& v) {
    AvgPoolAttr::visit(v);
    v("input_size", input_size);
  }
};

Geometry windows(const char* op, const Shape& x, const AvgPoolAttr& a) {
  return geometry(op, x, a.kernel_size, a.stride, a.padding, 1, a.ceil_mode);
}

Geometry grad_windows(const char* op, const Shape& y, const AvgPoolGradAttr& a) {
  if (y.rank() != 3 && y.rank() != 4)
    throw shape_error(str(op, ": gradient is ", y, ", expected [N, C, H, W] or [C, H, W]"));
  const Geometry g = windows(op, with_planes(y, a.input_size.h, a.input_size.w), a);
  if (with_planes(y, g.h.out, g.w.out) != y)
    throw shape_error(str(op, ": gradient is ", y, ", expected planes of ", g.h.out, " x ", g.w.out,
                          " for an input of ", a.input_size.h, " x ", a.input_size.w));
  return g;
}

// One axis's factor of the divisor.
WATTLE_FORCE_INLINE int64_t divisor(const Axis& a, int64_t o, bool with_pad) {
  return with_pad ? std::min(a.start(o) + a.kernel, a.in + a.pad) - a.start(o)
                  : a.last(o) - a.first(o);
}
WATTLE_FORCE_INLINE double divisor(const Geometry& g, int64_t oh, int64_t ow, bool with_pad) {
  return static_cast<double>(divisor(g.h, oh, with_pad) * divisor(g.w, ow, with_pad));
}

// ---- avg_pool2d ----

template <class T>
WATTLE_FORCE_INLINE T mean_of_window(const Geometry& g, const T* x, int64_t oh, int64_t ow,
                                     bool with_pad) {
  T sum = 0;
  for (int64_t kh = g.h.first(oh), h1 = g.h.last(oh); kh < h1; ++kh)
    for (int64_t kw = g.w.first(ow), w1 = g.w.last(ow); kw < w1; ++kw)
      sum += x[(g.h.start(oh) + kh) * g.w.in + g.w.start(ow) + kw];
  return sum / T(divisor(g, oh, ow, with_pad));
}

void avg_pool2d_ref(Ins in, Outs out, const AvgPoolAttr& a) {
  const Geometry g = windows("avg_pool2d", in[0].shape(), a);
  dispatch_floating("avg_pool2d", in[0].dtype(), [&]<class T>() {
    for (int64_t o = 0; o < out[0].numel(); ++o)
      out[0].data<T>()[o] = mean_of_window(g, in[0].data<T>() + o / g.out_plane() * g.in_plane(),
                                           o / g.w.out % g.h.out, o % g.w.out, a.count_include_pad);
  });
}

// M windows side by side, all within the width of the input.
template <int M>
WATTLE_FORCE_INLINE void mean_of_lanes(const Geometry& g, const float* x, int64_t oh, int64_t ow,
                                       float factor, float* y) {
  simd::f32<M> sum{};
  for (int64_t kh = g.h.first(oh), h1 = g.h.last(oh); kh < h1; ++kh) {
    const float* row = x + (g.h.start(oh) + kh) * g.w.in + g.w.start(ow);
    for (int64_t kw = 0; kw < g.w.kernel; ++kw) sum += load_every<M>(row + kw, g.w.stride);
  }
  simd::store<M>(y, sum * simd::set1<M>(factor));
}

// One window within the width of the input.
WATTLE_FORCE_INLINE float inner_sum(const Geometry& g, const float* rows, int64_t h_taps) {
  float sum = 0;
  for (int64_t kh = 0; kh < h_taps; ++kh)
    for (int64_t kw = 0; kw < g.w.kernel; ++kw) sum += rows[kh * g.w.in + kw];
  return sum;
}

// [w0, w1): the windows within the width of the input.
template <int M>
WATTLE_FORCE_INLINE void mean_row(const Geometry& g, int64_t w0, int64_t w1, const float* plane,
                                  int64_t oh, float* y, bool with_pad) {
  const int64_t h0 = g.h.first(oh);
  const int64_t corner = (g.h.start(oh) + h0) * g.w.in - g.w.pad;
  int64_t ow = 0;
  for (; ow < w0; ++ow) y[ow] = mean_of_window(g, plane, oh, ow, with_pad);
  if (w1 > w0) {
    const float factor = static_cast<float>(1 / divisor(g, oh, w0, with_pad));
    if (g.w.stride <= 2 && w1 - w0 >= M) {
      for (; ow < w1; ow += M) {
        const int64_t at = std::min(ow, w1 - M);  // the last vector overlaps the one before
        mean_of_lanes<M>(g, plane, oh, at, factor, y + at);
      }
    } else {
      const int64_t h_taps = g.h.last(oh) - h0;
      for (; ow < w1; ++ow) y[ow] = inner_sum(g, plane + corner + ow * g.w.stride, h_taps) * factor;
    }
    ow = w1;
  }
  for (; ow < g.w.out; ++ow) y[ow] = mean_of_window(g, plane, oh, ow, with_pad);
}

template <int M>
WATTLE_FORCE_INLINE void mean_planes(const Geometry& g, int64_t p0, int64_t p1, const float* x,
                                     float* y, bool with_pad) {
  const int64_t w0 = g.w.inner_begin(), w1 = g.w.inner_end();
  for (int64_t p = p0; p < p1; ++p)
    for (int64_t oh = 0; oh < g.h.out; ++oh)
      mean_row<M>(g, w0, w1, x + p * g.in_plane(), oh, y + p * g.out_plane() + oh * g.w.out,
                  with_pad);
}

template <class Isa>
void avg_pool2d_simd(Ins in, Outs out, const AvgPoolAttr& a) {
  const Geometry g = windows("avg_pool2d", in[0].shape(), a);
  const float* x = in[0].data<float>();
  float* y = out[0].data<float>();
  parallel_for(g.planes, planes_per_task(g), [&](int64_t p0, int64_t p1) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      const Geometry local = g;
      const int64_t row = local.w.inner_end() - local.w.inner_begin();
      if (N == 16 && row >= 16) mean_planes<N>(local, p0, p1, x, y, a.count_include_pad);
      else if (N >= 8 && row >= 8)
        mean_planes<(N < 8 ? N : 8)>(local, p0, p1, x, y, a.count_include_pad);
      else mean_planes<4>(local, p0, p1, x, y, a.count_include_pad);
    });
  });
}

Metas avg_pool2d_shape(Ins in, const AvgPoolAttr& a) {
  rules::arity("avg_pool2d", in, 1, 1);
  rules::floating("avg_pool2d", in, 0);
  const Geometry g = windows("avg_pool2d", in[0].shape(), a);
  return {{with_planes(in[0].shape(), g.h.out, g.w.out), rules::numbers_dtype(in)}};
}

// ---- avg_pool2d_grad: gy [N,C,Ho,Wo] -> gx [N,C,H,W] ----

// Spreads one plane of gy over gx, which is zero at first. A row of windows at a time, tap by tap,
// so that the innermost loop runs along the row.
template <class T>
WATTLE_FORCE_INLINE void spread_plane(const Geometry& g, const T* gy, T* gx, bool with_pad,
                                      T* share) {
  for (int64_t oh = 0; oh < g.h.out; ++oh) {
    for (int64_t ow = 0; ow < g.w.out; ++ow)
      share[ow] = gy[oh * g.w.out + ow] / T(divisor(g, oh, ow, with_pad));
    for (int64_t kh = g.h.first(oh), h1 = g.h.last(oh); kh < h1; ++kh) {
      T* row = gx + (g.h.start(oh) + kh) * g.w.in;
      for (int64_t ow = 0; ow < g.w.out; ++ow)
        for (int64_t kw = g.w.first(ow), w1 = g.w.last(ow); kw < w1; ++kw)
          row[g.w.start(ow) + kw] += share[ow];
    }
  }
}

void avg_pool2d_grad_ref(Ins in, Outs out, const AvgPoolGradAttr& a) {
  const Geometry g = grad_windows("avg_pool2d_grad", in[0].shape(), a);
  dispatch_floating("avg_pool2d_grad", in[0].dtype(), [&]<class T>() {
    T* gx = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gx[i] = T(0);
    std::vector<T> share(static_cast<size_t>(g.w.out));
    for (int64_t p = 0; p < g.planes; ++p)
      spread_plane(g, in[0].data<T>() + p * g.out_plane(), gx + p * g.in_plane(),
                   a.count_include_pad, share.data());
  });
}

// Windows that tile the plane, two columns each: every gradient is written twice per row.
template <int N>
WATTLE_FORCE_INLINE void repeat_row(const float* gy, int64_t n, float factor, float* gx) {
  int64_t i = 0;
  for (; i + N <= n; i += N) {
    const simd::f32<N> v = simd::load<N>(gy + i) * simd::set1<N>(factor);
    simd::store<N>(gx + 2 * i, zip_low<N>(v, v));
    simd::store<N>(gx + 2 * i + N, zip_high<N>(v, v));
  }
  for (; i < n; ++i) gx[2 * i] = gx[2 * i + 1] = gy[i] * factor;
}

bool is_2x2(const Geometry& g) {
  return g.h.kernel == 2 && g.w.kernel == 2 && g.h.stride == 2 && g.w.stride == 2 && g.h.pad == 0 &&
         g.w.pad == 0 && 2 * g.h.out <= g.h.in && 2 * g.w.out <= g.w.in;
}

template <int N>
WATTLE_FORCE_INLINE void spread_2x2(const Geometry& g, const float* gy, float* gx) {
  std::fill_n(gx, g.in_plane(), 0.f);  // an odd last row or column belongs to no window
  for (int64_t oh = 0; oh < g.h.out; ++oh)
    for (int64_t kh = 0; kh < 2; ++kh)
      repeat_row<N>(gy + oh * g.w.out, g.w.out, 0.25f, gx + (2 * oh + kh) * g.w.in);
}

template <class Isa>
void avg_pool2d_grad_simd(Ins in, Outs out, const AvgPoolGradAttr& a) {
  const Geometry g = grad_windows("avg_pool2d_grad", in[0].shape(), a);
  const float* gy = in[0].data<float>();
  float* gx = out[0].data<float>();
  parallel_for(g.planes, planes_per_task(g), [&](int64_t p0, int64_t p1) {
    std::vector<float> share(static_cast<size_t>(g.w.out));
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      const Geometry local = g;
      for (int64_t p = p0; p < p1; ++p) {
        const float* from = gy + p * local.out_plane();
        float* to = gx + p * local.in_plane();
        if (is_2x2(local)) {
          spread_2x2<N>(local, from, to);
        } else {
          std::fill_n(to, local.in_plane(), 0.f);
          spread_plane(local, from, to, a.count_include_pad, share.data());
        }
      }
    });
  });
}

Metas avg_pool2d_grad_shape(Ins in, const AvgPoolGradAttr& a) {
  rules::arity("avg_pool2d_grad", in, 1, 1);
  rules::floating("avg_pool2d_grad", in, 0);
  grad_windows("avg_pool2d_grad", in[0].shape(), a);
  return {{with_planes(in[0].shape(), a.input_size.h, a.input_size.w), in[0].dtype()}};
}

// One addition per tap in bounds and one division per window, in both directions.
Cost cost_of(const Geometry& g) {
  return {.add = g.planes * tally(g.h).taps * tally(g.w).taps, .special = g.planes * g.out_plane()};
}

Bytes avg_pool2d_bytes(Ins in, std::span<const Meta> out, const AvgPoolAttr& a) {
  const Geometry g = windows("avg_pool2d", in[0].shape(), a);
  Bytes b = default_bytes(in, out, {});
  b.read = storage_bytes({g.planes * tally(g.h).covered * tally(g.w).covered}, in[0].dtype());
  return b;
}

Tensors avg_pool2d_grad_backward(const Saved<AvgPoolGradAttr>& s, Ins gy) {
  const AvgPoolAttr& a = s.attr();
  return {avg_pool2d(gy[0], a.kernel_size, a.stride, a.padding, a.ceil_mode, a.count_include_pad)};
}

const Op<AvgPoolGradAttr> avg_pool2d_grad_op{{
    .name = "avg_pool2d_grad",
    .doc = "Gradient of avg_pool2d: every window's gradient is shared by its taps",
    .equation = "gx[h,w] = sum over windows that cover (h,w) of gy / d",
    .shape = avg_pool2d_grad_shape,
    .cost =
        [](Ins in, std::span<const Meta>, const AvgPoolGradAttr& a) {
          return cost_of(grad_windows("avg_pool2d_grad", in[0].shape(), a));
        },
    .kernels = {simd_kernel<simd::Avx512>(avg_pool2d_grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(avg_pool2d_grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(avg_pool2d_grad_simd<simd::Portable>),
                {"ref", avg_pool2d_grad_ref}},
    .backward = avg_pool2d_grad_backward,
    .samples = {{{{{1, 2, 3, 37}}}, {{2}, {7, 75}}},
                {{{{2, 3, 4}}}, {{{3, 2}, Pair(2), 1, false, false}, {6, 7}}},
                {{{{1, 1, 1, 1}}}, {{1}, {1, 1}}},
                {{{{1, 2, 3, 3}}}, {{2, {}, 0, true}, {5, 6}}}},
}};

const Op<AvgPoolAttr> avg_pool2d_op{{
    .name = "avg_pool2d",
    .doc = "Mean of every window",
    .equation = "y[oh,ow] = sum over kh, kw of x[oh*s - p + kh, ow*s - p + kw] / d",
    .shape = avg_pool2d_shape,
    .cost = [](Ins in, std::span<const Meta>,
               const AvgPoolAttr& a) { return cost_of(windows("avg_pool2d", in[0].shape(), a)); },
    .bytes = avg_pool2d_bytes,
    .kernels = {simd_kernel<simd::Avx512>(avg_pool2d_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(avg_pool2d_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(avg_pool2d_simd<simd::Portable>),
                {"ref", avg_pool2d_ref}},
    .spike_ins = {0},
    .backward =
        [](const Saved<AvgPoolAttr>& s, Ins gy) {
          const Shape x = s.shape(0);
          return Tensors{
              avg_pool2d_grad_op.one({gy[0]}, {s.attr(), {x[x.rank() - 2], x[x.rank() - 1]}})};
        },
    .samples = {{{{{1, 2, 6, 75}}}, {2}},
                {{{{2, 2, 7, 7}}}, {2}},
                {{{{1, 37, 5}}}, {3, Pair(1), 1}},
                {{{{1, 1, 5, 37}}}, {3, Pair(2), 1, true, false}},
                {{{{1, 1, 1, 1}}}, {1}},
                {{{{2, 1, 6, 20}}}, {{2, 3}, Pair(1), {1, 0}, false, true}},
                {{{{1, 1, 7, 8}}}, {3, Pair(3, 2), 1, true, true}}},
}};

}  // namespace

Tensor avg_pool2d(const Tensor& x, Pair kernel_size, std::optional<Pair> stride, Pair padding,
                  bool ceil_mode, bool count_include_pad) {
  return avg_pool2d_op.one({x}, {kernel_size, stride, padding, ceil_mode, count_include_pad});
}

}  // namespace wattle
