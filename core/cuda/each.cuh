// The loops of device code. A kernel is a functor over an index, `__host__ __device__`, so that the
// same lines run on a GPU and, in tests on machines without one, on the host.
#pragma once
#include "core/cuda/call.cuh"

namespace wattle::device {

// ---- f(i) for every i below n ----

template <class F>
__global__ void __launch_bounds__(256) each_kernel(int64_t n, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    f(i);
}
template <class F>
const char* each(int64_t n, F f) {
  if (n <= 0) return nullptr;
  if (emulated()) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return nullptr;
  }
  const int64_t blocks = (n + 255) / 256;
  each_kernel<<<static_cast<unsigned>(blocks < 8192 ? blocks : 8192), 256, 0, stream()>>>(n, f);
  return launched();
}

// ---- Rows: some lanes work on one row together ----
//
// F has `template <class L> void operator()(int64_t row, L lanes) const`; a lane takes the elements
// lanes.first, lanes.first + lanes.step, ... of its row.

template <class T>
WATTLE_HD T shuffle_xor(T v, int mask) {
#ifdef __CUDA_ARCH__
  return __shfl_xor_sync(0xffffffffu, v, mask);
#else
  return v;
#endif
}
struct Warp {
  int first = 0, step = 32;
  template <class T>
  WATTLE_HD T sum(T v) const {
    for (int d = 16; d > 0; d >>= 1) v += shuffle_xor(v, d);
    return v;
  }
  template <class T>
  WATTLE_HD T max(T v) const {
    for (int d = 16; d > 0; d >>= 1) {
      const T o = shuffle_xor(v, d);
      v = o > v ? o : v;
    }
    return v;
  }
};
struct OneLane {
  int first = 0, step = 1;
  template <class T>
  WATTLE_HD T sum(T v) const {
    return v;
  }
  template <class T>
  WATTLE_HD T max(T v) const {
    return v;
  }
};
template <class F>
__global__ void __launch_bounds__(256) rows_kernel(int64_t rows, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  Warp w;
  w.first = threadIdx.x & 31;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
       row < rows; row += step)
    f(row, w);
}
template <class F>
struct OneThreadARow {
  F f;
  WATTLE_HD void operator()(int64_t row) const { f(row, OneLane{}); }
};
/// `n`: elements of a row; short rows take a thread each.
template <class F>
const char* rows(int64_t count, int64_t n, F f) {
  if (count <= 0) return nullptr;
  if (emulated() || n <= 16) return each(count, OneThreadARow<F>{f});
  const int64_t blocks = (count + 7) / 8;
  rows_kernel<<<static_cast<unsigned>(blocks < 65535 ? blocks : 65535), 256, 0, stream()>>>(count,
                                                                                            f);
  return launched();
}

/// A dim of a row-major tensor: element i of column c lies at base(c) + i * inner.
struct Along {
  int64_t outer = 1, n = 1, inner = 1;
  WATTLE_HD int64_t base(int64_t c) const {
    const int64_t q = quotient(c, inner);
    return q * n * inner + (c - q * inner);
  }
  WATTLE_HD int64_t columns() const { return outer * inner; }
};
inline Along along(const View& x, int64_t dim) {
  Along a;
  if (x.rank == 0) return a;
  if (dim < 0) dim += x.rank;
  for (int d = 0; d < x.rank; ++d) {
    if (d < dim) a.outer *= x.size[d];
    else if (d == dim) a.n = x.size[d];
    else a.inner *= x.size[d];
  }
  return a;
}

}  // namespace wattle::device

#include "core/cuda/fold.cuh"
#include "core/cuda/map.cuh"
