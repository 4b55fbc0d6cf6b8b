// Inner loops of batch_norm and its gradient, for f32 and any lane count.
//
// Two loops do all the work, each in the forward (x alone) and the gradient form (gy and x):
//   reduce   sums  u  and  u * (x - center)   per channel;  u = x - center forward, gy in the
//   gradient map      out = (x - center) * scale + shift  [+ gain * gy in the gradient]
// and each in two layouts: planes of >= min_plane values are walked one by one with the channel's
// constants in registers; smaller ones (7x7, 3x3, [N,C]) would waste lanes, so a whole row of
// channels is walked as one run of columns, with the constants spread out column by column.
#pragma once
#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/simd.h"

namespace wattle::batch_norm_detail {

constexpr int64_t min_plane = 64;       // values per channel and image from which planes are walked
constexpr int64_t max_columns = 512;    // columns of one task: their sums stay in the L1 cache
constexpr int64_t plane_channels = 16;  // most channels of one task of planes
constexpr int64_t max_lanes = 16;
constexpr int64_t slots = max_columns + max_lanes;

/// How x [N,C,S] is cut into tasks: `images` x `channels`, by the problem's size alone.
struct Partition {
  int64_t n, c, s;
  int64_t images, channels;

  Partition(int64_t n_, int64_t c_, int64_t s_) : n(n_), c(c_), s(s_) {
    const bool planes = s >= min_plane;
    const int64_t columns = planes ? 4096 : max_columns;
    const int64_t most = std::clamp<int64_t>(columns / s, 1, planes ? plane_channels : columns);
    int64_t parts = (c + most - 1) / most;
    if (n <= 64 && parts % 2 == 1) parts = std::min(parts + 1, c);  // the number of cores is even
    channels = (c + parts - 1) / parts;
    images = std::clamp<int64_t>(32768 / (channels * s), 1, 64);
  }
  int64_t blocks() const { return (n + images - 1) / images; }
  int64_t groups() const { return (c + channels - 1) / channels; }
  int64_t tasks() const { return blocks() * groups(); }
};

/// One task: pointers at its first image and channel.
struct Slab {
  const float *gy, *x;  // gy only in the gradient form
  float* out;
  int64_t images, channels, s;
  int64_t row;  // values from one image to the next
  int64_t columns() const { return channels * s; }
};

/// Per channel, from the task's first channel on.
struct MapParams {
  const float *center, *scale, *shift, *gain;
};

// ---- reduce ----

template <int N>
struct Sums {
  simd::f32<N> u = {}, uv = {};
};

template <int N, bool Grad>
WATTLE_FORCE_INLINE void accumulate(Sums<N>& t, const float* gy, const float* x,
                                    simd::f32<N> center) {
  const simd::f32<N> v = simd::load<N>(x) - center;
  const simd::f32<N> u = Grad ? simd::load<N>(gy) : v;
  t.u += u;
  t.uv += u * v;
}

// The last s % N values: a vector that ends with them, whose lanes already summed are zeroed.
template <int N, bool Grad>
WATTLE_FORCE_INLINE void accumulate_rest(Sums<N>& t, const float* gy, const float* x,
                                         simd::f32<N> center, int64_t s) {
  simd::i32<N> lane;
  for (int i = 0; i < N; ++i) lane[i] = i;
  const simd::i32<N> done = simd::i32<N>{} + static_cast<int32_t>(N - s % N);
  const simd::f32<N> zero{};
  const simd::f32<N> v = lane < done ? zero : simd::load<N>(x + s - N) - center;
  const simd::f32<N> u = Grad ? (lane < done ? zero : simd::load<N>(gy + s - N)) : v;
  t.u += u;
  t.uv += u * v;
}

// One plane of s >= N values. Sums start afresh every 1024 values, so that a long plane does not
// pile up rounding errors.
template <int N, bool Grad>
WATTLE_FORCE_INLINE void reduce_plane(Sums<N>& total, const float* gy, const float* x, float center,
                                      int64_t s) {
  const simd::f32<N> c = simd::set1<N>(center);
  int64_t i = 0;
  while (i + N <= s) {
    const int64_t end = std::min(s, i + 1024);
    Sums<N> a, b;
    for (; i + 2 * N <= end; i += 2 * N) {
      accumulate<N, Grad>(a, gy + i, x + i, c);
      accumulate<N, Grad>(b, gy + i + N, x + i + N, c);
    }
    if (i + N <= end) {
      accumulate<N, Grad>(a, gy + i, x + i, c);
      i += N;
    }
    total.u += a.u + b.u;
    total.uv += a.uv + b.uv;
  }
  if (i < s) accumulate_rest<N, Grad>(total, gy, x, c, s);
}

// u, uv: max_lanes partial sums per channel (N of them used), zeroed by the caller.
template <int N, bool Grad>
WATTLE_FORCE_INLINE void reduce_planes(const Slab& t, const float* center, float* u, float* uv) {
  for (int64_t n = 0; n < t.images; ++n)
    for (int64_t c = 0; c < t.channels; ++c) {
      Sums<N> sum{simd::load<N>(u + c * max_lanes), simd::load<N>(uv + c * max_lanes)};
      const int64_t at = n * t.row + c * t.s;
      reduce_plane<N, Grad>(sum, t.gy + at, t.x + at, center[c], t.s);
      simd::store<N>(u + c * max_lanes, sum.u);
      simd::store<N>(uv + c * max_lanes, sum.uv);
    }
}

// R images at once, so that a column's sums are loaded and stored once per R values.
template <int N, bool Grad, int R>
WATTLE_FORCE_INLINE void reduce_rows(const Slab& t, int64_t n, const float* center, float* u,
                                     float* uv) {
  const int64_t columns = t.columns();
  const float* x = t.x + n * t.row;
  const float* gy = t.gy + n * t.row;
  int64_t i = 0;
  for (; i + N <= columns; i += N) {
    Sums<N> sum{simd::load<N>(u + i), simd::load<N>(uv + i)};
    const simd::f32<N> c = simd::load<N>(center + i);
    for (int r = 0; r < R; ++r) accumulate<N, Grad>(sum, gy + r * t.row + i, x + r * t.row + i, c);
    simd::store<N>(u + i, sum.u);
    simd::store<N>(uv + i, sum.uv);
  }
  if (i == columns) return;
  Sums<N> sum{simd::load<N>(u + columns), simd::load<N>(uv + columns)};
  const simd::f32<N> c = simd::load<N>(center + columns - N);
  for (int r = 0; r < R; ++r)
    accumulate_rest<N, Grad>(sum, gy + r * t.row, x + r * t.row, c, columns);
  simd::store<N>(u + columns, sum.u);
  simd::store<N>(uv + columns, sum.uv);
}

// center, u, uv: one per column (columns >= N); u and uv have N more for the last, partial vector.
template <int N, bool Grad>
WATTLE_FORCE_INLINE void reduce_columns(const Slab& t, const float* center, float* u, float* uv) {
  int64_t n = 0;
  for (; n + 4 <= t.images; n += 4) reduce_rows<N, Grad, 4>(t, n, center, u, uv);
  for (; n < t.images; ++n) reduce_rows<N, Grad, 1>(t, n, center, u, uv);
  const int64_t columns = t.columns();
  for (int j = 0; j < N; ++j) {
    u[columns - N + j] += u[columns + j];
    uv[columns - N + j] += uv[columns + j];
  }
}

// ---- map ----

template <int N>
struct MapLanes {
  simd::f32<N> center, scale, shift, gain;
};

template <int N, bool Grad>
WATTLE_FORCE_INLINE void map_vector(const Slab& t, int64_t at, const MapLanes<N>& p) {
  simd::f32<N> v = (simd::load<N>(t.x + at) - p.center) * p.scale + p.shift;
  if constexpr (Grad) v += simd::load<N>(t.gy + at) * p.gain;
  simd::store<N>(t.out + at, v);
}

template <int N, bool Grad>
WATTLE_FORCE_INLINE void map_planes(const Slab& t, const MapParams& p) {
  for (int64_t n = 0; n < t.images; ++n)
    for (int64_t c = 0; c < t.channels; ++c) {
      const MapLanes<N> lanes{simd::set1<N>(p.center[c]), simd::set1<N>(p.scale[c]),
                              simd::set1<N>(p.shift[c]),
                              Grad ? simd::set1<N>(p.gain[c]) : simd::f32<N>{}};
      const int64_t at = n * t.row + c * t.s;
      int64_t i = 0;
      for (; i + N <= t.s; i += N) map_vector<N, Grad>(t, at + i, lanes);
      // The last vector overlaps the one before; both write the same values.
      if (i < t.s) map_vector<N, Grad>(t, at + t.s - N, lanes);
    }
}

template <int N>
WATTLE_FORCE_INLINE MapLanes<N> lanes_at(const MapParams& p, int64_t i, bool gain) {
  return {simd::load<N>(p.center + i), simd::load<N>(p.scale + i), simd::load<N>(p.shift + i),
          gain ? simd::load<N>(p.gain + i) : simd::f32<N>{}};
}

template <int N, bool Grad, int R>
WATTLE_FORCE_INLINE void map_rows(const Slab& t, int64_t n, const MapParams& p) {
  const int64_t columns = t.columns(), at = n * t.row;
  for (int64_t i = 0; i < columns; i += N) {
    const int64_t from = std::min(i, columns - N);  // the last vector overlaps the one before
    const MapLanes<N> lanes = lanes_at<N>(p, from, Grad);
    for (int r = 0; r < R; ++r) map_vector<N, Grad>(t, at + r * t.row + from, lanes);
  }
}

// p: one value per column (columns >= N).
template <int N, bool Grad>
WATTLE_FORCE_INLINE void map_columns(const Slab& t, const MapParams& p) {
  int64_t n = 0;
  for (; n + 4 <= t.images; n += 4) map_rows<N, Grad, 4>(t, n, p);
  for (; n < t.images; ++n) map_rows<N, Grad, 1>(t, n, p);
}

// ---- One task, whatever its layout ----

// Repeats every channel's value over its s columns. The last vector of a channel runs into the next
// one's columns, which are written after it, or into the spare lanes at the end.
template <int N>
WATTLE_FORCE_INLINE void spread(const float* channel, int64_t channels, int64_t s, float* columns) {
  for (int64_t c = 0; c < channels; ++c) {
    const simd::f32<N> v = simd::set1<N>(channel[c]);
    for (int64_t i = 0; i < s; i += N) simd::store<N>(columns + c * s + i, v);
  }
}

// Adds up `lanes` partial sums of each channel, `stride` apart.
WATTLE_FORCE_INLINE void fold(const float* u, int64_t channels, int64_t stride, int64_t lanes,
                              double* sum) {
  for (int64_t c = 0; c < channels; ++c) {
    const float* p = u + c * stride;
    double a = 0, b = 0;
    int64_t i = 0;
    // Pairs as f32 first: their rounding is that of the sums themselves.
    for (; i + 4 <= lanes; i += 4) {
      a += p[i] + p[i + 1];
      b += p[i + 2] + p[i + 3];
    }
    for (; i < lanes; ++i) a += p[i];
    sum[c] = a + b;
  }
}

/// sum_u[c] = sum of u, sum_uv[c] = sum of u * (x - center[c]) over the task.
template <class Isa, bool Grad>
void reduce_task(const Slab& slab, const float* center, double* sum_u, double* sum_uv) {
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    const Slab t =
        slab;  // a local copy, so that stores of results cannot be taken for changes to it
    alignas(64) float u[slots], uv[slots];
    const bool planes = t.s >= min_plane;
    const int64_t stride = planes ? max_lanes : t.s;
    std::fill_n(u, t.channels * stride + max_lanes, 0.f);
    std::fill_n(uv, t.channels * stride + max_lanes, 0.f);
    if (planes) {
      reduce_planes<N, Grad>(t, center, u, uv);
    } else {
      alignas(64) float column_center[slots];
      spread<N>(center, t.channels, t.s, column_center);
      if (t.columns() >= N) reduce_columns<N, Grad>(t, column_center, u, uv);
      else reduce_columns<1, Grad>(t, column_center, u, uv);
    }
    fold(u, t.channels, stride, planes ? N : t.s, sum_u);
    fold(uv, t.channels, stride, planes ? N : t.s, sum_uv);
  });
}

