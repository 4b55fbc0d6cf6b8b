// Tiles of the integer product from pairs of 16-bit numbers (vpmaddwd), in which nothing saturates,
// unlike vpmaddubsw, which clips the sum of two products of bytes to 16 bits.
#pragma once
#if defined(__x86_64__)
#include "core/simd.h"
#include "quant/int_pack.h"

namespace wattle::quant::int_pairs {

// Twelve sums, a row and two vectors of b: all but one of 16 registers.
inline constexpr int64_t tile_rows = 6;

/// R rows by 16 columns of a product: a [rows][k] 16-bit numbers, b a panel of [k / 2][16][2], to
/// [rows][16] modulo 2^32. Each step fetches some of what the tiles of the next panel begin with,
/// `step` numbers further each time.
template <int R>
[[gnu::target("avx2")]] void tile_avx2(const int16_t* a, int64_t lda, const int16_t* b, int64_t k,
                                       const int16_t* next, int64_t step, uint32_t* to) {
  constexpr int64_t columns = int_pack::columns;
  using V = simd::u32<8>;  // the intrinsics' own type keeps GCC 12 from holding these in registers
  V sum[R][2] = {};
  for (int64_t p = 0; p < k; p += 2, b += 2 * columns, next += step) {
    __builtin_prefetch(next);
    const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(b));
    const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + columns));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * lda + p, sizeof pair);
      const __m256i x = _mm256_set1_epi32(pair);
      sum[r][0] += (V)_mm256_madd_epi16(x, b0);
      sum[r][1] += (V)_mm256_madd_epi16(x, b1);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * columns + 8 * v), (__m256i)sum[r][v]);
}

/// The next tile, from row i of `rows`, at a; returns how many rows it takes. Eight rows are two
/// tiles of four. All tiles of a panel together fetch the next one.
inline int64_t run_tile(const int16_t* a, int64_t lda, const int16_t* b, int64_t k, int64_t i,
                        int64_t rows, uint32_t* to) {
  const int64_t left = rows - i, size = k * int_pack::columns;
  const int64_t taken = left >= tile_rows && left != 8 ? tile_rows : left >= 4 ? 4 : 1;
  const auto run = taken == tile_rows ? tile_avx2<tile_rows>
                   : taken == 4       ? tile_avx2<4>
                                      : tile_avx2<1>;
  run(a, lda, b, k, b + size + size * i / rows, 2 * int_pack::columns * taken / rows, to);
  return taken;
}

/// Rows of a block: at most 32, and an even number of blocks of nearly one size.
inline int64_t block_rows(int64_t m) {
  if (m <= 32) return std::max<int64_t>(m, 1);
  const int64_t blocks = 2 * ((m + 63) / 64);
  return (m + blocks - 1) / blocks;
}

}  // namespace wattle::quant::int_pairs
#endif
