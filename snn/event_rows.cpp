// Rows of weights are added up tile by tile of columns, in registers. Where the weights of a tile
// stay in the cache, all lists (steps and samples) pass it before the next, so that weights which
// several of them need come from memory once.
#include "snn/event_rows.h"

#include <algorithm>

#include "core/parallel.h"
#include "ops/gemm_kernels.h"
#include "snn/event.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

constexpr int64_t kTaskWork = 1 << 16;  // additions worth handing to a thread
constexpr int64_t kFewWork = 1 << 14;  // the same of few lists, whose caller waits for microseconds
constexpr int64_t kCache = 1 << 20;    // bytes

size_t idx(int64_t i) { return static_cast<size_t>(i); }

// Sums of V vectors of columns.
template <int N, int V>
WATTLE_FORCE_INLINE void add_rows(std::span<const int32_t> list, const float* w, int64_t w_row,
                                  const float* bias, float* y) {
  simd::f32<N> sum[V] = {};
  for (const int32_t i : list) {
    const float* const row = w + i * w_row;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[v] += simd::load<N>(row + v * N);
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
    simd::store<N>(y + v * N, bias ? sum[v] + simd::load<N>(bias + v * N) : sum[v]);
}

// The columns of a tile of one row of results.
template <class Isa>
void sum_tile(const RowSums& s, std::span<const int32_t> list, int64_t i, int64_t tile) {
  const float* const w = s.w + tile * s.w_tile;
  const float* const bias = s.bias ? s.bias + tile * RowSums::tile : nullptr;
  float* const y = s.y + i * s.n + tile * RowSums::tile;
  const int64_t width = std::min(RowSums::tile, s.n - tile * RowSums::tile);
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int kWide = N == 16 ? 16 : 8;
    int64_t j = 0;
    for (; j + kWide * N <= width; j += kWide * N)
      add_rows<N, kWide>(list, w + j, s.w_row, bias ? bias + j : nullptr, y + j);
    for (; j + 4 * N <= width; j += 4 * N)
      add_rows<N, 4>(list, w + j, s.w_row, bias ? bias + j : nullptr, y + j);
    for (; j + N <= width; j += N)
      add_rows<N, 1>(list, w + j, s.w_row, bias ? bias + j : nullptr, y + j);
    for (; j < width; ++j) {
      float sum = 0;
      for (const int32_t r : list) sum += w[r * s.w_row + j];
      y[j] = bias ? sum + bias[j] : sum;
    }
  });
}

// Columns [begin, end) of one row of results, eight rows of weights at a time from end to end: what
// comes from memory comes in long stretches.
template <class Isa>
void stream_row(const RowSums& s, std::span<const int32_t> list, int64_t i, int64_t begin,
                int64_t end) {
  constexpr size_t kRows = 8;
  float* const y = s.y + i * s.n;
  const auto row = [&](size_t e) { return s.w + list[e] * s.w_row; };
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    if (list.size() < kRows)
      std::fill(y + begin, y + end, 0.0f);  // else the first rows are written
    size_t e = 0;
    for (; e + kRows <= list.size(); e += kRows) {
      const float* const w[kRows] = {row(e),     row(e + 1), row(e + 2), row(e + 3),
                                     row(e + 4), row(e + 5), row(e + 6), row(e + 7)};
      const auto add = [&]<bool first>() WATTLE_INLINE_BODY {
        int64_t j = begin;
        for (; j + N <= end; j += N) {
          simd::f32<N> sum{};
          if (!first) sum = simd::load<N>(y + j);
#pragma GCC unroll 8
          for (size_t r = 0; r < kRows; ++r) sum += simd::load<N>(w[r] + j);
          simd::store<N>(y + j, sum);
        }
        for (; j < end; ++j) {
          float sum = first ? 0 : y[j];
          for (size_t r = 0; r < kRows; ++r) sum += w[r][j];
          y[j] = sum;
        }
      };
      if (e == 0) add.template operator()<true>();
      else add.template operator()<false>();
    }
    for (; e < list.size(); ++e) {
      const float* const w = row(e);
      int64_t j = begin;
      for (; j + N <= end; j += N)
        simd::store<N>(y + j, simd::load<N>(y + j) + simd::load<N>(w + j));
      for (; j < end; ++j) y[j] += w[j];
    }
    for (int64_t j = begin; s.bias && j < end; ++j) y[j] += s.bias[j];
  });
}

// The pieces of the columns, of whole tiles and of equal size; at most `most`.
struct Cuts {
  int64_t tiles, n;
  Cuts(int64_t columns, int64_t most) : tiles((columns + RowSums::tile - 1) / RowSums::tile) {
    n = std::clamp<int64_t>(most, 1, std::max<int64_t>(1, tiles));
    while (n > 1 && tiles % n != 0) --n;
  }
  int64_t tile(int64_t cut) const { return cut * tiles / n; }  // the first one
};