template <class Isa, bool Grad>
void map_task(const Slab& slab, const MapParams& p) {
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    const Slab t = slab;
    if (t.s >= min_plane) return map_planes<N, Grad>(t, p);
    alignas(64) float spread_out[4][slots];
    spread<N>(p.center, t.channels, t.s, spread_out[0]);
    spread<N>(p.scale, t.channels, t.s, spread_out[1]);
    spread<N>(p.shift, t.channels, t.s, spread_out[2]);
    if (Grad) spread<N>(p.gain, t.channels, t.s, spread_out[3]);
    const MapParams columns{spread_out[0], spread_out[1], spread_out[2], spread_out[3]};
    if (t.columns() >= N) map_columns<N, Grad>(t, columns);
    else map_columns<1, Grad>(t, columns);
  });
}

/// A value near the mean of each channel: the mean of up to 16 values spread over its first image.
/// Deviations from it keep their digits however far from zero the data lie. The sum of squares
/// about it is corrected to that about the mean; when m of n values made the center, that
/// correction is at most n / m times the result (Cauchy-Schwarz), so few digits can be lost.
inline void first_means(const Slab& t, float* center) {
  const int64_t step = std::max<int64_t>(1, t.s / 16), count = std::min<int64_t>(16, t.s / step);
  for (int64_t c = 0; c < t.channels; ++c) {
    const float* x = t.x + c * t.s;
    double even = 0, odd = 0;
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
      even += x[i * step];
      odd += x[(i + 1) * step];
    }
    if (i < count) even += x[i * step];
    center[c] = static_cast<float>((even + odd) / static_cast<double>(count));
  }
}

