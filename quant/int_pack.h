// How the integer kernels lay out their right operand.
#pragma once
#if defined(__x86_64__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "core/tensor.h"
#include "quant/int_matmul_kernels.h"

namespace wattle::quant::int_pack {

inline constexpr int64_t columns = 16;  // of a panel of b
inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

inline Tensor bytes(int64_t n) { return Tensor::empty({n}, DType::u8); }

// b in panels of 16 columns, `group` values of k side by side: [panel][k / group][16][group], k
// filled up with zeros to a multiple of `fill`. Also the sums over k of each column.
struct PackedInts {
  int64_t k = 0;  // filled up
  Tensor data;
  std::vector<int32_t> sums;
};

// Four rows of 16 bytes to 16 columns of four; the rest of a short panel is zeros already.
[[gnu::target("avx2")]] inline void interleave4(const int8_t* const* row, int8_t* to) {
  const auto load = [&](int r) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[r]));
  };
  const __m128i r0 = load(0), r1 = load(1), r2 = load(2), r3 = load(3);
  const __m128i low = _mm_unpacklo_epi8(r0, r1), high = _mm_unpackhi_epi8(r0, r1);
  const __m128i low2 = _mm_unpacklo_epi8(r2, r3), high2 = _mm_unpackhi_epi8(r2, r3);
  auto* out = reinterpret_cast<__m128i*>(to);
  _mm_storeu_si128(out, _mm_unpacklo_epi16(low, low2));
  _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(low, low2));
  _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(high, high2));
  _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(high, high2));
}

// Two rows of 16 bytes to 16 columns of two 16-bit numbers.
[[gnu::target("avx2")]] inline void interleave2(const int8_t* const* row, int16_t* to) {
  const __m128i r0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[0]));
  const __m128i r1 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[1]));
  auto* out = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(out, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(r0, r1)));
  _mm256_storeu_si256(out + 1, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(r0, r1)));
}

// Four columns, four groups of four bytes each, to four groups of columns one after the other.
inline void transpose4(const __m128i (&column)[4], void* to) {
  const __m128i ab = _mm_unpacklo_epi32(column[0], column[1]);
  const __m128i cd = _mm_unpacklo_epi32(column[2], column[3]);
  const __m128i ab2 = _mm_unpackhi_epi32(column[0], column[1]);
  const __m128i cd2 = _mm_unpackhi_epi32(column[2], column[3]);
  auto* out = static_cast<__m128i*>(to);  // a group of all 16 columns is four of these
  _mm_storeu_si128(out, _mm_unpacklo_epi64(ab, cd));
  _mm_storeu_si128(out + 4, _mm_unpackhi_epi64(ab, cd));
  _mm_storeu_si128(out + 8, _mm_unpacklo_epi64(ab2, cd2));
  _mm_storeu_si128(out + 12, _mm_unpackhi_epi64(ab2, cd2));
}

// 16 bytes of memory as four groups of four numbers, or 8 as four of two 16-bit ones.
template <class T>
[[gnu::target("avx2")]] __m128i load_groups(const int8_t* from) {
  if constexpr (sizeof(T) == 1) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  else return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}

// A panel whose columns lie together in b, up to the returned k.
template <class T, int Group>
[[gnu::target("avx2")]] int64_t pack_columns(const IntGemm& g, int64_t j0, int64_t width, T* to) {
  int64_t k = 0;
  if (width == columns)
    for (; k + 4 * Group <= g.k; k += 4 * Group)
      for (int64_t j = 0; j < columns; j += 4) {
        __m128i column[4];
        for (int64_t c = 0; c < 4; ++c)
          column[c] = load_groups<T>(g.b + (j0 + j + c) * g.b_col + k);
        transpose4(column, to + k * columns + j * Group);
      }
  return k;
}

// Panels whose rows lie together, up to the returned k: row by row, as they come from memory.
template <class T, int Group>
[[gnu::target("avx2")]] int64_t pack_rows(const IntGemm& g, int64_t j0, int64_t panels,
                                          int64_t step, T* to) {
  int64_t k = 0;
  for (; k + Group <= g.k; k += Group)
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int8_t* rows[Group];
      for (int r = 0; r < Group; ++r) {
        rows[r] = g.b + (k + r) * g.b_row + j0 + panel * columns;
        if (panel % 4 == 0) __builtin_prefetch(rows[r] + 4 * Group * g.b_row);
      }
      if constexpr (Group == 4) interleave4(rows, to + panel * step + k * columns);
      else interleave2(rows, to + panel * step + k * columns);
    }
  return k;
}

// Panels [begin, end) of b into `to`, `step` apart, `Group` values of k side by side.
template <class T, int Group>
void pack_panels(const IntGemm& g, int64_t begin, int64_t end, int64_t step, T* to) {
  const int64_t whole = std::max<int64_t>(0, std::min(end, g.n / columns) - begin);
  const int64_t first_filled = step == g.k * columns ? whole : 0;
  std::fill(to + first_filled * step, to + (end - begin) * step, T{0});
  const bool by_rows = g.b_col == 1;
  const int64_t done = by_rows ? pack_rows<T, Group>(g, begin * columns, whole, step, to) : 0;
  for (int64_t panel = begin; panel < end; ++panel, to += step) {
    const int64_t j0 = panel * columns, width = std::min(columns, g.n - j0);
    int64_t k = width == columns ? done : 0;
    if (!by_rows) k = pack_columns<T, Group>(g, j0, width, to);
    for (; k < g.k; ++k)
      for (int64_t j = 0; j < width; ++j)
        to[(k / Group * columns + j) * Group + k % Group] = g.b[k * g.b_row + (j0 + j) * g.b_col];
  }
}

// Sums over k of the 16 columns of a panel; what fills it up is zeros.
template <class T, int Group>
void sum_panel(const T* panel, int64_t k, int32_t* sums) {
  for (int64_t p = 0; p < round_up(k, Group); p += Group, panel += columns * Group)
    for (int64_t j = 0; j < columns; ++j)
      for (int r = 0; r < Group; ++r) sums[j] += panel[j * Group + r];
}

template <class T, int Group>
PackedInts pack(const IntGemm& g, int64_t fill, bool with_sums) {
  PackedInts p;
  p.k = round_up(g.k, fill);
  const int64_t panels = round_up(g.n, columns) / columns;
  p.data = bytes(panels * p.k * columns * static_cast<int64_t>(sizeof(T)));
  p.sums.assign(static_cast<size_t>(panels * columns), 0);
  T* const data = static_cast<T*>(p.data.raw());
  // A line of memory holds a row of four panels.
  const int64_t grain = std::max<int64_t>(4, 4096 / (g.k + 1));
  parallel_for(panels, grain, [&](int64_t begin, int64_t end) {
    pack_panels<T, Group>(g, begin, end, p.k * columns, data + begin * p.k * columns);
    for (int64_t panel = begin; panel < end && with_sums; ++panel)
      sum_panel<T, Group>(data + panel * p.k * columns, g.k, p.sums.data() + panel * columns);
  });
  return p;
}

// Rows of a in blocks, `R` at a time; fn(i, rows) runs on several threads.
template <class F>
void for_row_blocks(int64_t m, int64_t block, F&& fn) {
  parallel_for(m, block, [&](int64_t begin, int64_t end) { fn(begin, end - begin); });
}

}  // namespace wattle::quant::int_pack
#endif
