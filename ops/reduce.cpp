// Runs, and the blocked sum behind sum and mean.
#include "ops/reduce.h"

#include <memory>
#include <vector>

namespace wattle::reduce {
namespace {

constexpr int64_t grain = 1 << 15;     // elements per chunk of a parallel loop
constexpr int64_t block = 4096;        // elements of a row summed in f32
constexpr int64_t row_block = 64;      // rows of a column sum summed in f32
constexpr int64_t column_tile = 1024;  // columns per chunk

std::unique_ptr<float[]> scratch(int64_t n) {
  return std::unique_ptr<float[]>(new float[static_cast<size_t>(n)]);
}

// ---- rows: x [outer, n] -> y [outer] ----

template <int N>
WATTLE_FORCE_INLINE float sum_block(const float* p, int64_t n) {
  simd::f32<N> a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    a += simd::load<N>(p + i);
    b += simd::load<N>(p + i + N);
    c += simd::load<N>(p + i + 2 * N);
    d += simd::load<N>(p + i + 3 * N);
  }
  for (; i + N <= n; i += N) a += simd::load<N>(p + i);
  float s = simd::hsum<N>((a + b) + (c + d));
  if constexpr (N > 4)
    for (; i + 4 <= n; i += 4) s += simd::hsum<4>(simd::load<4>(p + i));
  for (; i < n; ++i) s += p[i];
  return s;
}

// Rows too short for lanes: four at a time, so that their additions overlap.
void sum_short_rows(const float* x, float* y, int64_t rows, int64_t n) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * n) {
    float a = 0, b = 0, c = 0, d = 0;
    for (int64_t i = 0; i < n; ++i) a += x[i], b += x[n + i], c += x[2 * n + i], d += x[3 * n + i];
    y[r] = a, y[r + 1] = b, y[r + 2] = c, y[r + 3] = d;
  }
  for (; r < rows; ++r, x += n) {
    float a = 0;
    for (int64_t i = 0; i < n; ++i) a += x[i];
    y[r] = a;
  }
}

template <class Isa>
void sum_rows(const float* x, float* y, int64_t outer, int64_t n) {
  if (n < 16)
    return parallel_for(outer, grain / n, [&](int64_t first, int64_t last) {
      sum_short_rows(x + first * n, y + first, last - first, n);
    });
  const int64_t cuts = (n + block - 1) / block;
  std::vector<float> part(static_cast<size_t>(cuts > 1 ? outer * cuts : 0));
  float* const to = cuts > 1 ? part.data() : y;
  const int64_t each = cuts > 1 ? grain / block : grain / n;
  parallel_for(outer * cuts, each, [&](int64_t first, int64_t last) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t c = first; c < last; ++c) {
        const int64_t begin = c % cuts * block, left = n - begin;
        to[c] = sum_block<N>(x + c / cuts * n + begin, left < block ? left : block);
      }
    });
  });
  for (int64_t r = 0; cuts > 1 && r < outer; ++r) {
    double s = 0;
    for (int64_t c = 0; c < cuts; ++c) s += part[static_cast<size_t>(r * cuts + c)];
    y[r] = static_cast<float>(s);
  }
}

// ---- columns: x [outer, n, m] -> y [outer, m] ----

// Sums `rows` rows of `m` neighbouring columns of a matrix with row stride `step`.
template <int N>
WATTLE_FORCE_INLINE void sum_tile(const float* x, float* y, int64_t rows, int64_t m, int64_t step) {
  constexpr int U = 8;
  int64_t c = 0;
  for (; c + U * N <= m; c += U * N) {
    simd::f32<N> acc[U] = {};
    for (int64_t r = 0; r < rows; ++r)
      for (int u = 0; u < U; ++u) acc[u] += simd::load<N>(x + r * step + c + u * N);
    for (int u = 0; u < U; ++u) simd::store<N>(y + c + u * N, acc[u]);
  }
  for (; c + N <= m; c += N) {
    simd::f32<N> acc{};
    for (int64_t r = 0; r < rows; ++r) acc += simd::load<N>(x + r * step + c);
    simd::store<N>(y + c, acc);
  }
  if constexpr (N > 1)
    if (c < m) sum_tile<N / 2>(x + c, y + c, rows, m - c, step);
}

