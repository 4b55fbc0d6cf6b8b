// matmul of spikes [.., k] with weights [k, n] by events: the row of weights of every spike is
// added up, columns tile by tile in registers. Silent inputs cost nothing; their weights are not
// read.
#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "ops/coded.h"
#include "ops/gemm.h"
#include "ops/matmul_plan.h"
#include "snn/event.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

constexpr int64_t kTaskWork = 1 << 16;  // additions worth handing to a thread

struct Events {
  int64_t rows, k, n;
  const uint8_t* spikes;
  int64_t row_bytes;
  const float* w;
  int64_t w_row;
  float* y;
};

// Sums of V vectors of columns from `col` on.
template <int N, int V>
WATTLE_FORCE_INLINE void add_rows(const Events& e, const int32_t* at, int64_t count, int64_t col,
                                  float* y) {
  simd::f32<N> sum[V] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float* const w = e.w + at[i] * e.w_row + col;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[v] += simd::load<N>(w + v * N);
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) simd::store<N>(y + col + v * N, sum[v]);
}

template <class Isa>
void run_row(const Events& e, int64_t row, int64_t begin, int64_t end) {
  thread_local std::vector<int32_t> at;
  at.clear();
  for_each_spike(e.spikes + row * e.row_bytes, e.k,
                 [&](int64_t i) { at.push_back(static_cast<int32_t>(i)); });
  const auto count = static_cast<int64_t>(at.size());
  float* const y = e.y + row * e.n;
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int kWide = N == 16 ? 16 : 8;
    int64_t j = begin;
    for (; j + kWide * N <= end; j += kWide * N) add_rows<N, kWide>(e, at.data(), count, j, y);
    for (; j + 4 * N <= end; j += 4 * N) add_rows<N, 4>(e, at.data(), count, j, y);
    for (; j + N <= end; j += N) add_rows<N, 1>(e, at.data(), count, j, y);
    for (; j < end; ++j) {
      float sum = 0;
      for (int64_t i = 0; i < count; ++i) sum += e.w[at[static_cast<size_t>(i)] * e.w_row + j];
      y[j] = sum;
    }
  });
}

void run_events(const Events& e, int64_t spikes) {
  // Columns are cut where there are few rows, at multiples of a tile.
  constexpr int64_t tile = 256;
  const int64_t work = std::max<int64_t>(1, spikes * e.n);
  const int64_t tiles = (e.n + tile - 1) / tile;
  int64_t cuts = e.rows >= 8 ? 1 : std::clamp<int64_t>(work / e.rows / kTaskWork, 1, tiles);
  while (tiles % cuts != 0) --cuts;  // of equal size
  const int64_t grain = std::max<int64_t>(1, kTaskWork * e.rows * cuts / work);
  parallel_for(e.rows * cuts, grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t c = i % cuts, begin = c * tiles / cuts * tile;
      const int64_t end = std::min(e.n, (c + 1) * tiles / cuts * tile);
      switch (simd::level()) {
        case simd::Level::portable: run_row<simd::Portable>(e, i / cuts, begin, end); break;
        case simd::Level::avx2: run_row<simd::Avx2>(e, i / cuts, begin, end); break;
        case simd::Level::avx512: run_row<simd::Avx512>(e, i / cuts, begin, end); break;
      }
    }
  });
}

int64_t active_inputs(const Events& e) {
  std::vector<uint8_t> any(static_cast<size_t>(e.row_bytes));
  for (int64_t r = 0; r < e.rows; ++r)
    for (int64_t b = 0; b < e.row_bytes; ++b)
      any[static_cast<size_t>(b)] |= e.spikes[r * e.row_bytes + b];
  int64_t n = 0;
  for (uint8_t b : any) n += std::popcount(b);
  return n;
}

Events events_of(Ins in, const MatmulAttr& a, float* y) {
  const MatmulPlan p = matmul_plan(in, a);
  return {p.m,
          p.k,
          p.n,
          static_cast<const uint8_t*>(in[0].raw()),
          spike_row_bytes(p.k),
          in[1].data<float>(),
          p.b_row,
          y};
}

void matmul_events(Ins in, Outs out, const void* attr) {
  const Events e = events_of(in, *static_cast<const MatmulAttr*>(attr), out[0].data<float>());
  const int64_t spikes = count_spikes(in[0]);
  run_events(e, spikes);
  report_executed({.add = spikes * e.n,
                   .read = in[0].nbytes() + active_inputs(e) * e.n * 4,
                   .written = out[0].nbytes()});
}

// ---- which way ----

struct EventShape {
  int64_t rows, k, n;
};

Times measure(const EventShape& s) {
  const Tensor w = Tensor::full({s.k, s.n}, 0.5), y = Tensor::empty({s.rows, s.n}, DType::f32);
  const Tensor bits = Tensor::zeros({s.rows, s.k}, DType::spike);
  const Events e{s.rows,
                 s.k,
                 s.n,
                 static_cast<const uint8_t*>(bits.raw()),
                 spike_row_bytes(s.k),
                 w.data<float>(),
                 s.n,
                 y.data<float>()};
  Times m{};
  const int64_t few = scatter_spikes(bits, kFew);
  m.few = fastest([&] { run_events(e, few); });
  const int64_t many = scatter_spikes(bits, kMany);
  m.many = fastest([&] { run_events(e, many); });
  m.dense = fastest([&] {
    const Tensor x = Tensor::empty({s.rows, s.k}, DType::f32);
    decode(bits, x.data<float>());
    const gemm::MatView a{x.data<float>(), s.k, 1}, b{w.data<float>(), s.n, 1};
    const auto run = [&]<class Isa>() {
      gemm::sgemm<Isa>(s.rows, s.n, s.k, a, b, y.data<float>(), s.n);
    };
    switch (simd::level()) {
      case simd::Level::portable: return run.template operator()<simd::Portable>();
      case simd::Level::avx2: return run.template operator()<simd::Avx2>();
      case simd::Level::avx512: return run.template operator()<simd::Avx512>();
    }
  });
  return m;
}

Refusal events_refused(Ins in, const void* attr) {
  const auto& a = *static_cast<const MatmulAttr*>(attr);
  if (in[0].dtype() != DType::spike) return {"no spikes on the left"};
  if (in[1].dtype() != DType::f32) return {str("weights are ", name(in[1].dtype()))};
  const MatmulPlan p = matmul_plan(in, a);
  if (a.transpose_a || in[0].rank() < 2 || !in[0].is_contiguous() || p.batch.numel() != 1)
    return {"spikes do not lie in rows"};
  if (p.b_col != 1 || p.k < 1 || p.n < 1 || p.m < 1) return {"weights of an input lie apart"};
  if (exec() != Exec::automatic)
    return exec() == Exec::event ? Refusal{} : Refusal{"dense was asked for"};
  const double rate = static_cast<double>(count_spikes(in[0])) / static_cast<double>(p.m * p.k);
  // Beyond so many rows the times per row are the same.
  const EventShape shape{std::min<int64_t>(p.m, 128), p.k, p.n};
  const double limit = crossover(
      {1, shape.rows, shape.k, shape.n},
      [&] { return str("matmul ", shape.rows, " x ", shape.k, " x ", shape.n); },
      [&] { return measure(shape); });
  if (rate <= limit) return {};
  return {str(rate * 100, " % spikes, events pay up to ", limit * 100, " % here")};
}

const bool registered = [] {
  coded::register_kernel(
      {.op = "matmul", .name = "event", .when = events_refused, .run = matmul_events});
  return true;
}();

}  // namespace
}  // namespace wattle::snn