// Few lists: each runs along its rows, in as few pieces as keep the threads busy.
template <class Isa>
void sum_few(const SpikeLists& lists, const RowSums& s) {
  const int64_t rows = lists.lists(), work = lists.spikes() * s.n / kFewWork;
  const Cuts cuts(s.n, std::min<int64_t>(work, num_threads()) / rows);
  const int64_t grain = work < 2 ? rows * cuts.n : 1;
  parallel_for(rows * cuts.n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / cuts.n, cut = task % cuts.n;
      stream_row<Isa>(s, lists.list(row), row, cuts.tile(cut) * RowSums::tile,
                      std::min(s.n, cuts.tile(cut + 1) * RowSums::tile));
    }
  });
}

template <class Isa>
void sum_many(const SpikeLists& lists, const RowSums& s) {
  const int64_t rows = lists.lists(), work = lists.spikes() * s.n / kTaskWork;
  const Cuts cuts(s.n, work);
  const int64_t parts = std::clamp<int64_t>(work / cuts.n, 1, std::max<int64_t>(1, rows));
  // Weights of a tile that the next list still finds in the cache.
  const bool stay = std::min(lists.spikes(), s.rows) * RowSums::tile * 4 <= kCache;
  parallel_for(cuts.n * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t cut = task / parts, part = task % parts;
      const int64_t top = part * rows / parts, height = (part + 1) * rows / parts - top;
      const int64_t first = cuts.tile(cut), width = cuts.tile(cut + 1) - first;
      for (int64_t i = 0; i < height * width; ++i) {
        const int64_t row = top + (stay ? i % height : i / width);
        const int64_t tile = first + (stay ? i / height : i % width);
        sum_tile<Isa>(s, lists.list(row), row, tile);
      }
    }
  });
}

// Columns [j, j + N) of the transpose of x [rows, columns] for j = begin, begin + N .. end.
template <class Isa>
void transpose_strip(const float* x, int64_t columns, int64_t begin, int64_t end, float* to,
                     int64_t to_row) {
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    for (int64_t i = begin; i < end; i += N)
      gemm::detail::pack_transposed<N>(x + i * columns, columns,
                                       static_cast<int>(std::min<int64_t>(end - i, N)), columns,
                                       to + i, to_row);
  });
}
constexpr int64_t kStrip = 64;  // rows of a task; whole vectors

}  // namespace

SpikeLists SpikeLists::by_row(const uint8_t* bits, int64_t rows, int64_t columns) {
  SpikeLists l;
  l.first.assign(idx(rows + 1), 0);
  const int64_t row_bytes = spike_row_bytes(columns);
  const int64_t grain = std::max<int64_t>(1, kTaskWork / std::max<int64_t>(1, row_bytes));
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      l.first[idx(r + 1)] = count_bits(bits + r * row_bytes, row_bytes);
  });
  for (int64_t r = 0; r < rows; ++r) l.first[idx(r + 1)] += l.first[idx(r)];
  l.at.resize(idx(l.first.back()));
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int32_t* to = l.at.data() + l.first[idx(r)];
      for_each_spike(bits + r * row_bytes, columns,
                     [&](int64_t i) { *to++ = static_cast<int32_t>(i); });
    }
  });
  return l;
}

SpikeLists SpikeLists::by_column(const uint8_t* bits, int64_t rows, int64_t columns) {
  SpikeLists l;
  l.first.assign(idx(columns + 1), 0);
  const int64_t row_bytes = spike_row_bytes(columns);
  for (int64_t r = 0; r < rows; ++r)
    for_each_spike(bits + r * row_bytes, columns, [&](int64_t i) { ++l.first[idx(i + 1)]; });
  for (int64_t i = 0; i < columns; ++i) l.first[idx(i + 1)] += l.first[idx(i)];
  l.at.resize(idx(l.first.back()));
  std::vector<int64_t> next(l.first.begin(), l.first.end() - 1);
  for (int64_t r = 0; r < rows; ++r)
    for_each_spike(bits + r * row_bytes, columns,
                   [&](int64_t i) { l.at[idx(next[idx(i)]++)] = static_cast<int32_t>(r); });
  return l;
}

void sum_rows(const SpikeLists& lists, const RowSums& s) {
  const bool in_rows = s.w_tile == RowSums::tile, few = lists.lists() < 8;
  at_level([&]<class Isa>() { in_rows&& few ? sum_few<Isa>(lists, s) : sum_many<Isa>(lists, s); });
}

Tensor by_input(const float* w, int64_t n, int64_t k) {
  constexpr int64_t tile = RowSums::tile;
  const Tensor tiles = Tensor::empty({(n + tile - 1) / tile * tile * k}, DType::f32);
  at_level([&]<class Isa>() {
    parallel_for(n, kStrip, [&](int64_t begin, int64_t end) {
      const int64_t first = begin / tile * tile;  // of this tile
      transpose_strip<Isa>(w + first * k, k, begin - first, end - first,
                           tiles.data<float>() + first * k, tile);
    });
  });
  return tiles;
}

void transpose_into(const float* x, int64_t rows, int64_t columns, float* to) {
  // A vector beyond the last row would reach into the next row of `to`.
  const int64_t whole = rows / kStrip * kStrip;
  at_level([&]<class Isa>() {
    parallel_for(whole, kStrip, [&](int64_t begin, int64_t end) {
      transpose_strip<Isa>(x, columns, begin, end, to, rows);
    });
  });
  for (int64_t i = whole; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = x[i * columns + j];
}

}  // namespace wattle::snn