// ---- Whole tensors ----

inline Slab slab_of(const Partition& p, int64_t task, const float* gy, const float* x, float* out) {
  const int64_t block = task / p.groups(), group = task % p.groups();
  const int64_t n = block * p.images, c = group * p.channels, at = (n * p.c + c) * p.s;
  return {gy + at,
          x + at,
          out ? out + at : nullptr,
          std::min(p.images, p.n - n),
          std::min(p.channels, p.c - c),
          p.s,
          p.c * p.s};
}

// What a channel's values in one block of images add up to: their mean and the sum of their squared
// deviations from it; or, in the gradient form, the sums of gy and gy * (x - mean).
struct Partial {
  double first, second;
};

template <class Isa>
std::vector<Partial> block_moments(const Partition& p, const float* x) {
  std::vector<Partial> parts(static_cast<size_t>(p.blocks() * p.c));
  parallel_chunks(p.tasks(), [&](int64_t task) {
    const Slab t = slab_of(p, task, x, x, nullptr);
    float center[slots];
    double u[slots], uv[slots];
    first_means(t, center);
    reduce_task<Isa, false>(t, center, u, uv);
    Partial* to = parts.data() + task / p.groups() * p.c + task % p.groups() * p.channels;
    const double per_count = 1.0 / static_cast<double>(t.images * t.s);
    for (int64_t c = 0; c < t.channels; ++c)
      to[c] = {center[c] + u[c] * per_count, uv[c] - u[c] * u[c] * per_count};
  });
  return parts;
}

