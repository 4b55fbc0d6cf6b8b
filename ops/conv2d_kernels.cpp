// Forward convolution and gradient of the input: one "gather" kernel for both.
//
// Sixteen images lie side by side in the lanes of a tile, in[pixel][channel][lane], so that every
// tap is a broadcast weight times whole vectors: no padded tap and no partial vector is ever
// computed, whatever the stride, dilation or (small) image. For one output pixel the taps of one
// kernel row are one contiguous run of (s, c) in the tile and in the packed weights.
// The gradient of the input gathers in the same way from gy, with flipped and transposed weights.
// Images that do not fill a tile (N mod 16 < 8) put 16 output pixels into the lanes instead: an
// im2col panel [(r,s,c)][lane] is then a single run of the same kernel.
#include "ops/conv2d_kernels.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/simd.h"
#include "ops/conv2d_gather.h"

namespace wattle::conv {
namespace {

// Packed weights: per group and block of output channels [r][s][ci][block]; a block that begins at
// output channel k begins at float (group * co + k) * r*s*ci.
// co_step, ci_step: strides of an output and an input channel of this gather in w.
void pack_weights(const Gather& q, const float* w, int64_t co_step, int64_t ci_step, bool flip,
                  int64_t block, float* packed) {
  const int64_t blocks = ceil_div(q.co, block), rs = q.rs(), group_size = q.co * q.ci * rs;
  const int64_t grain = ceil_div(1 << 14, q.ci * rs * block);
  parallel_for(q.groups * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Span span = part_of(q.co, blocks, i % blocks);
      const int64_t m = span.size();
      float* dst = packed + i / blocks * group_size + span.begin * q.ci * rs;
      for (int64_t k = 0; k < m; ++k) {
        const float* src = w + i / blocks * group_size + (span.begin + k) * co_step;
        for (int64_t c = 0; c < q.ci; ++c)
          for (int64_t t = 0; t < rs; ++t)
            dst[(t * q.ci + c) * m + k] = src[c * ci_step + (flip ? rs - 1 - t : t)];
      }
    }
  });
}

// ---- the kernel ---------------------------------------------------------------------------------

// Output rows [row0, row1) of M output channels; `in` holds input rows from in_row on.
struct Block {
  const Gather* q;
  int64_t row0, row1, in_row;
  const float *in, *weights, *bias;
  float* out;  // [pixel][q->co][kLanes], first channel of the block
};

template <int N, int M, int P>
WATTLE_FORCE_INLINE void run(simd::f32<N> (&acc)[M][P], const float* in, const float* w,
                             int64_t length) {
  for (int64_t i = 0; i < length; ++i, in += kLanes, w += M) {
    simd::f32<N> v[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) v[p] = simd::load<N>(in + p * N);
#pragma GCC unroll 32
    for (int m = 0; m < M; ++m) {
      const simd::f32<N> b = simd::set1<N>(w[m]);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[m][p] += b * v[p];
    }
  }
}

template <int N, int M>
WATTLE_FORCE_INLINE void pixel(const Block& b, int64_t o, int64_t u) {
  constexpr int P = kLanes / N;
  const Gather& q = *b.q;
  const Axis &rows = q.rows, &cols = q.cols;
  simd::f32<N> acc[M][P];
#pragma GCC unroll 32
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[m][p] = simd::set1<N>(b.bias ? b.bias[m] : 0.0f);
  // Taps of a kernel row that are neighbours in the tile and in the weights are one run.
  const bool merge = cols.in_step == 1 && cols.tap_step == 1;
  const int64_t runs = merge ? cols.count[u] > 0 : cols.count[u];
  const int64_t length = merge ? cols.count[u] * q.ci : q.ci;
  for (int64_t i = 0; i < rows.count[o]; ++i) {
    const int64_t in_row = rows.in0[o] + i * rows.in_step - b.in_row;
    const int64_t tap_row = rows.tap0[o] + i * rows.tap_step;
    for (int64_t j = 0; j < runs; ++j)
      run<N, M, P>(acc, b.in + (in_row * q.wi + cols.in0[u] + j * cols.in_step) * q.ci * kLanes,
                   b.weights + (tap_row * q.s + cols.tap0[u] + j * cols.tap_step) * q.ci * M,
                   length);
  }
  float* out = b.out + ((o - b.row0) * q.wo + u) * q.co * kLanes;
#pragma GCC unroll 32
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) simd::store<N>(out + m * kLanes + p * N, acc[m][p]);
}

