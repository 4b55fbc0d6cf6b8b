// Gradient of the weights as dot products, for few channels: planes of gy and x are copied into
// zero-padded planes of one row pitch, so that each tap is a constant shift and each gradient one
// long dot product over the flat plane. A stride takes x apart into its phases. Gaps and padding
// multiply by zero, so an Inf or NaN may reach taps that do not touch it.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "core/simd.h"
#include "ops/conv2d_grad_weight.h"
#include "ops/conv2d_tile.h"

namespace wattle::conv {
namespace {

// Taps of a register tile, besides 3 and 1.
template <int N>
constexpr int dot_taps = N == 16 ? 9 : 3;
constexpr int kDotChannels = 3;  // output channels of a register tile

struct Dot {
  int64_t cg, kg, taps, pitch, rows, flat, plane, blocks, images;
  std::vector<int64_t> phase_h, phase_w;  // phases of x that some tap reads
  std::vector<int64_t> shift;             // where a tap begins among one channel's phase planes
  int64_t x_image() const { return cg * static_cast<int64_t>(phase_h.size()) * plane; }
  int64_t gy_image() const { return kg * flat; }
};

template <int N>
Dot dot_plan(const Geometry& g) {
  Dot d;
  d.cg = g.c / g.groups, d.kg = g.k / g.groups, d.taps = g.r * g.s;
  const int64_t shift_h = (g.r - 1) * g.dil_h / g.stride_h;
  const int64_t shift_w = (g.s - 1) * g.dil_w / g.stride_w;
  d.pitch = g.wo + shift_w, d.rows = g.ho + shift_h;
  d.flat = round_up((g.ho - 1) * d.pitch + g.wo, N);
  // A copied row may end with up to a vector of zeros behind it.
  d.plane = round_up(d.flat + shift_h * d.pitch + shift_w + N, N);
  for (int64_t t = 0; t < d.taps; ++t) {
    const int64_t h = t / g.s * g.dil_h, w = t % g.s * g.dil_w;
    size_t p = 0;
    while (p < d.phase_h.size() &&
           (d.phase_h[p] != h % g.stride_h || d.phase_w[p] != w % g.stride_w))
      ++p;
    if (p == d.phase_h.size()) {
      d.phase_h.push_back(h % g.stride_h), d.phase_w.push_back(w % g.stride_w);
    }
    d.shift.push_back(static_cast<int64_t>(p) * d.plane + h / g.stride_h * d.pitch +
                      w / g.stride_w);
  }
  d.blocks = image_blocks(g, 1, g.k * d.cg * d.taps);
  d.images = std::max<int64_t>(1, 2 * kPanelFloats / (d.x_image() + d.gy_image()));
  return d;
}

// dst[i] = src[i * step] for i < n, zeros up to the next whole vector; no read at or after `end`.
template <int N>
WATTLE_FORCE_INLINE void copy_row(const float* src, int64_t n, int64_t step, const float* end,
                                  float* dst) {
  simd::i32<N> lane;
  for (int i = 0; i < N; ++i) lane[i] = i;
  if (step != 1) {
    for (int64_t i = 0; i < n; ++i) dst[i] = src[i * step];
    return;
  }
  for (int64_t i = 0; i < n; i += N) {
    simd::f32<N> v{};
    if (src + i + N <= end) v = simd::load<N>(src + i);
    else std::memcpy(&v, src + i, static_cast<size_t>(n - i) * sizeof(float));
    const simd::i32<N> inside = lane < static_cast<int32_t>(std::min<int64_t>(n - i, N));
    simd::store<N>(dst + i, inside ? v : simd::f32<N>{});
  }
}

template <int N>
WATTLE_FORCE_INLINE void zero(float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += N) simd::store<N>(p + i, simd::f32<N>{});
}

// Phase (ph, pw) of one plane of x: dst[i][j] = x[i * stride_h + ph - pad_h][j * stride_w + ...].
template <int N>
WATTLE_FORCE_INLINE void pack_phase(const Geometry& g, const Dot& d, size_t phase, const float* x,
                                    const float* end, float* dst) {
  zero<N>(dst, d.plane);
  const int64_t col = d.phase_w[phase] - g.pad_w;
  const int64_t lo = col >= 0 ? 0 : ceil_div(-col, g.stride_w);
  const int64_t hi = col >= g.w ? 0 : std::min(d.pitch, ceil_div(g.w - col, g.stride_w));
  if (lo >= hi) return;
  for (int64_t i = 0; i < d.rows; ++i) {
    const int64_t row = i * g.stride_h + d.phase_h[phase] - g.pad_h;
    if (row >= 0 && row < g.h)
      copy_row<N>(x + row * g.w + lo * g.stride_w + col, hi - lo, g.stride_w, end,
                  dst + i * d.pitch + lo);
  }
}

struct DotTile {
  const float *gy, *x;
  const int64_t* shift;
  int64_t images, flat, gy_image, x_image;
  float* sums;  // [k][c][tap][N]
  int64_t sums_k;
};

template <int N, int K, int T>
WATTLE_FORCE_INLINE void dot_tile(const DotTile& d) {
  simd::f32<N> acc[K][T] = {};
  for (int64_t n = 0; n < d.images; ++n) {
    const float* gy = d.gy + n * d.gy_image;
    const float* x = d.x + n * d.x_image;
    for (int64_t i = 0; i < d.flat; i += N) {
      simd::f32<N> v[K];
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) v[k] = simd::load<N>(gy + k * d.flat + i);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        simd::f32<N> b = simd::load<N>(x + d.shift[t] + i);
        keep<N>(b);
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) acc[k][t] += b * v[k];
      }
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k)
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      float* p = d.sums + k * d.sums_k + t * N;
      simd::store<N>(p, simd::load<N>(p) + acc[k][t]);
    }
}

