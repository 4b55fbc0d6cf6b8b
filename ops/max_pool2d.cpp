// max_pool2d: y[n,c,oh,ow] = max over kh, kw of x[n,c, oh*sh - ph + kh*dh, ow*sw - pw + kw*dw].
// Padding counts as minus infinity. A second result holds, for backward, the number kh * KW + kw of
// the tap that won: one byte where a window has at most 256 taps, else i32.
// The gradient of y goes to that tap; both directions are linear in it.
#include "ops/max_pool2d_kernels.h"

namespace wattle {
namespace {

using namespace pool2d;

struct MaxPoolAttr {
  Pair kernel_size;
  std::optional<Pair> stride;
  Pair padding = 0, dilation = 1;
  bool ceil_mode = false;
  template <class V>
  void visit(V&& v) {
    v("kernel_size", kernel_size), v("stride", stride), v("padding", padding);
    v("dilation", dilation), v("ceil_mode", ceil_mode);
  }
};

struct MaxPoolGradAttr : MaxPoolAttr {
  Pair input_size;  // H and W of x
  template <class V>
  void visit(V&& v) {
    MaxPoolAttr::visit(v);
    v("input_size", input_size);
  }
};

Geometry windows(const char* op, const Shape& x, const MaxPoolAttr& a) {
  return geometry(op, x, a.kernel_size, a.stride, a.padding, a.dilation, a.ceil_mode);
}

template <class F>
void dispatch_tap(const Tensor& t, F&& fn) {
  if (t.dtype() == DType::u8) return fn(t.data<uint8_t>());
  return fn(t.data<int32_t>());
}

// ---- max_pool2d ----

void max_pool2d_ref(Ins in, Outs out, const MaxPoolAttr& a) {
  const Geometry g = windows("max_pool2d", in[0].shape(), a);
  dispatch_all("max_pool2d", in[0].dtype(), [&]<class T>() {
    const T* x = in[0].data<T>();
    T* y = out[0].data<T>();
    dispatch_tap(out[1], [&](auto* tap) {
      for (int64_t p = 0; p < g.planes; ++p)
        for (int64_t oh = 0; oh < g.h.out; ++oh)
          for (int64_t ow = 0; ow < g.w.out; ++ow) {
            const int64_t o = (p * g.h.out + oh) * g.w.out + ow;
            max_window(g, x + p * g.in_plane(), oh, ow, y[o], tap[o]);
          }
    });
  });
}

template <class Isa>
void max_pool2d_simd(Ins in, Outs out, const MaxPoolAttr& a) {
  const Geometry g = windows("max_pool2d", in[0].shape(), a);
  const float* x = in[0].data<float>();
  float* y = out[0].data<float>();
  dispatch_tap(out[1], [&]<class I>(I* tap) {
    parallel_for(g.planes, planes_per_task(g), [&](int64_t p0, int64_t p1) {
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        const Geometry local = g;
        with_lanes<N>(g.w.inner_end() - g.w.inner_begin(), [&]<int M>() WATTLE_INLINE_BODY {
          if constexpr (std::is_same_v<I, uint8_t>)
            if (is_2x2(local)) return max_2x2_planes<M>(local, p0, p1, x, y, tap);
          max_planes<M>(local, p0, p1, x, y, tap);
        });
      });
    });
  });
}

Metas max_pool2d_shape(Ins in, const MaxPoolAttr& a) {
  rules::arity("max_pool2d", in, 1, 1);
  if (in[0].dtype() == DType::boolean)
    throw dtype_error(str("max_pool2d: input is ", in[0], ", expected numbers"));
  const Geometry g = windows("max_pool2d", in[0].shape(), a);
  const Shape y = with_planes(in[0].shape(), g.h.out, g.w.out);
  return {{y, in[0].dtype()}, {y, g.taps() <= 256 ? DType::u8 : DType::i32}};
}

// A window of t taps in bounds takes t - 1 comparisons.
Cost max_pool2d_cost(Ins in, std::span<const Meta>, const MaxPoolAttr& a) {
  const Geometry g = windows("max_pool2d", in[0].shape(), a);
  const Tally h = tally(g.h), w = tally(g.w);
  return {.cmp = g.planes * (h.taps * w.taps - h.nonempty * w.nonempty)};
}

