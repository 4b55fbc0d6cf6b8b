// Products of a vector and a matrix (included by ops/gemm.cpp): the matrix is read once, where it
// lies, so they run as fast as it comes from memory.
#pragma once
#include <algorithm>

#include "core/parallel.h"
#include "ops/gemm_cut.h"
#include "ops/gemm_kernels.h"

namespace wattle::gemm::detail {

// One row or one column of results whose operands both run along k: c[j * step] is the dot product
// of x [k] and row j of y.
struct Dots {
  int64_t n, k;
  const float *x, *y;
  int64_t y_ld;
  float* c;
  int64_t step;
  const float* bias;
  int64_t bias_step;
  bool add;
};

template <class Isa>
void run_dots(const Dots& d) {
  const int64_t grain = std::max<int64_t>(4, kSmallTask / 4 / d.k);
  parallel_for(d.n, grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t j = begin; j < end; ++j) {
        float s = detail::dot<N>(d.x, d.y + j * d.y_ld, d.k);
        if (d.bias) s += d.bias[j * d.bias_step];
        d.c[j * d.step] = d.add ? s + d.c[j * d.step] : s;
      }
    });
  });
}

// One row of results, of a matrix whose rows lie in one piece: c[j] = sum over p of x[p * x_step]
// y[p, j], eight rows at a time. Threads share out columns; the order of a sum is that of p.
struct RowOf {
  int64_t n, k;
  const float* x;
  int64_t x_step;
  const float* y;
  int64_t y_ld;
  float* c;
  const float* bias;
  bool add;
};

template <class Isa>
void run_row(const RowOf& d) {
  constexpr int64_t kRows = 8;
  const int64_t grain = std::max<int64_t>(512, kSmallTask / d.k);
  parallel_for(d.n, grain, [&](int64_t begin, int64_t end) {
    float* const c = d.c;
    if (!d.add) std::fill(c + begin, c + end, 0.0f);
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t p = 0; p < d.k; p += kRows) {
        const int64_t rows = std::min(kRows, d.k - p);
        float x[kRows];
        const float* y[kRows];
        for (int64_t r = 0; r < rows; ++r)
          x[r] = d.x[(p + r) * d.x_step], y[r] = d.y + (p + r) * d.y_ld;
        int64_t j = begin;
        for (; rows == kRows && j + N <= end; j += N) {
          simd::f32<N> s = simd::load<N>(c + j);
#pragma GCC unroll 8
          for (int64_t r = 0; r < kRows; ++r) s += x[r] * simd::load<N>(y[r] + j);
          simd::store<N>(c + j, s);
        }
        for (; j + N <= end; j += N) {
          simd::f32<N> s = simd::load<N>(c + j);
          for (int64_t r = 0; r < rows; ++r) s += x[r] * simd::load<N>(y[r] + j);
          simd::store<N>(c + j, s);
        }
        for (; j < end; ++j)
          for (int64_t r = 0; r < rows; ++r) c[j] += x[r] * y[r][j];
      }
    });
    if (d.bias)
      for (int64_t j = begin; j < end; ++j) c[j] += d.bias[j];
  });
}

}  // namespace wattle::gemm::detail
