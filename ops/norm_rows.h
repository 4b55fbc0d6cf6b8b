// Rows of layer_norm (Centered) and rms_norm: x [R, D], weight and bias [D].
//   m = mean(x) or 0,  r = 1 / sqrt(mean((x - m)^2) + eps),  h = (x - m) r,  y = h w + b
//   g = gy w,  gx = r (g - h mean(g h) - mean(g)),  gw = sum over rows of gy h,  gb = of gy
// where the last term of gx belongs to Centered only. The gradient computes m and r again, as a row
// is in the cache by then: nothing but x and w is saved.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/rules.h"

namespace wattle::norm {

/// Throws unless the shape ends in `tail`, and weight and bias (from operand `first` on) have it.
void check(const char* op, Ins in, size_t x, size_t first, const Shape& tail);
/// Length D of a row and number R of rows.
struct Rows {
  int64_t d, count;
  Rows(const Shape& x, const Shape& tail) : d(tail.numel()), count(d > 0 ? x.numel() / d : 0) {}
};
/// Operations of the two reference kernels below.
Cost forward_cost(bool centered, Rows rows, bool weight, bool bias);
Cost grad_cost(bool centered, Rows rows, bool weight, bool params);

template <class T>
T* optional_data(Ins in, size_t i) {
  return i < in.size() && in[i] ? in[i].data<T>() : nullptr;
}

// ---- Reference ----

template <class T>
struct Moments {
  T mean, rstd;
};
template <bool Centered, class T>
Moments<T> moments(const T* x, int64_t d, double eps) {
  const T inv = T(1.0 / static_cast<double>(d));
  T mean = T(0), squares = T(0);
  if constexpr (Centered) {
    for (int64_t i = 0; i < d; ++i) mean += x[i];
    mean = mean * inv;
  }
  for (int64_t i = 0; i < d; ++i) {
    const T v = Centered ? x[i] - mean : x[i];
    squares += v * v;
  }
  return {mean, T(1) / num::sqrt(squares * inv + T(eps))};
}

template <bool Centered, class T>
void forward_ref(const T* x, const T* w, const T* b, T* y, Rows rows, double eps) {
  for (int64_t r = 0; r < rows.count; ++r, x += rows.d, y += rows.d) {
    const Moments<T> m = moments<Centered>(x, rows.d, eps);
    for (int64_t i = 0; i < rows.d; ++i) {
      T v = (Centered ? x[i] - m.mean : x[i]) * m.rstd;
      if (w) v = v * w[i];
      if (b) v = v + b[i];
      y[i] = v;
    }
  }
}

// gw and gb may be null.
template <bool Centered, class T>
void grad_ref(const T* gy, const T* x, const T* w, T* gx, T* gw, T* gb, Rows rows, double eps) {
  const T inv = T(1.0 / static_cast<double>(rows.d));
  for (int64_t i = 0; gw && i < rows.d; ++i) gw[i] = T(0);
  for (int64_t i = 0; gb && i < rows.d; ++i) gb[i] = T(0);
  for (int64_t r = 0; r < rows.count; ++r, x += rows.d, gy += rows.d, gx += rows.d) {
    const Moments<T> m = moments<Centered>(x, rows.d, eps);
    const auto h = [&](int64_t i) { return (Centered ? x[i] - m.mean : x[i]) * m.rstd; };
    const auto g = [&](int64_t i) { return w ? gy[i] * w[i] : gy[i]; };
    T along = T(0), mean = T(0);
    for (int64_t i = 0; i < rows.d; ++i) {
      const T gi = g(i);
      along += gi * h(i);
      if constexpr (Centered) mean += gi;
    }
    along = along * inv;
    if constexpr (Centered) mean = mean * inv;
    for (int64_t i = 0; i < rows.d; ++i) {
      const T hi = h(i);
      T v = g(i) - hi * along;
      if constexpr (Centered) v = v - mean;
      gx[i] = m.rstd * v;
      if (gw) gw[i] += gy[i] * hi;
      if (gb) gb[i] += gy[i];
    }
  }
}

// ---- SIMD ----

/// N lanes of a row, or the last n < N of them; the other lanes are `fill`.
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> take(const float* p, int64_t n, float fill = 0) {
  if (n == N) return simd::load<N>(p);
  float t[N];
  for (int64_t k = 0; k < N; ++k) t[k] = k < n ? p[k] : fill;
  return simd::load<N>(t);
}
template <int N>
WATTLE_FORCE_INLINE void give(float* p, int64_t n, simd::f32<N> v) {
  if (n == N) return simd::store<N>(p, v);
  float t[N];
  simd::store<N>(t, v);
  for (int64_t k = 0; k < n; ++k) p[k] = t[k];
}
/// Calls f(i, n) for every N elements and for the n that are left.
template <int N, class F>
WATTLE_FORCE_INLINE void by_lanes(int64_t d, F&& f) {
  int64_t i = 0;
  for (; i + N <= d; i += N) f(i, int64_t{N});
  if (i < d) f(i, d - i);
}
/// Sum of f(i, n) over a row, in four running sums.
template <int N, class F>
WATTLE_FORCE_INLINE float sum_lanes(int64_t d, F&& f) {
  simd::f32<N> a{}, b{}, c{}, e{};
  int64_t i = 0;
  for (; i + 4 * N <= d; i += 4 * N) {
    a += f(i, int64_t{N});
    b += f(i + N, int64_t{N});
    c += f(i + 2 * N, int64_t{N});
    e += f(i + 3 * N, int64_t{N});
  }
  for (; i + N <= d; i += N) a += f(i, int64_t{N});
  if (i < d) b += f(i, d - i);
  return simd::hsum<N>((a + b) + (c + e));
}

template <int N, bool Centered>
WATTLE_FORCE_INLINE Moments<float> lane_moments(const float* x, int64_t d, float eps) {
  const float inv = 1.0f / static_cast<float>(d);
  float mean = 0;
  if constexpr (Centered)
    mean = inv * sum_lanes<N>(
                     d, [&](int64_t i, int64_t n) WATTLE_INLINE_BODY { return take<N>(x + i, n); });
  const float squares = sum_lanes<N>(d, [&](int64_t i, int64_t n) WATTLE_INLINE_BODY {
    const simd::f32<N> v = take<N>(x + i, n, mean) - mean;
    return v * v;
  });
  return {mean, 1.0f / __builtin_sqrtf(squares * inv + eps)};
}

template <int N, bool Centered>
WATTLE_FORCE_INLINE void forward_row(const float* x, const float* w, const float* b, float* y,
                                     int64_t d, float eps) {
  const Moments<float> m = lane_moments<N, Centered>(x, d, eps);
  by_lanes<N>(d, [&](int64_t i, int64_t n) WATTLE_INLINE_BODY {
    simd::f32<N> v = (take<N>(x + i, n) - m.mean) * m.rstd;
    if (w) v = v * take<N>(w + i, n);
    if (b) v = v + take<N>(b + i, n);
    give<N>(y + i, n, v);
  });
}

template <int N, bool Centered>
WATTLE_FORCE_INLINE void grad_row(const float* gy, const float* x, const float* w, float* gx,
                                  float* gw, float* gb, int64_t d, float eps) {
  const float inv = 1.0f / static_cast<float>(d);
  const Moments<float> m = lane_moments<N, Centered>(x, d, eps);
  // Two of each, as an addition takes a while. Aligned, because deduced types (`auto&`) drop the
  // typedef's lower alignment and expect the natural one.
  alignas(64) simd::f32<N> sum{}, product{}, sum2{}, product2{};
  const auto add = [&](int64_t i, int64_t n, auto& s, auto& p) WATTLE_INLINE_BODY {
    simd::f32<N> g = take<N>(gy + i, n);
    if (w) g = g * take<N>(w + i, n);
    s += g;
    p += g * ((take<N>(x + i, n, m.mean) - m.mean) * m.rstd);
  };
  int64_t at = 0;
  for (; at + 2 * N <= d; at += 2 * N) {
    add(at, N, sum, product);
    add(at + N, N, sum2, product2);
  }
  by_lanes<N>(d - at,
              [&](int64_t i, int64_t n) WATTLE_INLINE_BODY { add(at + i, n, sum, product); });
  sum += sum2;
  product += product2;
  const float along = inv * simd::hsum<N>(product);
  const float mean = Centered ? inv * simd::hsum<N>(sum) : 0;
  by_lanes<N>(d, [&](int64_t i, int64_t n) WATTLE_INLINE_BODY {
    const simd::f32<N> up = take<N>(gy + i, n), h = (take<N>(x + i, n) - m.mean) * m.rstd;
    const simd::f32<N> g = w ? up * take<N>(w + i, n) : up;
    give<N>(gx + i, n, m.rstd * (g - h * along - mean));
    if (gw) give<N>(gw + i, n, take<N>(gw + i, n) + up * h);
    if (gb) give<N>(gb + i, n, take<N>(gb + i, n) + up);
  });
}

template <bool Centered, class Isa>
void forward_simd(const float* x, const float* w, const float* b, float* y, Rows rows, double eps) {
  parallel_for(rows.count, 1 + (1 << 14) / (rows.d + 1), [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t r = begin; r < end; ++r)
        forward_row<N, Centered>(x + r * rows.d, w, b, y + r * rows.d, rows.d,
                                 static_cast<float>(eps));
    });
  });
}