template <int N, int M>
WATTLE_FORCE_INLINE void block(const Block& b, int64_t m) {
  if (m == M) {
    for (int64_t o = b.row0; o < b.row1; ++o)
      for (int64_t u = 0; u < b.q->wo; ++u) pixel<N, M>(b, o, u);
  } else if constexpr (M > 1) {
    block<N, M - 1>(b, m);
  }
}

// All output channels of group `group`; b.weights and b.bias are those of the whole call, b.out of
// the group.
template <int N>
WATTLE_FORCE_INLINE void group_blocks(Block b, int64_t group) {
  const Gather& q = *b.q;
  const int64_t blocks = ceil_div(q.co, max_block<N>), taps = q.ci * q.rs();
  for (int64_t i = 0; i < blocks; ++i) {
    const Span span = part_of(q.co, blocks, i);
    const int64_t first = group * q.co + span.begin;
    Block part = b;
    part.weights += first * taps;
    if (part.bias) part.bias += first;
    part.out += span.begin * kLanes;
    block<N, max_block<N>>(part, span.size());
  }
}

// ---- tiles of images ----------------------------------------------------------------------------

// A run of `length` floats, equal for all images of the tile, that begins at pixel `pixel` of
// channel `channel`; it may run on into the next channels only when `pixels` is the whole plane.
struct Run {
  int64_t channel, pixel, length, pixels, channels;
};

// dst[pixel][channel][lane] = src[lane][run]; lanes past `images` repeat the last image.
template <int N>
WATTLE_FORCE_INLINE void pack_run(const Run& r, const float* src, int64_t image_step,
                                  int64_t images, float* dst) {
  for (int64_t e = 0; e < r.length; e += N) {
    // The last vector is moved back to overlap its neighbour; only a run shorter than a vector
    // needs partial loads.
    const int64_t at = r.length < N ? 0 : std::min(e, r.length - N);
    const int64_t valid = std::min<int64_t>(N, r.length);
    for (int64_t lane = 0; lane < kLanes; lane += N) {
      simd::f32<N> v[N];
      if (valid == N && lane + N <= images) {
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) v[i] = simd::load<N>(src + (lane + i) * image_step + at);
      } else {
        for (int i = 0; i < N; ++i) {
          v[i] = simd::f32<N>{};
          const float* row = src + std::min(lane + i, images - 1) * image_step + at;
          std::memcpy(&v[i], row, static_cast<size_t>(valid) * sizeof(float));
        }
      }
      transpose<N>(v);
      int64_t c = r.channel + at / r.pixels, p = r.pixel + at % r.pixels;
      float* d = dst + (p * r.channels + c) * kLanes + lane;
      for (int i = 0; i < valid; ++i) {
        simd::store<N>(d, v[i]);
        d += r.channels * kLanes;
        if (++p == r.pixels) p = 0, ++c, d = dst + c * kLanes + lane;
      }
    }
  }
}

// dst[lane][run] = src[pixel][channel][lane] for the lanes below `images`.
template <int N>
WATTLE_FORCE_INLINE void unpack_run(const Run& r, const float* src, int64_t image_step,
                                    int64_t images, float* dst) {
  for (int64_t e = 0; e < r.length; e += N) {
    const int64_t at = r.length < N ? 0 : std::min(e, r.length - N);
    const int64_t valid = std::min<int64_t>(N, r.length);
    for (int64_t lane = 0; lane < kLanes; lane += N) {
      simd::f32<N> v[N];
      int64_t c = r.channel + at / r.pixels, p = r.pixel + at % r.pixels;
      const float* s = src + (p * r.channels + c) * kLanes + lane;
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) {
        v[i] = i < valid ? simd::load<N>(s) : simd::f32<N>{};
        s += r.channels * kLanes;
        if (++p == r.pixels) p = 0, ++c, s = src + c * kLanes + lane;
      }
      transpose<N>(v);
      if (valid == N && lane + N <= images) {
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) simd::store<N>(dst + (lane + i) * image_step + at, v[i]);
      } else {
        for (int i = 0; i < N && lane + i < images; ++i)
          std::memcpy(dst + (lane + i) * image_step + at, &v[i],
                      static_cast<size_t>(valid) * sizeof(float));
      }
    }
  }
}