Bytes max_pool2d_bytes(Ins in, std::span<const Meta> out, const MaxPoolAttr& a) {
  const Geometry g = windows("max_pool2d", in[0].shape(), a);
  Bytes b = default_bytes(in, out, {});
  b.read = storage_bytes({g.planes * tally(g.h).covered * tally(g.w).covered}, in[0].dtype());
  return b;
}

// ---- max_pool2d_grad: gy, tap [N,C,Ho,Wo] -> gx [N,C,H,W] ----

Geometry grad_windows(const char* op, const Shape& y, const MaxPoolGradAttr& a) {
  if (y.rank() != 3 && y.rank() != 4)
    throw shape_error(str(op, ": gradient is ", y, ", expected [N, C, H, W] or [C, H, W]"));
  const Geometry g = windows(op, with_planes(y, a.input_size.h, a.input_size.w), a);
  if (with_planes(y, g.h.out, g.w.out) != y)
    throw shape_error(str(op, ": gradient is ", y, ", expected planes of ", g.h.out, " x ", g.w.out,
                          " for an input of ", a.input_size.h, " x ", a.input_size.w));
  return g;
}

void max_pool2d_grad_ref(Ins in, Outs out, const MaxPoolGradAttr& a) {
  const Geometry g = grad_windows("max_pool2d_grad", in[0].shape(), a);
  dispatch_floating("max_pool2d_grad", in[0].dtype(), [&]<class T>() {
    const T* gy = in[0].data<T>();
    T* gx = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gx[i] = T(0);
    dispatch_tap(in[1], [&]<class I>(const I* tap) {
      const TapOffsets<I> offsets(g);
      for (int64_t p = 0; p < g.planes; ++p)
        scatter_plane(g, offsets, gy + p * g.out_plane(), tap + p * g.out_plane(),
                      gx + p * g.in_plane());
    });
  });
}

template <class Isa>
void max_pool2d_grad_simd(Ins in, Outs out, const MaxPoolGradAttr& a) {
  const Geometry g = grad_windows("max_pool2d_grad", in[0].shape(), a);
  const float* gy = in[0].data<float>();
  float* gx = out[0].data<float>();
  dispatch_tap(in[1], [&]<class I>(const I* tap) {
    parallel_for(g.planes, planes_per_task(g), [&](int64_t p0, int64_t p1) {
      Isa::call([&]<int N>() WATTLE_INLINE_BODY {
        const Geometry local = g;
        if constexpr (std::is_same_v<I, uint8_t>)
          if (is_2x2(local)) {
            // A plane that the tiles left half done is done again as a whole.
            const bool small = N >= 8 && local.w.out < 8;
            const int64_t next = small ? grad_2x2_tiles<N>(local, p0, p1, gy, tap, gx) : p0;
            return grad_2x2_planes<(N < 8 ? N : 8)>(local, next, p1, gy, tap, gx);
          }
        const TapOffsets<I> offsets(local);
        std::fill_n(gx + p0 * local.in_plane(), (p1 - p0) * local.in_plane(), 0.f);
        for (int64_t p = p0; p < p1; ++p)
          scatter_plane(local, offsets, gy + p * local.out_plane(), tap + p * local.out_plane(),
                        gx + p * local.in_plane());
      });
    });
  });
}

void check_tap(const char* op, Ins in, const Shape& expected) {
  if (in[1].dtype() != DType::u8 && in[1].dtype() != DType::i32)
    throw dtype_error(str(op, ": index is ", in[1], ", expected u8 or i32"));
  if (in[1].shape() != expected)
    throw shape_error(str(op, ": index is ", in[1], ", expected shape ", expected));
}

Metas max_pool2d_grad_shape(Ins in, const MaxPoolGradAttr& a) {
  rules::arity("max_pool2d_grad", in, 2, 2);
  rules::floating("max_pool2d_grad", in, 0);
  check_tap("max_pool2d_grad", in, in[0].shape());
  grad_windows("max_pool2d_grad", in[0].shape(), a);
  return {{with_planes(in[0].shape(), a.input_size.h, a.input_size.w), in[0].dtype()}};
}

