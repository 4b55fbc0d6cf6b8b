// Gradient of the weights as outer products: gw[c,r,s][k] += x[n,c,h,w] * gy[n,p,q][k], output
// channels in the lanes. x is broadcast from where it lies, gy is transposed to [pixel][k]; taps in
// the padding are skipped. Any stride, dilation and group count.
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/simd.h"
#include "ops/conv2d_grad_weight.h"
#include "ops/conv2d_tile.h"

namespace wattle::conv {
namespace {

template <int N>
constexpr int outer_rows = N == 16  ? 9
                           : N == 8 ? 6
                                    : 3;

struct Outer {
  int64_t cg, kg, taps, vectors, panels, blocks, images;  // images of one pass
  int64_t partial;                                        // floats of one block's partial result
};

template <int N>
Outer outer_plan(const Geometry& g) {
  Outer o;
  o.cg = g.c / g.groups, o.kg = g.k / g.groups, o.taps = g.r * g.s;
  o.vectors = ceil_div(o.kg, N), o.panels = ceil_div(o.vectors, 2);
  o.partial = g.groups * o.vectors * N * o.cg * o.taps;
  o.blocks = image_blocks(g, g.groups * o.panels, o.partial);
  o.images = std::max<int64_t>(1, kPanelFloats / (g.ho * g.wo * 2 * N));
  return o;
}

// panel[pixel][lane] = gy[k + lane][pixel] for V vectors of output channels; `left` floats of gy
// are readable from src on. Lanes past the last channel repeat it: their results are dropped.
template <int N, int V>
WATTLE_FORCE_INLINE void pack_gy(const float* src, int64_t channels, int64_t pixels, float* panel) {
  for (int64_t e = 0; e < pixels; e += N) {
    const int64_t at = pixels < N ? 0 : std::min(e, pixels - N);
    const int64_t valid = std::min<int64_t>(N, pixels);
    for (int j = 0; j < V; ++j) {
      simd::f32<N> v[N];
      if (valid == N && (j + 1) * N <= channels) {
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) v[i] = simd::load<N>(src + (j * N + i) * pixels + at);
      } else {
        for (int i = 0; i < N; ++i) {
          v[i] = simd::f32<N>{};
          std::memcpy(&v[i], src + std::min<int64_t>(j * N + i, channels - 1) * pixels + at,
                      static_cast<size_t>(valid) * sizeof(float));
        }
      }
      transpose<N>(v);
      for (int i = 0; i < valid; ++i) simd::store<N>(panel + ((at + i) * V + j) * N, v[i]);
    }
  }
}

// One tap of M input channels and V vectors of output channels over `images` images.
struct Tap {
  const float *x, *gy;  // first valid pixel; x [image][c][h][w], gy [image][pixel][V * N]
  int64_t images, rows, cols;
  int64_t x_image, x_channel, x_row, x_col, gy_image, gy_row;
  float* partial;  // [v][c][tap][N]
  int64_t partial_v, partial_c;
};

template <int N, int M, int V>
WATTLE_FORCE_INLINE void outer_tap(const Tap& t) {
  simd::f32<N> acc[M][V] = {};
  for (int64_t n = 0; n < t.images; ++n)
    for (int64_t h = 0; h < t.rows; ++h) {
      const float* x = t.x + n * t.x_image + h * t.x_row;
      const float* gy = t.gy + n * t.gy_image + h * t.gy_row;
      for (int64_t w = 0; w < t.cols; ++w, x += t.x_col, gy += V * N) {
        simd::f32<N> v[V];
#pragma GCC unroll 2
        for (int j = 0; j < V; ++j) v[j] = simd::load<N>(gy + j * N);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          const simd::f32<N> b = simd::set1<N>(x[m * t.x_channel]);
#pragma GCC unroll 2
          for (int j = 0; j < V; ++j) acc[m][j] += b * v[j];
        }
      }
    }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) {
      float* p = t.partial + m * t.partial_c + j * t.partial_v;
      simd::store<N>(p, simd::load<N>(p) + acc[m][j]);
    }
}

template <int N, int M, int V>
WATTLE_FORCE_INLINE void outer_rows_of(const Tap& t, int64_t m) {
  if (m == M) {
    outer_tap<N, M, V>(t);
  } else if constexpr (M > 1) {
    outer_rows_of<N, M - 1, V>(t, m);
  }
}

// Adds images [n0, n1) to V vectors of output channels from `first` on, of one group.
template <int N, int V>
WATTLE_FORCE_INLINE void outer_panel(const Geometry& g, const Outer& o, int64_t group,
                                     int64_t first, int64_t n0, int64_t n1, const float* gy,
                                     const float* x, float* panel, float* partial) {
  const int64_t pixels = g.ho * g.wo, plane = g.h * g.w;
  for (int64_t n = n0; n < n1; ++n)
    pack_gy<N, V>(gy + (n * g.k + group * o.kg + first) * pixels, o.kg - first, pixels,
                  panel + (n - n0) * pixels * V * N);
  const int64_t splits = ceil_div(o.cg, outer_rows<N>);
  for (int64_t i = 0; i < splits; ++i) {
    const Span c = part_of(o.cg, splits, i);
    const float* src = x + (n0 * g.c + group * o.cg + c.begin) * plane;
    for (int64_t t = 0; t < o.taps; ++t) {
      const int64_t dr = t / g.s * g.dil_h, ds = t % g.s * g.dil_w;
      const Span rows = valid_outputs(g.h, g.ho, g.stride_h, g.pad_h, dr);
      const Span cols = valid_outputs(g.w, g.wo, g.stride_w, g.pad_w, ds);
      if (rows.size() <= 0 || cols.size() <= 0) continue;
      const int64_t row = rows.begin * g.stride_h - g.pad_h + dr;
      const int64_t col = cols.begin * g.stride_w - g.pad_w + ds;
      const Tap tap{src + row * g.w + col,
                    panel + (rows.begin * g.wo + cols.begin) * V * N,
                    n1 - n0,
                    rows.size(),
                    cols.size(),
                    g.c * plane,
                    plane,
                    g.stride_h * g.w,
                    g.stride_w,
                    pixels * V * N,
                    g.wo * V * N,
                    partial + (c.begin * o.taps + t) * N,
                    o.cg * o.taps * N,
                    o.taps * N};
      outer_rows_of<N, outer_rows<N>, V>(tap, c.size());
    }
  }
}

