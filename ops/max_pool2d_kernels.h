// f32 kernels of max_pool2d and its gradient, for any lane count. The index of a result is the
// number kh * KW + kw of its tap; the first largest value wins and not-a-number passes, as in
// PyTorch.
#pragma once
#include <limits>
#include <type_traits>
#include <utility>

#include "ops/pool2d.h"

namespace wattle::pool2d {

template <int N>
struct Best {
  simd::f32<N> value;
  simd::i32<N> tap;
};

// The later of two candidates wins only when it is larger or not a number. Two selections each:
// GCC 12 takes 512-bit masks apart lane by lane when they are combined first.
template <int N>
WATTLE_FORCE_INLINE Best<N> later_if_larger(const Best<N>& a, simd::f32<N> value,
                                            simd::i32<N> tap) {
  const simd::f32<N> larger = value > a.value ? value : a.value;
  const simd::i32<N> of_larger = value > a.value ? tap : a.tap;
  return {value != value ? value : larger, value != value ? tap : of_larger};
}

template <class T, int N>
struct Vec {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <int N>
using Lanes = std::make_integer_sequence<int, N>;

// The low byte of every lane -> p. A byte shuffle: GCC 12 converts i32 to u8 lane by lane.
template <int N>
WATTLE_FORCE_INLINE void store_taps(uint8_t* p, simd::i32<N> tap) {
  typedef typename Vec<uint8_t, 4 * N>::type Bytes;
  [&]<int... I>(std::integer_sequence<int, I...>) WATTLE_INLINE_BODY {
    const Bytes packed = __builtin_shuffle((Bytes)tap, Bytes{(I < N ? 4 * I : 0)...});
    std::memcpy(p, &packed, N);
  }
  (Lanes<4 * N>());
}
template <int N>
WATTLE_FORCE_INLINE void store_taps(int32_t* p, simd::i32<N> tap) {
  std::memcpy(p, &tap, sizeof tap);
}

// N bytes -> lanes: every lane takes the 32-bit word that holds its byte and shifts it down.
template <int N>
WATTLE_FORCE_INLINE simd::i32<N> load_taps(const uint8_t* p) {
  if constexpr (N < 8) {
    simd::i32<N> v;
    for (int i = 0; i < N; ++i) v[i] = p[i];
    return v;
  } else {
    typedef typename Vec<int32_t, N>::type Words;
    typedef typename Vec<uint32_t, N>::type Unsigned;
    typedef typename Vec<int64_t, N / 2>::type Halves;
    int64_t low, high = 0;
    std::memcpy(&low, p, 8);
    if (N == 16) std::memcpy(&high, p + 8, 8);
    const Halves zero{};
    return [&]<int... I, int... J>(std::integer_sequence<int, I...>,
                                   std::integer_sequence<int, J...>) WATTLE_INLINE_BODY {
      // lanes of 64 bits: low in the lower eight lanes of 32, high in the upper
      const Words halves = (Words)(Halves{(J < 4 ? -1 : 0)...} ? low - zero : high - zero);
      const Unsigned words = (Unsigned)__builtin_shuffle(halves, Words{(I / 8 * 8 + I / 4 % 2)...});
      return (simd::i32<N>)(words >> Unsigned{(8 * (I % 4))...} & 255u);
    }
    (Lanes<N>(), Lanes<N / 2>());
  }
}

// One window, scalar: what the reference does. x is its plane.
template <class T, class I>
WATTLE_FORCE_INLINE void max_window(const Geometry& g, const T* x, int64_t oh, int64_t ow, T& y,
                                    I& tap) {
  const int64_t h0 = g.h.first(oh), h1 = g.h.last(oh), w0 = g.w.first(ow), w1 = g.w.last(ow);
  if (h0 >= h1 || w0 >= w1) {
    y = std::numeric_limits<T>::has_infinity ? T(-std::numeric_limits<T>::infinity())
                                             : std::numeric_limits<T>::lowest();
    tap = 0;
    return;
  }
  // The winner's number and place are selected without branches: which tap wins is a coin toss, and
  // a wrong guess costs more than the comparison.
  const int64_t corner = g.h.start(oh) * g.w.in + g.w.start(ow);
  int64_t at = h0 * g.w.kernel + w0;
  int64_t place = corner + h0 * g.h.dilation * g.w.in + w0 * g.w.dilation;
  const int64_t first = at;
  for (int64_t kh = h0; kh < h1; ++kh)
    for (int64_t kw = w0; kw < w1; ++kw) {
      const int64_t k = kh * g.w.kernel + kw;
      if (k == first) continue;
      const int64_t here = corner + kh * g.h.dilation * g.w.in + kw * g.w.dilation;
      const T& v = x[here];
      const int64_t take =
          -(static_cast<int64_t>(v > x[place]) | static_cast<int64_t>(num::isnan(v)));
      at ^= (at ^ k) & take;
      place ^= (place ^ here) & take;
    }
  y = x[place];
  tap = static_cast<I>(at);
}

// ---- Any geometry: windows without padding left or right of them, `M` at once ----

template <int M, class I>
WATTLE_FORCE_INLINE void max_lanes_of_row(const Geometry& g, const float* x, int64_t oh, int64_t ow,
                                          float* y, I* tap) {
  Best<M> best{};
  bool any = false;
  for (int64_t kh = g.h.first(oh), last = g.h.last(oh); kh < last; ++kh) {
    const float* row = x + (g.h.start(oh) + kh * g.h.dilation) * g.w.in + g.w.start(ow);
    for (int64_t kw = 0; kw < g.w.kernel; ++kw) {
      const simd::f32<M> v = load_every<M>(row + kw * g.w.dilation, g.w.stride);
      const simd::i32<M> t = simd::i32<M>{} + static_cast<int32_t>(kh * g.w.kernel + kw);
      best = any ? later_if_larger<M>(best, v, t) : Best<M>{v, t};
      any = true;
    }
  }
  simd::store<M>(y, best.value);
  store_taps<M>(tap, best.tap);
}

template <int M, class I>
WATTLE_FORCE_INLINE void max_planes(const Geometry& g, int64_t p0, int64_t p1, const float* x,
                                    float* y, I* tap) {
  const int64_t w0 = g.w.inner_begin(), w1 = g.w.inner_end();
  const bool wide = g.w.stride <= 2 && w1 - w0 >= M;
  for (int64_t p = p0; p < p1; ++p)
    for (int64_t oh = 0; oh < g.h.out; ++oh) {
      const float* plane = x + p * g.in_plane();
      const int64_t o = p * g.out_plane() + oh * g.w.out;
      int64_t ow = 0;
      if (wide && g.h.last(oh) > g.h.first(oh)) {
        for (; ow < w0; ++ow) max_window(g, plane, oh, ow, y[o + ow], tap[o + ow]);
        for (; ow < w1; ow += M) {
          const int64_t at = std::min(ow, w1 - M);  // the last vector overlaps the one before
          max_lanes_of_row<M>(g, plane, oh, at, y + o + at, tap + o + at);
        }
        ow = w1;
      }
      for (; ow < g.w.out; ++ow) max_window(g, plane, oh, ow, y[o + ow], tap[o + ow]);
    }
}

// ---- 2x2 windows, stride 2, no padding ----

inline bool is_2x2(const Geometry& g) {
  const auto plain = [](const Axis& a) {
    return a.kernel == 2 && a.stride == 2 && a.pad == 0 && a.dilation == 1 && 2 * a.out <= a.in;
  };
  return plain(g.h) && plain(g.w);
}

// a, b: the two rows of the windows.
template <int M>
WATTLE_FORCE_INLINE void max_2x2_lanes(const float* a, const float* b, float* y, uint8_t* tap) {
  const simd::f32<M> a0 = simd::load<M>(a), a1 = simd::load<M>(a + M);
  const simd::f32<M> b0 = simd::load<M>(b), b1 = simd::load<M>(b + M);
  const simd::i32<M> zero{};
  Best<M> best = later_if_larger<M>({evens<M>(a0, a1), zero}, odds<M>(a0, a1), zero + 1);
  const Best<M> low = later_if_larger<M>({evens<M>(b0, b1), zero + 2}, odds<M>(b0, b1), zero + 3);
  best = later_if_larger<M>(best, low.value, low.tap);
  simd::store<M>(y, best.value);
  store_taps<M>(tap, best.tap);
}

WATTLE_FORCE_INLINE void max_2x2_one(const float* a, int64_t width, float& y, uint8_t& tap) {
  const float* b = a + width;
  const int64_t ta = (a[1] > a[0]) | (a[1] != a[1]), tb = (b[1] > b[0]) | (b[1] != b[1]);
  const float va = a[ta], vb = b[tb];
  const int64_t lower = (vb > va) | (vb != vb);
  const int64_t column = ta ^ ((ta ^ tb) & -lower);
  y = a[lower * width + column];
  tap = static_cast<uint8_t>(2 * lower + column);
}

// Vectors run past the end of a row of windows: what they write there is written again by the next
// row, so only rows whose vectors would leave the tensor or this task's results go one by one.
template <int M>
WATTLE_FORCE_INLINE void max_2x2_planes(const Geometry& g, int64_t p0, int64_t p1, const float* x,
                                        float* y, uint8_t* tap) {
  const int64_t width = g.w.in, wo = g.w.out, reach = (wo + M - 1) / M * M;
  const int64_t x_end = g.planes * g.in_plane(), y_end = p1 * g.out_plane();
  for (int64_t p = p0; p < p1; ++p)
    for (int64_t oh = 0; oh < g.h.out; ++oh) {
      const int64_t i = p * g.in_plane() + 2 * oh * width, o = p * g.out_plane() + oh * wo;
      const float *a = x + i, *b = a + width;
      if (wo >= 3 && i + width + 2 * reach <= x_end && o + reach <= y_end) {
        for (int64_t k = 0; k < wo; k += M)
          max_2x2_lanes<M>(a + 2 * k, b + 2 * k, y + o + k, tap + o + k);
      } else {
        for (int64_t k = 0; k < wo; ++k) max_2x2_one(a + 2 * k, width, y[o + k], tap[o + k]);
      }
    }
}

template <int M>
WATTLE_FORCE_INLINE void grad_2x2_lanes(const float* gy, const uint8_t* tap, float* a, float* b) {
  const simd::f32<M> g = simd::load<M>(gy), zero{};
  const simd::i32<M> t = load_taps<M>(tap);
  const simd::f32<M> g0 = t == 0 ? g : zero, g1 = t == 1 ? g : zero;
  const simd::f32<M> g2 = t == 2 ? g : zero, g3 = t == 3 ? g : zero;
  simd::store<M>(a, zip_low<M>(g0, g1));
  simd::store<M>(a + M, zip_high<M>(g0, g1));
  simd::store<M>(b, zip_low<M>(g2, g3));
  simd::store<M>(b + M, zip_high<M>(g2, g3));
}

WATTLE_FORCE_INLINE void grad_2x2_one(float g, uint8_t t, float* a, int64_t width) {
  a[0] = a[1] = a[width] = a[width + 1] = 0;
  if (t < 4) a[(t >> 1) * width + (t & 1)] = g;
}

// As above; columns from right to left, because what the upper row's last vector spills into the
// lower row must be written before that row's first vector.
template <int M>
WATTLE_FORCE_INLINE void grad_2x2_planes(const Geometry& g, int64_t p0, int64_t p1, const float* gy,
                                         const uint8_t* tap, float* gx) {
  const int64_t width = g.w.in, wo = g.w.out, reach = (wo + M - 1) / M * M;
  const int64_t y_end = g.planes * g.out_plane(), x_end = p1 * g.in_plane();
  for (int64_t p = p0; p < p1; ++p) {
    for (int64_t oh = 0; oh < g.h.out; ++oh) {
      const int64_t i = p * g.in_plane() + 2 * oh * width, o = p * g.out_plane() + oh * wo;
      float *a = gx + i, *b = a + width;
      if (wo >= 5 && o + reach <= y_end && i + width + 2 * reach <= x_end) {
        for (int64_t k = reach - M; k >= 0; k -= M)
          grad_2x2_lanes<M>(gy + o + k, tap + o + k, a + 2 * k, b + 2 * k);
      } else {
        for (int64_t k = 0; k < wo; ++k) grad_2x2_one(gy[o + k], tap[o + k], a + 2 * k, width);
      }
      if (width % 2) a[width - 1] = b[width - 1] = 0;
    }
    for (int64_t r = 2 * g.h.out; r < g.h.in; ++r)
      std::fill_n(gx + p * g.in_plane() + r * width, width, 0.f);
  }
}

// Small planes: a tile is a run of at most N results and of the inputs above them, `units` times
// `rows` rows of input that hold `pairs` rows of results. Input i is tap[i] of result from[i].
template <int N>
struct Tile {
  static constexpr int most = 160;  // the worst tile is N planes of 3x3
  int64_t results = 0, inputs = 0, vectors = 0;
  int32_t from[most], tap[most];