template <class Isa>
void sum_columns_wide(const float* x, float* y, int64_t outer, int64_t n, int64_t m) {
  const int64_t row_cuts = (n + row_block - 1) / row_block;
  const int64_t col_cuts = (m + column_tile - 1) / column_tile;
  const auto part = scratch(row_cuts > 1 ? outer * row_cuts * m : 0);
  float* const to = row_cuts > 1 ? part.get() : y;
  const int64_t items = outer * row_cuts * col_cuts;
  const int64_t work = (n < row_block ? n : row_block) * (m < column_tile ? m : column_tile);
  parallel_for(items, grain / work, [&](int64_t first, int64_t last) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t item = first; item < last; ++item) {
        const int64_t col = item % col_cuts * column_tile, o_row = item / col_cuts;
        const int64_t row = o_row % row_cuts * row_block, o = o_row / row_cuts;
        sum_tile<N>(x + (o * n + row) * m + col, to + o_row * m + col,
                    n - row < row_block ? n - row : row_block,
                    m - col < column_tile ? m - col : column_tile, m);
      }
    });
  });
  if (row_cuts > 1) sum_columns_wide<Isa>(part.get(), y, outer, row_cuts, m);
}

// Few columns: `fold` rows side by side make one wide row.
template <class Isa>
void sum_columns_narrow(const float* x, float* y, int64_t n, int64_t m, int64_t fold) {
  const int64_t wide = n / fold, width = fold * m;
  const auto part = scratch(width);
  sum_columns_wide<Isa>(x, part.get(), 1, wide, width);
  for (int64_t c = 0; c < m; ++c) {
    double s = 0;
    for (int64_t f = 0; f < fold; ++f) s += part[static_cast<size_t>(f * m + c)];
    for (int64_t r = wide * fold; r < n; ++r) s += x[r * m + c];
    y[c] = static_cast<float>(s);
  }
}

template <class Isa>
void sum_columns(const float* x, float* y, int64_t outer, int64_t n, int64_t m) {
  const int64_t fold = (64 + m - 1) / m;
  if (m >= 64 || n < 4 * fold) return sum_columns_wide<Isa>(x, y, outer, n, m);
  const int64_t each = n * m < grain ? grain / (n * m) : 1;
  parallel_for(outer, outer == 1 ? 1 : each, [&](int64_t first, int64_t last) {
    for (int64_t o = first; o < last; ++o)
      sum_columns_narrow<Isa>(x + o * n * m, y + o * m, n, m, fold);
  });
}

}  // namespace

Runs merge_runs(const Shape& shape, uint32_t mask) {
  Runs runs;
  for (int d = 0; d < shape.rank(); ++d) {
    if (shape[d] == 1) continue;
    const bool reduced = mask >> d & 1u;
    if (runs.count > 0 && runs.reduced[runs.count - 1] == reduced) {
      runs.size[runs.count - 1] *= shape[d];
    } else {
      runs.size[runs.count] = shape[d];
      runs.reduced[runs.count++] = reduced;
    }
  }
  return runs;
}

Split split_dims(const Shape& shape, uint32_t mask) {
  Split s;
  const Shape strides = contiguous_strides(shape);
  for (int d = 0; d < shape.rank(); ++d) {
    const bool reduced = mask >> d & 1u;
    (reduced ? s.reduced : s.kept).push_back(shape[d]);
    (reduced ? s.reduced_strides : s.kept_strides).push_back(strides[d]);
  }
  return s;
}

int64_t reduced_count(const Shape& shape, uint32_t mask) {
  int64_t n = 1;
  for (int d = 0; d < shape.rank(); ++d)
    if (mask >> d & 1u) n *= shape[d];
  return n;
}

Tensor spread(const Tensor& gy, const Shape& shape, uint32_t mask) {
  const Shape kept = rules::reduced_shape(shape, mask, true);
  return expand(gy.shape() == kept ? gy : reshape(gy, kept), shape);
}

template <class Isa>
void sum_f32(const float* x, const Shape& shape, uint32_t mask, float* y) {
  const Runs runs = merge_runs(shape, mask);
  int64_t inner = shape.numel(), outer = 1;
  if (inner == 0) {
    const int64_t results = rules::reduced_shape(shape, mask, false).numel();
    for (int64_t i = 0; i < results; ++i) y[i] = 0;
    return;
  }
  int stages = 0;
  for (int i = 0; i < runs.count; ++i) stages += runs.reduced[i];
  if (stages == 0) std::memcpy(y, x, static_cast<size_t>(inner) * sizeof(float));
  std::unique_ptr<float[]> held, made;
  for (int i = 0; i < runs.count; ++i) {
    inner /= runs.size[i];
    if (!runs.reduced[i]) {
      outer *= runs.size[i];
      continue;
    }
    const bool last = --stages == 0;
    if (!last) made = scratch(outer * inner);
    float* const to = last ? y : made.get();
    if (inner == 1) sum_rows<Isa>(x, to, outer, runs.size[i]);
    else sum_columns<Isa>(x, to, outer, runs.size[i], inner);
    held = std::move(made);
    x = held.get();
  }
}
template void sum_f32<simd::Portable>(const float*, const Shape&, uint32_t, float*);
template void sum_f32<simd::Avx2>(const float*, const Shape&, uint32_t, float*);
template void sum_f32<simd::Avx512>(const float*, const Shape&, uint32_t, float*);

}  // namespace wattle::reduce