// One addition per window that has a tap in bounds.
Cost max_pool2d_grad_cost(Ins in, std::span<const Meta>, const MaxPoolGradAttr& a) {
  const Geometry g = grad_windows("max_pool2d_grad", in[0].shape(), a);
  return {.add = g.planes * tally(g.h).nonempty * tally(g.w).nonempty};
}

// ---- max_pool2d_gather: x [N,C,H,W], tap [N,C,Ho,Wo] -> y = x at the taps ----

void max_pool2d_gather_ref(Ins in, Outs out, const MaxPoolAttr& a) {
  const Geometry g = windows("max_pool2d_gather", in[0].shape(), a);
  dispatch_floating("max_pool2d_gather", in[0].dtype(), [&]<class T>() {
    dispatch_tap(in[1], [&](const auto* tap) {
      for (int64_t o = 0; o < out[0].numel(); ++o) {
        const T* x = in[0].data<T>() + o / g.out_plane() * g.in_plane();
        const int64_t oh = o / g.w.out % g.h.out, ow = o % g.w.out;
        T y = 0;
        for (int64_t kh = g.h.first(oh); kh < g.h.last(oh); ++kh)
          for (int64_t kw = g.w.first(ow); kw < g.w.last(ow); ++kw) {
            const T v =
                x[(g.h.start(oh) + kh * g.h.dilation) * g.w.in + g.w.start(ow) + kw * g.w.dilation];
            if (kh * g.w.kernel + kw == static_cast<int64_t>(tap[o])) y = v;
          }
        out[0].data<T>()[o] = y;
      }
    });
  });
}

Metas max_pool2d_gather_shape(Ins in, const MaxPoolAttr& a) {
  rules::arity("max_pool2d_gather", in, 2, 2);
  rules::floating("max_pool2d_gather", in, 0);
  const Geometry g = windows("max_pool2d_gather", in[0].shape(), a);
  const Shape y = with_planes(in[0].shape(), g.h.out, g.w.out);
  check_tap("max_pool2d_gather", in, y);
  return {{y, in[0].dtype()}};
}

Bytes max_pool2d_gather_bytes(Ins in, std::span<const Meta> out, const MaxPoolAttr& a) {
  Bytes b = max_pool2d_bytes(in.first(1), out, a);
  b.read += in[1].nbytes();
  return b;
}

Tensors max_pool2d_gather_backward(const Saved<MaxPoolAttr>& s, Ins gy);
Tensors max_pool2d_grad_backward(const Saved<MaxPoolGradAttr>& s, Ins gy);

SampleIn taps(const Shape& shape, double count, DType t = DType::u8) {
  return {shape, 0, count, SampleIn::integers, {}, t};
}

const Op<MaxPoolAttr> max_pool2d_gather_op{{
    .name = "max_pool2d_gather",
    .doc = "Values at the taps that max_pool2d chose: the gradient of its gradient",
    .equation = "y = x at the window's tap number index",
    .shape = max_pool2d_gather_shape,
    .cost = [](Ins, std::span<const Meta>, const MaxPoolAttr&) { return Cost{}; },
    .bytes = max_pool2d_gather_bytes,
    .kernels = {{"ref", max_pool2d_gather_ref}},
    .saves_in = {1},
    .backward = max_pool2d_gather_backward,
    .samples = {{{{{2, 2, 5, 6}}, taps({2, 2, 2, 3}, 4)}, {2}},
                {{{{1, 7, 7}}, taps({1, 3, 3}, 9)}, {3, 2}},
                {{{{1, 1, 1, 1}}, taps({1, 1, 1, 1}, 1)}, {1}}},
}};