template <int N, int T>
WATTLE_FORCE_INLINE void dot_channels(const DotTile& d, int64_t k) {
  if (k == 3) dot_tile<N, 3, T>(d);
  else if (k == 2) dot_tile<N, 2, T>(d);
  else dot_tile<N, 1, T>(d);
}

// Adds images [n0, n1) of one group to sums [k][c][tap][N].
template <int N>
WATTLE_FORCE_INLINE void dot_images(const Geometry& g, const Dot& d, int64_t group, int64_t n0,
                                    int64_t n1, const float* gy, const float* x, float* px,
                                    float* pgy, float* sums) {
  const int64_t pixels = g.ho * g.wo, plane = g.h * g.w, phases = std::ssize(d.phase_h);
  const float *gy_end = gy + g.n * g.k * pixels, *x_end = x + g.n * g.c * plane;
  for (int64_t n = n0; n < n1; ++n) {
    for (int64_t k = 0; k < d.kg; ++k) {
      float* dst = pgy + (n - n0) * d.gy_image() + k * d.flat;
      const float* src = gy + (n * g.k + group * d.kg + k) * pixels;
      zero<N>(dst, d.flat);
      for (int64_t i = 0; i < g.ho; ++i)
        copy_row<N>(src + i * g.wo, g.wo, 1, gy_end, dst + i * d.pitch);
    }
    for (int64_t c = 0; c < d.cg; ++c)
      for (int64_t p = 0; p < phases; ++p)
        pack_phase<N>(g, d, static_cast<size_t>(p), x + (n * g.c + group * d.cg + c) * plane, x_end,
                      px + (n - n0) * d.x_image() + (c * phases + p) * d.plane);
  }
  const int64_t splits = ceil_div(d.kg, kDotChannels);
  for (int64_t c = 0; c < d.cg; ++c)
    for (int64_t i = 0; i < splits; ++i) {
      const Span k = part_of(d.kg, splits, i);
      for (int64_t t = 0; t < d.taps;) {
        const int64_t left = d.taps - t;
        const DotTile tile{pgy + k.begin * d.flat,
                           px + c * phases * d.plane,
                           d.shift.data() + t,
                           n1 - n0,
                           d.flat,
                           d.gy_image(),
                           d.x_image(),
                           sums + ((k.begin * d.cg + c) * d.taps + t) * N,
                           d.cg * d.taps * N};
        if (left >= dot_taps<N>) dot_channels<N, dot_taps<N>>(tile, k.size()), t += dot_taps<N>;
        else if (left >= 3) dot_channels<N, 3>(tile, k.size()), t += 3;
        else dot_channels<N, 1>(tile, k.size()), t += 1;
      }
    }
}

}  // namespace

