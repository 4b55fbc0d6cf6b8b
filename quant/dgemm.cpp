#include "quant/dgemm.h"

#include <algorithm>
#include <cstring>

#include "core/simd.h"
#include "core/tensor.h"

namespace wattle::quant {
namespace {

constexpr int64_t depth = 256;  // of a block: a panel of b then stays in the first cache

// Rows i.. of a, columns k.. : [depth][rows], zeros where there is no row.
template <int Rows>
void pack_a(const double* a, int64_t lda, int64_t rows, int64_t kc, double* to) {
  for (int64_t k = 0; k < kc; ++k)
    for (int64_t r = 0; r < Rows; ++r) to[k * Rows + r] = r < rows ? a[r * lda + k] : 0;
}

// A tile of `Rows` rows and two vectors: c += a b over kc.
template <int N, int Rows>
WATTLE_FORCE_INLINE void tile(const double* a, const double* b, int64_t kc, double* c, int64_t ldc,
                              int64_t rows, int64_t columns) {
  using V = simd::f64<N>;
  const auto load = [](const double* p) WATTLE_INLINE_BODY {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  };
  V sum[Rows][2] = {};
  for (int64_t k = 0; k < kc; ++k, a += Rows, b += 2 * N) {
    const V b0 = load(b), b1 = load(b + N);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      sum[r][0] += a[r] * b0;
      sum[r][1] += a[r] * b1;
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    double out[2 * N];
    std::memcpy(out, sum[r], sizeof out);
    for (int64_t j = 0; j < columns; ++j) c[r * ldc + j] += out[j];
  }
}

template <class Isa, int Rows>
void run(int64_t m, int64_t n, int64_t k, const double* a, const double* panels, double* c) {
  std::fill(c, c + m * n, 0.0);
  const Tensor packed = Tensor::empty({Rows * depth}, DType::f64);
  double* const block = packed.data<double>();
  Isa::call([&]<int Lanes>() WATTLE_INLINE_BODY {
    constexpr int N = Lanes / 2, width = 2 * N;
    for (int64_t k0 = 0; k0 < k; k0 += depth) {
      const int64_t kc = std::min(depth, k - k0);
      for (int64_t i = 0; i < m; i += Rows) {
        const int64_t rows = std::min<int64_t>(Rows, m - i);
        pack_a<Rows>(a + i * k + k0, k, rows, kc, block);
        for (int64_t j = 0; j < n; j += width)
          tile<N, Rows>(block, panels + j * k + k0 * width, kc, c + i * n + j, n, rows,
                        std::min<int64_t>(width, n - j));
      }
    }
  });
}

}  // namespace

int64_t dgemm_panel() {
  return simd::level() == simd::Level::avx512 ? 16 : simd::level() == simd::Level::avx2 ? 8 : 4;
}

void dgemm(int64_t m, int64_t n, int64_t k, const double* a, const double* panels, double* c) {
  switch (dgemm_panel()) {
    case 16: return run<simd::Avx512, 12>(m, n, k, a, panels, c);
    case 8: return run<simd::Avx2, 6>(m, n, k, a, panels, c);
    default: return run<simd::Portable, 4>(m, n, k, a, panels, c);
  }
}

}  // namespace wattle::quant
