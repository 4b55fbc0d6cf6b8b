// Folds: the elements of every row merged into one value (included by core/cuda/each.cuh).
#pragma once
#include "core/cuda/each.cuh"

namespace wattle::device {

// ---- Folds: for every row, the elements of it merged into one value ----
//
// F has a type Acc, `Acc start()`, `void take(Acc&, row, i)`, `void merge(Acc&, const Acc&)` and
// `void store(row, const Acc&)`. The order of merging depends on the sizes alone.

template <class Acc>
__device__ __forceinline__ Acc shuffled(const Acc& a, int lanes) {
  static_assert(sizeof(Acc) % 4 == 0, "an Acc is moved between lanes in words");
  Acc other;
  const int* from = reinterpret_cast<const int*>(&a);
  int* to = reinterpret_cast<int*>(&other);
#pragma unroll
  for (int w = 0; w < static_cast<int>(sizeof(Acc) / 4); ++w)
    to[w] = __shfl_down_sync(0xffffffffu, from[w], lanes);
  return other;
}

// One warp a row.
template <class F>
__global__ void __launch_bounds__(256) fold_warp(int64_t rows, int64_t n, F f) {
  const int lane = threadIdx.x & 31;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) >> 5;
  if (row >= rows) return;
  typename F::Acc a = f.start();
  for (int64_t i = lane; i < n; i += 32) f.take(a, row, i);
  for (int d = 16; d > 0; d >>= 1) {
    const typename F::Acc other = shuffled(a, d);
    f.merge(a, other);
  }
  if (lane == 0) f.store(row, a);
}

// Blocks (part, row): part p takes elements [p*each, p*each + each) of its row. With more than one
// part the values go to `partial`, to be folded again.
template <class F>
__global__ void __launch_bounds__(256)
    fold_block(int64_t n, int64_t part, F f, typename F::Acc* partial) {
  __shared__ typename F::Acc warp[8];
  const int64_t row = blockIdx.y + static_cast<int64_t>(blockIdx.z) * gridDim.y;
  const int64_t begin = blockIdx.x * part, end = begin + part < n ? begin + part : n;
  typename F::Acc a = f.start();
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) f.take(a, row, i);
  for (int d = 16; d > 0; d >>= 1) {
    const typename F::Acc other = shuffled(a, d);
    f.merge(a, other);
  }
  if ((threadIdx.x & 31) == 0) warp[threadIdx.x >> 5] = a;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < 8; ++w) f.merge(a, warp[w]);
  if (partial) partial[row * gridDim.x + blockIdx.x] = a;
  else f.store(row, a);
}

template <class F>
struct OneRowEach {
  F f;
  int64_t n;
  WATTLE_HD void operator()(int64_t row) const {
    typename F::Acc a = f.start();
    for (int64_t i = 0; i < n; ++i) f.take(a, row, i);
    f.store(row, a);
  }
};
// The parts of every row merged: a warp a row.
template <class F>
__global__ void __launch_bounds__(32)
    join_parts(int64_t parts, F f, const typename F::Acc* __restrict__ partial) {
  const int64_t row = blockIdx.x;
  typename F::Acc a = f.start();
  for (int64_t p = threadIdx.x; p < parts; p += 32) f.merge(a, partial[row * parts + p]);
  for (int d = 16; d > 0; d >>= 1) {
    const typename F::Acc other = shuffled(a, d);
    f.merge(a, other);
  }
  if (threadIdx.x == 0) f.store(row, a);
}

/// `side_by_side`: neighbouring rows lie next to each other in memory, so that a thread a row reads
/// whole lines.
template <class F>
const char* fold(int64_t rows, int64_t n, F f, bool side_by_side = false) {
  if (rows <= 0) return nullptr;
  if (emulated() || n <= 4 || (side_by_side && rows >= 16384))
    return each(rows, OneRowEach<F>{f, n});
  if (n <= 512 && rows >= 64) {
    fold_warp<<<static_cast<unsigned>((rows + 7) / 8), 256, 0, stream()>>>(rows, n, f);
    return launched();
  }
  int64_t parts = 1;
  while (rows * parts < 528 && n / (parts * 2) >= 1024) parts *= 2;
  const int64_t part = (n + parts - 1) / parts;
  const unsigned y = static_cast<unsigned>(rows < 32768 ? rows : 32768);
  if (rows > y && rows % y) return each(rows, OneRowEach<F>{f, n});
  const dim3 grid(static_cast<unsigned>(parts), y, static_cast<unsigned>(rows / y));
  if (parts == 1) {
    fold_block<<<grid, 256, 0, stream()>>>(n, part, f, static_cast<typename F::Acc*>(nullptr));
    return launched();
  }
  const Scratch partial(rows * parts * static_cast<int64_t>(sizeof(typename F::Acc)));
  if (!partial)
    return fail("out of memory for %lld partial sums", static_cast<long long>(rows * parts));
  auto* const p = partial.as<typename F::Acc>();
  fold_block<<<grid, 256, 0, stream()>>>(n, part, f, p);
  if (const char* error = launched()) return error;
  join_parts<<<static_cast<unsigned>(rows), 32, 0, stream()>>>(parts, f, p);
  return launched();
}

}  // namespace wattle::device
