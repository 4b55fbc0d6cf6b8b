#include "quant/int_matmul_kernels.h"

#include <cstring>

#include "core/simd.h"
#include "quant/int_pack.h"
#include "quant/int_pairs.h"

namespace wattle::quant {

void int_gemm_ref(const IntGemm& g) {
  for (int64_t i = 0; i < g.m; ++i)
    for (int64_t j = 0; j < g.n; ++j) {
      int32_t sum = 0;
      for (int64_t k = 0; k < g.k; ++k) {
        const uint8_t v = g.a[i * g.k + k];
        sum += (g.a_unsigned ? int32_t{v} : int32_t{static_cast<int8_t>(v)}) *
               g.b[k * g.b_row + j * g.b_col];
      }
      g.c[i * g.n + j] = sum;
    }
}

#if defined(__x86_64__)
using namespace int_pack;
using namespace int_pairs;
namespace {

// ---- AVX2 ----

// A row of a as 16-bit numbers, filled up with zeros to k.
void widen(const IntGemm& g, int64_t row, int64_t k, int16_t* to) {
  const uint8_t* from = g.a + row * g.k;
  if (g.a_unsigned)
    for (int64_t p = 0; p < g.k; ++p) to[p] = from[p];
  else
    for (int64_t p = 0; p < g.k; ++p) to[p] = static_cast<int8_t>(from[p]);
  std::fill(to + g.k, to + k, int16_t{0});
}

// A row of at most 16 results; a known size is a few moves, an unknown one a call.
void copy_row(int32_t* to, const void* from, int64_t width) {
  if (width == columns) std::memcpy(to, from, columns * sizeof(int32_t));
  else std::memcpy(to, from, static_cast<size_t>(width) * sizeof(int32_t));
}

// ---- VNNI ----

template <int R, int Panels>
[[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni")]] void tile_vnni(
    const uint8_t* a, int64_t lda, const uint8_t* b, int64_t k, const int32_t* correction,
    int32_t* c, int64_t ldc, int64_t width) {
  using V = simd::i32<16>;
  V sum[R][Panels] = {};
  for (int64_t q = 0; q < k; q += 4, b += 4 * columns) {
    __m512i x[Panels];
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p) x[p] = _mm512_loadu_si512(b + p * k * columns);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      int32_t four;
      std::memcpy(&four, a + r * lda + q, sizeof four);
      const __m512i y = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p)
        sum[r][p] = (V)_mm512_dpbusd_epi32((__m512i)sum[r][p], y, x[p]);
    }
  }
  for (int r = 0; r < R; ++r) {
    int32_t out[Panels * columns];
    std::memcpy(out, sum[r], sizeof out);
    for (int64_t j = 0; j < width; ++j) c[r * ldc + j] = out[j] + correction[j];
  }
}

// The same on 8 lanes, where an AVX2 machine has vpdpbusd (AVX-VNNI).
template <int R>
[[gnu::target("avx2,avxvnni")]] void tile_avxvnni(const uint8_t* a, int64_t lda, const uint8_t* b,
                                                  int64_t k, const int32_t* correction, int32_t* c,
                                                  int64_t ldc, int64_t width) {
  using V = simd::i32<8>;
  V sum[R][2] = {};
  for (int64_t q = 0; q < k; q += 4, b += 4 * columns) {
    const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t four;
      std::memcpy(&four, a + r * lda + q, sizeof four);
      const __m256i y = _mm256_set1_epi32(four);
      sum[r][0] = (V)_mm256_dpbusd_avx_epi32((__m256i)sum[r][0], y, b0);
      sum[r][1] = (V)_mm256_dpbusd_avx_epi32((__m256i)sum[r][1], y, b1);
    }
  }
  for (int r = 0; r < R; ++r) {
    int32_t out[columns];
    std::memcpy(out, sum[r], sizeof out);
    for (int64_t j = 0; j < width; ++j) c[r * ldc + j] = out[j] + correction[j];
  }
}

}  // namespace