// Rows [row0, row1) of `channels` planes [height][width] as runs.
template <class F>
WATTLE_FORCE_INLINE void for_runs(int64_t channels, int64_t height, int64_t width, int64_t row0,
                                  int64_t row1, const F& fn) {
  const int64_t pixels = (row1 - row0) * width;
  if (row1 - row0 == height) {
    fn(Run{0, 0, channels * pixels, pixels, channels}, int64_t{0});
  } else {
    for (int64_t c = 0; c < channels; ++c)
      fn(Run{c, 0, pixels, pixels, channels}, (c * height + row0) * width);
  }
}

struct Operands {
  const float *in, *weights, *bias;
  float* out;
};

template <class Isa>
void image_tile(const Gather& q, const Operands& a, int64_t first, int64_t images, Span rows) {
  const Span in = input_rows(q, rows);
  const int64_t plane_in = q.hi * q.wi, plane_out = q.ho * q.wo;
  const int64_t step_in = q.groups * q.ci * plane_in, step_out = q.groups * q.co * plane_out;
  float* tile_in = scratch(Slot::input, in.size() * q.wi * q.ci * kLanes);
  float* tile_out = scratch(Slot::output, rows.size() * q.wo * q.co * kLanes);
  for (int64_t group = 0; group < q.groups; ++group) {
    const float* src = a.in + first * step_in + group * q.ci * plane_in;
    float* dst = a.out + first * step_out + group * q.co * plane_out;
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      if (in.size() > 0)
        for_runs(q.ci, q.hi, q.wi, in.begin, in.end,
                 [&](const Run& r, int64_t offset) WATTLE_INLINE_BODY {
                   pack_run<N>(r, src + offset, step_in, images, tile_in);
                 });
      group_blocks<N>({&q, rows.begin, rows.end, in.begin, tile_in, a.weights, a.bias, tile_out},
                      group);
      for_runs(q.co, q.ho, q.wo, rows.begin, rows.end,
               [&](const Run& r, int64_t offset) WATTLE_INLINE_BODY {
                 unpack_run<N>(r, tile_out, step_out, images, dst + offset);
               });
    });
  }
}

// ---- tiles of output pixels ---------------------------------------------------------------------

// Where the output pixels of the lanes lie; lanes [used, kLanes) are empty.
struct Pixels {
  int64_t used;
  int64_t image[kLanes], row[kLanes], col[kLanes];
};

Pixels pixels_at(const Gather& q, const Phase& f, int64_t first) {
  Pixels p{std::min(kLanes, f.pixels - first), {}, {}, {}};
  for (int64_t lane = 0; lane < p.used; ++lane) {
    const int64_t i = first + lane, pixel = i % (f.height * f.width);
    p.image[lane] = tiled_images(q.n) + i / (f.height * f.width);
    p.row[lane] = f.row + pixel / f.width * q.rows.period;
    p.col[lane] = f.col + pixel % f.width * q.cols.period;
  }
  return p;
}

// Rows (c)[lane] of the panel for one tap, zero where it falls outside.
void pack_tap(const Gather& q, const float* in, int64_t group, const Pixels& p, int64_t r,
              int64_t s, float* panel) {
  const int64_t plane = q.hi * q.wi;
  int64_t from[kLanes];
  bool contiguous = p.used == kLanes;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t row = lane < p.used ? q.rows.at[p.row[lane] * q.r + r] : -1;
    const int64_t col = lane < p.used ? q.cols.at[p.col[lane] * q.s + s] : -1;
    from[lane] = row < 0 || col < 0
                     ? -1
                     : (p.image[lane] * q.groups + group) * q.ci * plane + row * q.wi + col;
    contiguous = contiguous && from[lane] >= 0 && from[lane] == from[0] + lane;
  }
  for (int64_t c = 0; c < q.ci; ++c) {
    float* dst = panel + c * kLanes;
    const float* src = in + c * plane;
    if (contiguous) {
      std::memcpy(dst, src + from[0], kLanes * sizeof(float));
    } else {
      for (int64_t lane = 0; lane < kLanes; ++lane)
        dst[lane] = from[lane] < 0 ? 0.0f : src[from[lane]];
    }
  }
}