// gw[k][c][tap] = sum over blocks of partial[block][group][v][c][tap][N] for one (group, v).
template <int N>
WATTLE_FORCE_INLINE void outer_finish(const Outer& o, int64_t i, const float* partial, float* gw) {
  const int64_t rows = o.cg * o.taps, group = i / o.vectors, k = i % o.vectors * N;
  const float* src = partial + i * rows * N;
  float* dst = gw + (group * o.kg + k) * rows;
  for (int64_t t = 0; t < rows; t += N) {
    simd::f32<N> v[N];
    const int64_t valid = std::min<int64_t>(N, rows - t);
    for (int64_t j = 0; j < N; ++j) {
      v[j] = simd::f32<N>{};
      for (int64_t b = 0; j < valid && b < o.blocks; ++b)
        v[j] += simd::load<N>(src + b * o.partial + (t + j) * N);
    }
    transpose<N>(v);
    for (int64_t j = 0; j < N && k + j < o.kg; ++j)
      std::memcpy(dst + j * rows + t, &v[j], static_cast<size_t>(valid) * sizeof(float));
  }
}

}  // namespace

template <class Isa>
void outer(const Geometry& g, const float* gy, const float* x, float* gw) {
  const Outer o = outer_plan<Isa::width>(g);
  float* partial = scratch(Slot::partial, o.blocks * o.partial);
  const int64_t rows = o.cg * o.taps * Isa::width;  // partial floats of one vector of channels
  parallel_chunks(o.blocks * g.groups * o.panels, [&](int64_t chunk) {
    const Span images = part_of(g.n, o.blocks, chunk / (g.groups * o.panels));
    const int64_t group = chunk / o.panels % g.groups;
    const Span v = part_of(o.vectors, o.panels, chunk % o.panels);
    float* panel = scratch(Slot::output, o.images * g.ho * g.wo * 2 * Isa::width);
    float* sums =
        partial + chunk / (g.groups * o.panels) * o.partial + (group * o.vectors + v.begin) * rows;
    std::fill(sums, sums + v.size() * rows, 0.0f);
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t n = images.begin; n < images.end; n += o.images) {
        const int64_t end = std::min(n + o.images, images.end);
        if (v.size() == 2) outer_panel<N, 2>(g, o, group, v.begin * N, n, end, gy, x, panel, sums);
        else outer_panel<N, 1>(g, o, group, v.begin * N, n, end, gy, x, panel, sums);
      }
    });
  });
  parallel_chunks(g.groups * o.vectors, [&](int64_t i) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY { outer_finish<N>(o, i, partial, gw); });
  });
}

template <class Isa>
Work outer_work(const Geometry& g) {
  const Outer o = outer_plan<Isa::width>(g);
  const int64_t lanes = g.groups * o.vectors * Isa::width, pixels = g.ho * g.wo;
  const int64_t splits = ceil_div(o.cg, outer_rows<Isa::width>);
  int64_t tap_pixels = 0, used_taps = 0, passes = 0;
  for (int64_t t = 0; t < o.taps; ++t) {
    const int64_t rows = valid_outputs(g.h, g.ho, g.stride_h, g.pad_h, t / g.s * g.dil_h).size();
    const int64_t cols = valid_outputs(g.w, g.wo, g.stride_w, g.pad_w, t % g.s * g.dil_w).size();
    if (rows > 0 && cols > 0) tap_pixels += rows * cols, ++used_taps;
  }
  for (int64_t b = 0; b < o.blocks; ++b)
    passes += ceil_div(part_of(g.n, o.blocks, b).size(), o.images);
  const int64_t packed = g.n * lanes * pixels, sums = passes * used_taps * o.cg * lanes;
  Work k;
  k.mac = g.n * tap_pixels * o.cg * lanes;
  k.read =
      packed + g.n * tap_pixels * (lanes * splits + g.c * o.panels) + sums + o.blocks * o.partial;
  k.written = packed + sums + o.blocks * o.partial + g.k * o.cg * o.taps;
  k.read *= 4, k.written *= 4;
  return k;
}

#define WATTLE_CONV(ISA)                                                         \
  template void outer<ISA>(const Geometry&, const float*, const float*, float*); \
  template Work outer_work<ISA>(const Geometry&);
WATTLE_CONV(simd::Portable)
#if defined(__x86_64__)
WATTLE_CONV(simd::Avx2)
WATTLE_CONV(simd::Avx512)
#endif
#undef WATTLE_CONV

}  // namespace wattle::conv