void int_gemm_avx2(const IntGemm& g) {
  const PackedInts b = pack<int16_t, 2>(g, 2, false);
  const auto* data = static_cast<const int16_t*>(b.data.raw());
  for_row_blocks(g.m, block_rows(g.m), [&](int64_t i0, int64_t count) {
    const Tensor wide = bytes(count * b.k * 2);
    auto* const a = static_cast<int16_t*>(wide.raw());
    for (int64_t i = 0; i < count; ++i) widen(g, i0 + i, b.k, a + i * b.k);
    alignas(32) uint32_t tile[tile_rows * columns];
    for (int64_t j = 0; j < g.n; j += columns)
      for (int64_t i = 0, rows = 0; i < count; i += rows) {
        rows = run_tile(a + i * b.k, b.k, data + j * b.k, b.k, i, count, tile);
        for (int64_t r = 0; r < rows; ++r)
          copy_row(g.c + (i0 + i + r) * g.n + j, tile + r * columns, std::min(columns, g.n - j));
      }
  });
}

namespace {
// What both VNNI kernels share: tile(rows, panels, a, panel of b, k, correction, c, width).
template <int Rows, class Tile>
void int_gemm_bytes(const IntGemm& g, int64_t wide, const Tile& tile) {
  const PackedInts b = pack<int8_t, 4>(g, 4, !g.a_unsigned);
  const auto* data = static_cast<const uint8_t*>(b.data.raw());
  // vpdpbusd takes bytes without a sign on one side: a + 128, and 128 times the sum of b too much.
  const uint8_t flip = g.a_unsigned ? 0 : 0x80;
  std::vector<int32_t> correction(b.sums.size() + 2 * columns, 0);
  for (size_t j = 0; j < b.sums.size(); ++j) correction[j] = g.a_unsigned ? 0 : -128 * b.sums[j];
  for_row_blocks(g.m, Rows * 4, [&](int64_t i0, int64_t count) {
    const Tensor copy = bytes(count * b.k);  // rows of whole fours; what is added meets zeros of b
    auto* const a = static_cast<uint8_t*>(copy.raw());
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t* from = g.a + (i0 + i) * g.k;
      for (int64_t k = 0; k < g.k; ++k) a[i * b.k + k] = from[k] ^ flip;
      for (int64_t k = g.k; k < b.k; ++k) a[i * b.k + k] = 0;
    }
    for (int64_t j = 0; j < g.n;) {
      const bool many = j + wide <= g.n;
      const int64_t step = many ? wide : columns;
      for (int64_t i = 0; i < count;) {
        const bool block = i + Rows <= count;
        tile(block, many, a + i * b.k, data + j * b.k, b.k, correction.data() + j,
             g.c + (i0 + i) * g.n + j, std::min(step, g.n - j));
        i += block ? Rows : 1;
      }
      j += step;
    }
  });
}
}  // namespace

void int_gemm_vnni(const IntGemm& g) {
  int_gemm_bytes<8>(g, 3 * columns,
                    [&](bool block, bool many, const uint8_t* a, const uint8_t* b, int64_t k,
                        const int32_t* correction, int32_t* c, int64_t width) {
                      const auto run = block ? (many ? tile_vnni<8, 3> : tile_vnni<8, 1>)
                                             : (many ? tile_vnni<1, 3> : tile_vnni<1, 1>);
                      run(a, k, b, k, correction, c, g.n, width);
                    });
}

void int_gemm_avxvnni(const IntGemm& g) {
  int_gemm_bytes<6>(g, columns,
                    [&](bool block, bool, const uint8_t* a, const uint8_t* b, int64_t k,
                        const int32_t* correction, int32_t* c, int64_t width) {
                      const auto run = block ? tile_avxvnni<6> : tile_avxvnni<1>;
                      run(a, k, b, k, correction, c, g.n, width);
                    });
}

bool has_vnni() {
  static const bool yes =
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
  return yes;
}

bool has_avxvnni() {
  static const bool yes = [] {
    unsigned a = 7, b = 0, c = 1, d = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return __builtin_cpu_supports("avx2") && (a >> 4 & 1);
  }();
  return yes;
}

#else
void int_gemm_avx2(const IntGemm&) {}
void int_gemm_vnni(const IntGemm&) {}
void int_gemm_avxvnni(const IntGemm&) {}
bool has_avxvnni() { return false; }
bool has_vnni() { return false; }
#endif

}  // namespace wattle::quant