template <class Isa>
void dot(const Geometry& g, const float* gy, const float* x, float* gw) {
  const Dot d = dot_plan<Isa::width>(g);
  const int64_t group_size = d.kg * d.cg * d.taps, total = g.groups * group_size;
  float* partial = scratch(Slot::partial, d.blocks * total);
  parallel_chunks(d.blocks * g.groups, [&](int64_t chunk) {
    const Span images = part_of(g.n, d.blocks, chunk / g.groups);
    const int64_t group = chunk % g.groups;
    // A last row may be followed by a vector of zeros.
    const int64_t padded = round_up(group_size, Isa::width);
    float* px = scratch(Slot::input, d.images * d.x_image() + padded * Isa::width);
    float* sums = px + d.images * d.x_image();
    float* pgy = scratch(Slot::output, d.images * d.gy_image() + Isa::width);
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      zero<N>(sums, padded * N);
      for (int64_t n = images.begin; n < images.end; n += d.images)
        dot_images<N>(g, d, group, n, std::min(n + d.images, images.end), gy, x, px, pgy, sums);
      float* dst = partial + chunk / g.groups * total + group * group_size;
      for (int64_t i = 0; i < group_size; i += N) {
        simd::f32<N> v[N], sum{};
        for (int j = 0; j < N; ++j) v[j] = simd::load<N>(sums + (i + j) * N);
        transpose<N>(v);
        for (int j = 0; j < N; ++j) sum += v[j];
        std::memcpy(dst + i, &sum, std::min<size_t>(N, group_size - i) * sizeof(float));
      }
    });
  });
  for (int64_t i = 0; i < total; ++i) {
    float sum = 0;
    for (int64_t b = 0; b < d.blocks; ++b) sum += partial[b * total + i];
    gw[i] = sum;
  }
}

template <class Isa>
Work dot_work(const Geometry& g) {
  constexpr int N = Isa::width;
  const Dot d = dot_plan<N>(g);
  const int64_t phases = std::ssize(d.phase_h), weights = g.k * d.cg * d.taps;
  int64_t passes = 0, x_rows = 0, x_copied = 0;
  for (int64_t b = 0; b < d.blocks; ++b)
    passes += ceil_div(part_of(g.n, d.blocks, b).size(), d.images);
  for (size_t p = 0; p < d.phase_h.size(); ++p) {
    x_rows = valid_outputs(g.h, d.rows, g.stride_h, g.pad_h, d.phase_h[p]).size();
    x_copied += x_rows * valid_outputs(g.w, d.pitch, g.stride_w, g.pad_w, d.phase_w[p]).size();
  }
  int64_t tiles = d.taps / dot_taps<N>, left = d.taps % dot_taps<N>;
  tiles += left / 3 + left % 3;
  const int64_t splits = ceil_div(d.kg, kDotChannels);
  const int64_t gy = g.k * g.ho * g.wo, sums = passes * weights * N;
  Work k;
  k.mac = g.n * weights * d.flat;
  k.read = g.n * (gy + g.c * x_copied) + g.n * d.flat * g.c * (d.kg * tiles + splits * d.taps) +
           sums + d.blocks * weights * (N + 1);
  k.written = g.n * (g.k * d.flat + gy + g.c * (phases * d.plane + x_copied)) + sums +
              d.blocks * weights * (N + 1) + weights;
  k.read *= 4, k.written *= 4;
  return k;
}

#define WATTLE_CONV(ISA)                                                       \
  template void dot<ISA>(const Geometry&, const float*, const float*, float*); \
  template Work dot_work<ISA>(const Geometry&);
WATTLE_CONV(simd::Portable)
#if defined(__x86_64__)
WATTLE_CONV(simd::Avx2)
WATTLE_CONV(simd::Avx512)
#endif
#undef WATTLE_CONV

}  // namespace wattle::conv