const Op<MaxPoolGradAttr> max_pool2d_grad_op{{
    .name = "max_pool2d_grad",
    .doc = "Gradient of max_pool2d: every window's gradient goes to the tap that won",
    .equation = "gx[tap(o)] += gy[o]",
    .shape = max_pool2d_grad_shape,
    .cost = max_pool2d_grad_cost,
    .kernels = {simd_kernel<simd::Avx512>(max_pool2d_grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(max_pool2d_grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(max_pool2d_grad_simd<simd::Portable>),
                {"ref", max_pool2d_grad_ref}},
    .saves_in = {1},
    .backward = max_pool2d_grad_backward,
    .samples = {{{{{2, 3, 4, 7}}, taps({2, 3, 4, 7}, 4)}, {{2}, {8, 15}}},
                {{{{5, 3, 3}}, taps({5, 3, 3}, 4)}, {{2}, {7, 7}}},
                {{{{1, 2, 3, 37}}, taps({1, 2, 3, 37}, 4)}, {{2}, {6, 74}}},
                {{{{1, 1, 1, 1}}, taps({1, 1, 1, 1}, 4)}, {{2}, {2, 3}}},
                {{{{2, 3, 4}}, taps({2, 3, 4}, 9)}, {{3, Pair(2)}, {7, 9}}},
                {{{{1, 1, 2, 1}}, taps({1, 1, 2, 1}, 272, DType::i32)},
                 {{{16, 17}, Pair(1)}, {17, 17}}}},
}};

Tensors max_pool2d_gather_backward(const Saved<MaxPoolAttr>& s, Ins gy) {
  const Shape x = s.shape(0);
  return {max_pool2d_grad_op.one({gy[0], s.in(1)}, {s.attr(), {x[x.rank() - 2], x[x.rank() - 1]}})};
}

Tensors max_pool2d_grad_backward(const Saved<MaxPoolGradAttr>& s, Ins gy) {
  return {max_pool2d_gather_op.one({gy[0], s.in(1)}, s.attr())};
}

SampleIn distinct(const Shape& shape) { return {shape, -1, 1, SampleIn::distinct}; }

const Op<MaxPoolAttr> max_pool2d_op{{
    .name = "max_pool2d",
    .doc = "Largest value of every window",
    .equation = "y[oh,ow] = max over kh, kw of x[oh*s - p + kh*d, ow*s - p + kw*d]",
    .shape = max_pool2d_shape,
    .cost = max_pool2d_cost,
    .bytes = max_pool2d_bytes,
    .kernels = {simd_kernel<simd::Avx512>(max_pool2d_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(max_pool2d_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(max_pool2d_simd<simd::Portable>),
                {"ref", max_pool2d_ref}},
    .saves_out = {1},
    .spike_ins = {0},
    .backward =
        [](const Saved<MaxPoolAttr>& s, Ins gy) {
          const Shape x = s.shape(0);
          return Tensors{max_pool2d_grad_op.one({gy[0], s.out(1)},
                                                {s.attr(), {x[x.rank() - 2], x[x.rank() - 1]}})};
        },
    .samples = {{{distinct({2, 3, 8, 15})}, {2}},
                {{distinct({5, 7, 7})}, {2}},
                {{distinct({1, 2, 6, 74})}, {2}},
                {{distinct({3, 2, 3, 3})}, {2}},
                {{distinct({1, 1, 1, 1})}, {1}},
                {{distinct({1, 2, 9, 37})}, {3, Pair(2), 1}},
                {{distinct({2, 1, 6, 20})}, {{2, 3}, Pair(1), {1, 0}, {1, 2}}},
                {{distinct({2, 1, 5, 6})}, {2, {}, 0, 1, true}},
                {{distinct({1, 1, 7, 8})}, {3, Pair(3, 2), 1, 1, true}},
                {{distinct({1, 2, 2, 3})}, {{2, 1}, {}, {1, 0}, {3, 1}}},
                {{distinct({1, 1, 17, 18})}, {{16, 17}, Pair(1)}}},
}};

}  // namespace

Tensor max_pool2d(const Tensor& x, Pair kernel_size, std::optional<Pair> stride, Pair padding,
                  Pair dilation, bool ceil_mode) {
  return max_pool2d_op.one({x}, {kernel_size, stride, padding, dilation, ceil_mode});
}

}  // namespace wattle
