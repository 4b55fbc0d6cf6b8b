// Vector loops along one dim, shared by softmax, log_softmax and cross_entropy.
//
// A tensor is seen as [outer, d, inner]: outer * inner independent problems ("columns") of d
// elements. A body sees one walker of N lanes and makes passes over it:
//   Columns  the lanes are N neighbouring columns; a reduction needs no work across lanes
//   RowOf    the lanes are N neighbouring elements of one column (inner = 1, long d)
// Short columns whose lanes do not lie side by side are first transposed into a buffer.
#pragma once
#include "core/simd_math.h"
#include "ops/rules.h"

namespace wattle::along {

struct Dims {
  int64_t outer, d, inner;
};
inline Dims dims_of(const Shape& shape, int dim) {
  if (shape.empty()) return {1, 1, 1};
  return {shape.numel(0, dim), shape[dim], shape.numel(dim + 1, shape.rank())};
}

template <int N, int K>
struct Columns {
  static constexpr int lanes = N;
  const float* in[K];
  float* out;
  int64_t count, step;    ///< vectors per pass and their distance
  int64_t column, valid;  ///< number of the first column; lanes that are columns at all
  WATTLE_FORCE_INLINE simd::f32<N> load(int k, int64_t v, simd::f32<N>) const {
    return simd::load<N>(in[k] + v * step);
  }
  WATTLE_FORCE_INLINE simd::f32<N> load_out(int64_t v) const {
    return simd::load<N>(out + v * step);
  }
  WATTLE_FORCE_INLINE void store(int64_t v, simd::f32<N> y) const {
    simd::store<N>(out + v * step, y);
  }
  WATTLE_FORCE_INLINE simd::f32<N> sum(simd::f32<N> s) const { return s; }
  WATTLE_FORCE_INLINE simd::f32<N> max(simd::f32<N> m) const { return m; }
  /// Stores one number per column.
  WATTLE_FORCE_INLINE void stat(float* to, simd::f32<N> s) const {
    if (valid == N) return simd::store<N>(to + column, s);
    float t[N];
    simd::store<N>(t, s);
    for (int64_t i = 0; i < valid; ++i) to[column + i] = t[i];
  }
};

template <int N, int K>
struct RowOf {
  static constexpr int lanes = N;
  const float* in[K];
  float* out;
  int64_t count, d, column;
  /// Lanes past the end are taken from `fill`.
  WATTLE_FORCE_INLINE simd::f32<N> load(int k, int64_t v, simd::f32<N> fill) const {
    const int64_t i = v * N;
    if (i + N <= d) return simd::load<N>(in[k] + i);
    float t[N];
    simd::store<N>(t, fill);
    for (int64_t j = i; j < d; ++j) t[j - i] = in[k][j];
    return simd::load<N>(t);
  }
  WATTLE_FORCE_INLINE simd::f32<N> load_out(int64_t v) const {
    const int64_t i = v * N;
    if (i + N <= d) return simd::load<N>(out + i);
    float t[N] = {};
    for (int64_t j = i; j < d; ++j) t[j - i] = out[j];
    return simd::load<N>(t);
  }
  WATTLE_FORCE_INLINE void store(int64_t v, simd::f32<N> y) const {
    const int64_t i = v * N;
    if (i + N <= d) return simd::store<N>(out + i, y);
    float t[N];
    simd::store<N>(t, y);
    for (int64_t j = i; j < d; ++j) out[j] = t[j - i];
  }
  WATTLE_FORCE_INLINE simd::f32<N> sum(simd::f32<N> s) const {
    return simd::set1<N>(simd::hsum<N>(s));
  }
  WATTLE_FORCE_INLINE simd::f32<N> max(simd::f32<N> m) const {
    return simd::set1<N>(simd::hmax<N>(m));
  }
  WATTLE_FORCE_INLINE void stat(float* to, simd::f32<N> s) const { to[column] = s[0]; }
};

constexpr int64_t gather_limit = 256, row_limit = 48;

template <int K>
struct Job {
  Dims dims;
  const float* in[K];
  float* out;  ///< may be null for bodies that store nothing
  bool gathers(int lanes) const {
    return dims.inner == 1 ? dims.d <= row_limit : dims.inner < lanes && dims.d <= gather_limit;
  }
};

// N columns, or fewer at the end, by way of buffers in which they lie side by side.
template <int N, int K, class Body>
WATTLE_FORCE_INLINE void run_gathered(const Job<K>& job, int64_t begin, int64_t end,
                                      const Body& body) {
  alignas(64) float buffer[K + 1][gather_limit * N];
  const int64_t d = job.dims.d, inner = job.dims.inner;
  for (int64_t c = begin; c < end; c += N) {
    const int64_t valid = end - c < N ? end - c : N;
    Columns<N, K> w{{}, buffer[K], d, N, c, valid};
    int64_t base[N];
    for (int64_t l = 0; l < N; ++l) {
      const int64_t col = c + (l < valid ? l : 0);  // spare lanes repeat the first column
      base[l] = inner == 1 ? col * d : col / inner * d * inner + col % inner;
    }
    for (int k = 0; k < K; ++k) {
      w.in[k] = buffer[k];
      for (int64_t l = 0; l < N; ++l)
        for (int64_t i = 0; i < d; ++i) buffer[k][i * N + l] = job.in[k][base[l] + i * inner];
    }
    body(w);
    if (!job.out) continue;
    for (int64_t l = 0; l < valid; ++l)
      for (int64_t i = 0; i < d; ++i) job.out[base[l] + i * inner] = buffer[K][i * N + l];
  }
}

// Neighbouring columns [c, c + n) of one outer index.
template <int N, int K, class Body>
WATTLE_FORCE_INLINE void run_columns(const Job<K>& job, int64_t c, int64_t n, const Body& body) {
  const int64_t d = job.dims.d, inner = job.dims.inner;
  int64_t base = c / inner * d * inner + c % inner;
  for (; n >= N; n -= N, c += N, base += N) {
    Columns<N, K> w{{}, job.out + base, d, inner, c, N};
    for (int k = 0; k < K; ++k) w.in[k] = job.in[k] + base;
    body(w);
  }
  if constexpr (N > 1)
    if (n > 0) run_columns<N / 2>(job, c, n, body);
}

template <int N, int K, class Body>
WATTLE_FORCE_INLINE void run_range(const Job<K>& job, int64_t begin, int64_t end,
                                   const Body& body) {
  const int64_t d = job.dims.d, inner = job.dims.inner;
  if (job.gathers(N)) return run_gathered<N>(job, begin, end, body);
  for (int64_t c = begin; c < end;) {
    if (inner == 1) {
      RowOf<N, K> w{{}, job.out + c * d, (d + N - 1) / N, d, c};
      for (int k = 0; k < K; ++k) w.in[k] = job.in[k] + c * d;
      body(w);
      ++c;
    } else {
      const int64_t left = inner - c % inner, n = left < end - c ? left : end - c;
      run_columns<N>(job, c, n, body);
      c += n;
    }
  }
}

/// Runs `body(walker)` over all columns, in chunks of about 8192 elements.
template <class Isa, int K, class Body>
void run(const Job<K>& job, const Body& body) {
  const int64_t columns = job.dims.outer * job.dims.inner;
  if (columns == 0 || job.dims.d == 0) return;
  const int64_t grain = (8192 / job.dims.d + 16) / 16 * 16;
  parallel_for(columns, job.dims.d >= 8192 ? 1 : grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY { run_range<N>(job, begin, end, body); });
  });
}

/// Largest element of every lane's column. Not-a-number is passed over: it enters by the sum.
template <int N, class W>
WATTLE_FORCE_INLINE simd::f32<N> max_pass(const W& w) {
  const simd::f32<N> lowest = simd::set1<N>(-__builtin_inff());
  simd::f32<N> m = lowest;
  for (int64_t v = 0; v < w.count; ++v) {
    const simd::f32<N> x = w.load(0, v, lowest);
    m = x > m ? x : m;
  }
  return w.max(m);
}

/// out = e^(x - m); returns the sum over each column.
template <int N, class W>
WATTLE_FORCE_INLINE simd::f32<N> exp_pass(const W& w, simd::f32<N> m) {
  const simd::f32<N> lowest = simd::set1<N>(-__builtin_inff());
  simd::f32<N> s{};
  for (int64_t v = 0; v < w.count; ++v) {
    const simd::f32<N> e = simd::exp<N>(w.load(0, v, lowest) - m);
    s += e;
    w.store(v, e);
  }
  return w.sum(s);
}

/// Attribute of softmax and log_softmax.
struct DimAttr {
  int64_t dim = -1;
  template <class V>
  void visit(V&& v) {
    v("dim", dim);
  }
};

}  // namespace wattle::along