  void fill(const Geometry& g, int64_t rows, int64_t pairs, int64_t units) {
    const int64_t unit = pairs * g.w.out;
    results = units * unit;
    inputs = units * rows * g.w.in;
    vectors = (inputs + N - 1) / N;
    if (results > N || vectors * N > most) results = 0;
    if (results == 0) return;
    for (int64_t i = 0; i < vectors * N; ++i) {
      const int64_t r = i / g.w.in % rows, c = i % g.w.in, u = i / (rows * g.w.in);
      const bool used = u < units && r / 2 < pairs && c / 2 < g.w.out;
      from[i] = used ? static_cast<int32_t>(u * unit + r / 2 * g.w.out + c / 2) : 0;
      tap[i] = used ? static_cast<int32_t>(r % 2 * 2 + c % 2) : -1;
    }
  }
};

// Where no odd last row lies between them, pairs of rows follow each other through all planes; else
// a tile is some planes, or two tiles make one. False when no such tiling exists.
template <int N>
bool fill_tiles(const Geometry& g, Tile<N> (&tiles)[2], int& count) {
  const int64_t plane = g.out_plane(), pairs = N / g.w.out;
  count = 1;
  if (g.h.in % 2 == 0) {
    tiles[0].fill(g, 2, 1, pairs);
  } else if (plane <= N) {
    tiles[0].fill(g, g.h.in, g.h.out, N / plane);
  } else if (pairs > 0) {
    count = 2;
    tiles[0].fill(g, 2 * pairs, pairs, 1);
    tiles[1].fill(g, g.h.in - 2 * pairs, g.h.out - pairs, 1);
  }
  return tiles[0].results > 0 && (count == 1 || tiles[1].results > 0);
}

template <int N>
WATTLE_FORCE_INLINE void grad_tile(const Tile<N>& tile, const float* gy, const uint8_t* tap,
                                   float* gx) {
  const simd::f32<N> g = simd::load<N>(gy), zero{};
  const simd::i32<N> t = load_taps<N>(tap);
  for (int64_t v = 0; v < tile.vectors; ++v) {
    simd::i32<N> from, wanted;
    std::memcpy(&from, tile.from + v * N, sizeof from);
    std::memcpy(&wanted, tile.tap + v * N, sizeof wanted);
    simd::store<N>(gx + v * N,
                   __builtin_shuffle(t, from) == wanted ? __builtin_shuffle(g, from) : zero);
  }
}

// Tiles as long as their vectors stay inside the task's planes and the results; returns the first
// plane that is not done whole.
template <int N>
WATTLE_FORCE_INLINE int64_t grad_2x2_tiles(const Geometry& g, int64_t p0, int64_t p1,
                                           const float* gy, const uint8_t* tap, float* gx) {
  Tile<N> tiles[2];
  int count = 0;
  if (!fill_tiles<N>(g, tiles, count)) return p0;
  int64_t o = p0 * g.out_plane(), i = p0 * g.in_plane();
  for (int k = 0;; k = count - 1 - k) {
    const Tile<N>& tile = tiles[k];
    if (o + N > g.planes * g.out_plane() || o + tile.results > p1 * g.out_plane() ||
        i + tile.vectors * N > p1 * g.in_plane())
      return o / g.out_plane();
    grad_tile<N>(tile, gy + o, tap + o, gx + i);
    o += tile.results;
    i += tile.inputs;
  }
}

// ---- Gradient of any geometry ----

// Where tap t lies from the start of its window: tabled where taps are bytes, as division is slow.
template <class I>
struct TapOffsets {
  static constexpr int64_t tabled = std::is_same_v<I, uint8_t> ? 256 : 1;
  const Geometry& g;
  int32_t h_[tabled], w_[tabled];
  explicit TapOffsets(const Geometry& geometry) : g(geometry) {
    if (tabled > 1)
      for (int64_t t = 0; t < tabled; ++t)
        h_[t] = static_cast<int32_t>(h_of(t)), w_[t] = static_cast<int32_t>(w_of(t));
  }
  int64_t h(I t) const { return tabled > 1 ? h_[t] : h_of(t); }
  int64_t w(I t) const { return tabled > 1 ? w_[t] : w_of(t); }