// Every chunk of rows sums its own gw and gb; the chunks, at most 64, are added in their order.
template <bool Centered, class Isa>
void grad_simd(const float* gy, const float* x, const float* w, float* gx, float* gw, float* gb,
               Rows rows, double eps) {
  const int64_t d = rows.d;
  const int64_t grain = std::max((rows.count + 63) / 64, 1 + (1 << 14) / (d + 1));
  const int64_t chunks = (rows.count + grain - 1) / grain;
  std::vector<float> partial(static_cast<size_t>(gw ? 2 * chunks * d : 0));
  parallel_for(rows.count, grain, [&](int64_t begin, int64_t end) {
    float* const pw = gw ? partial.data() + begin / grain * 2 * d : nullptr;
    float* const pb = gb ? pw + d : nullptr;
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t r = begin; r < end; ++r)
        grad_row<N, Centered>(gy + r * d, x + r * d, w, gx + r * d, pw, pb, d,
                              static_cast<float>(eps));
    });
  });
  if (!gw) return;
  std::fill(gw, gw + d, 0.0f);
  if (gb) std::fill(gb, gb + d, 0.0f);
  for (int64_t c = 0; c < chunks; ++c)
    for (int64_t i = 0; i < d; ++i) {
      gw[i] += partial[static_cast<size_t>(c * 2 * d + i)];
      if (gb) gb[i] += partial[static_cast<size_t>((c * 2 + 1) * d + i)];
    }
}

}  // namespace wattle::norm