template <class Isa>
void pixel_tile(const Gather& q, const Operands& a, const Phase& f, int64_t first) {
  const Pixels p = pixels_at(q, f, first);
  float* panel = scratch(Slot::input, f.taps_r * f.taps_s * q.ci * kLanes);
  float* tile = scratch(Slot::output, q.co * kLanes);
  // The panel is the image of a convolution with one output pixel.
  const Axis rows{{0}, {f.tap_r}, {f.taps_r}, {}, 1, q.rows.tap_step};
  const Axis cols{{0}, {f.tap_s}, {f.taps_s}, {}, 1, q.cols.tap_step};
  const Gather one{1, 1, q.ci, q.co, f.taps_r, f.taps_s, 1, 1, q.r, q.s, rows, cols};
  const int64_t plane = q.ho * q.wo;
  for (int64_t group = 0; group < q.groups; ++group) {
    for (int64_t t = 0; t < f.taps_r * f.taps_s; ++t)
      pack_tap(q, a.in, group, p, f.tap_r + t / f.taps_s * q.rows.tap_step,
               f.tap_s + t % f.taps_s * q.cols.tap_step, panel + t * q.ci * kLanes);
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      group_blocks<N>({&one, 0, 1, 0, panel, a.weights, a.bias, tile}, group);
    });
    for (int64_t lane = 0; lane < p.used; ++lane) {
      float* dst = a.out + (p.image[lane] * q.groups + group) * q.co * plane + p.row[lane] * q.wo +
                   p.col[lane];
      for (int64_t k = 0; k < q.co; ++k) dst[k * plane] = tile[k * kLanes + lane];
    }
  }
}

template <class Isa>
void gather(const Gather& q, const float* in, const float* w, int64_t co_step, int64_t ci_step,
            bool flip, const float* bias, float* out) {
  if (q.n * q.groups * q.co * q.ho * q.wo == 0) return;
  float* packed = scratch(Slot::weights, q.groups * q.co * q.ci * q.rs());
  pack_weights(q, w, co_step, ci_step, flip, max_block<Isa::width>, packed);
  const Operands a{in, packed, bias, out};
  const int64_t tiled = tiled_images(q.n), strips = strips_of(q);
  parallel_chunks(ceil_div(tiled, kLanes) * strips, [&](int64_t chunk) {
    const int64_t first = chunk / strips * kLanes;
    image_tile<Isa>(q, a, first, std::min(kLanes, tiled - first),
                    part_of(q.ho, strips, chunk % strips));
  });
  // Phase 0 has the most pixels.
  const int64_t tiles = ceil_div(phase_at(q, 0).pixels, kLanes);
  parallel_chunks(tiles * phases_of(q), [&](int64_t chunk) {
    const Phase f = phase_at(q, chunk / tiles);
    const int64_t first = chunk % tiles * kLanes;
    if (first < f.pixels) pixel_tile<Isa>(q, a, f, first);
  });
}

}  // namespace

template <class Isa>
void forward(const Geometry& g, const float* x, const float* w, const float* bias, float* y) {
  const int64_t rs = g.r * g.s;
  gather<Isa>(forward_gather(g), x, w, g.c / g.groups * rs, rs, false, bias, y);
}

template <class Isa>
void grad_input(const Geometry& g, const float* gy, const float* w, float* gx) {
  const int64_t rs = g.r * g.s;
  gather<Isa>(backward_gather(g), gy, w, rs, g.c / g.groups * rs, true, nullptr, gx);
}

#define WATTLE_CONV(ISA)                                                                         \
  template void forward<ISA>(const Geometry&, const float*, const float*, const float*, float*); \
  template void grad_input<ISA>(const Geometry&, const float*, const float*, float*);
WATTLE_CONV(simd::Portable)
#if defined(__x86_64__)
WATTLE_CONV(simd::Avx2)
WATTLE_CONV(simd::Avx512)
#endif
#undef WATTLE_CONV

}  // namespace wattle::conv