 private:
  int64_t h_of(int64_t t) const { return t / g.w.kernel * g.h.dilation; }
  int64_t w_of(int64_t t) const { return t % g.w.kernel * g.w.dilation; }
};

// Adds gy to the position its tap names; an index that names none is left out. gx is zero at first.
template <class T, class I>
WATTLE_FORCE_INLINE void scatter_plane(const Geometry& g, const TapOffsets<I>& offsets, const T* gy,
                                       const I* tap, T* gx) {
  const uint64_t height = static_cast<uint64_t>(g.h.in), width = static_cast<uint64_t>(g.w.in);
  for (int64_t oh = 0; oh < g.h.out; ++oh)
    for (int64_t ow = 0; ow < g.w.out; ++ow) {
      const int64_t o = oh * g.w.out + ow;
      const I t = tap[o];
      const uint64_t h = static_cast<uint64_t>(g.h.start(oh) + offsets.h(t));  // negative = huge
      const uint64_t w = static_cast<uint64_t>(g.w.start(ow) + offsets.w(t));
      const T v = gy[o];
      if (h < height && w < width) gx[h * width + w] += v;
    }
}

// Calls fn<M>() with 8 lanes where N and a row of `row` results have as many, else with 4. Rows are
// short and every result is written in two formats, so that 16 lanes gain nothing.
template <int N, class F>
WATTLE_FORCE_INLINE void with_lanes(int64_t row, const F& fn) {
  if (N >= 8 && row >= 8) fn.template operator()<(N < 8 ? N : 8)>();
  else fn.template operator()<4>();
}

}  // namespace wattle::pool2d