// Chan, Golub, LeVeque 1983: moments of the whole from those of its blocks, in block order.
inline void combine_moments(const Partition& p, std::vector<Partial>& parts) {
  const double per_count = 1.0 / static_cast<double>(p.n * p.s);
  auto weight = [&](int64_t b) {
    return static_cast<double>(std::min(p.images, p.n - b * p.images) * p.s);
  };
  for (int64_t c = 0; c < p.c; ++c) {
    double mean = 0, squares = 0;
    for (int64_t b = 0; b < p.blocks(); ++b)
      mean += weight(b) * parts[static_cast<size_t>(b * p.c + c)].first;
    mean *= per_count;
    for (int64_t b = 0; b < p.blocks(); ++b) {
      const Partial& part = parts[static_cast<size_t>(b * p.c + c)];
      squares += part.second + weight(b) * (part.first - mean) * (part.first - mean);
    }
    parts[static_cast<size_t>(c)] = {mean, squares};
  }
}

template <class Isa>
std::vector<Partial> gradient_sums(const Partition& p, const float* gy, const float* x,
                                   const float* mean) {
  std::vector<Partial> parts(static_cast<size_t>(p.blocks() * p.c));
  parallel_chunks(p.tasks(), [&](int64_t task) {
    const Slab t = slab_of(p, task, gy, x, nullptr);
    const int64_t c0 = task % p.groups() * p.channels;
    double u[slots], uv[slots];
    reduce_task<Isa, true>(t, mean + c0, u, uv);
    Partial* to = parts.data() + task / p.groups() * p.c + c0;
    for (int64_t c = 0; c < t.channels; ++c) to[c] = {u[c], uv[c]};
  });
  for (int64_t b = 1; b < p.blocks(); ++b)
    for (int64_t c = 0; c < p.c; ++c) {
      parts[static_cast<size_t>(c)].first += parts[static_cast<size_t>(b * p.c + c)].first;
      parts[static_cast<size_t>(c)].second += parts[static_cast<size_t>(b * p.c + c)].second;
    }
  return parts;
}

}  // namespace wattle::batch_norm_detail
