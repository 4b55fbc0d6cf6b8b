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
[[gnu::target("sse4.1")]] inline void interleave4(const int8_t* const* row, int8_t* to) {
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

// One panel: columns j0.. of b, `Group` values of k side by side.
template <class T, int Group>
void pack_panel(const IntGemm& g, int64_t j0, int64_t width, T* to) {
  int64_t k = 0;
  if (g.b_col == 1 && width == columns)  // rows of b are contiguous
    for (; k + Group <= g.k; k += Group) {
      const int8_t* rows[Group];
      for (int r = 0; r < Group; ++r) rows[r] = g.b + (k + r) * g.b_row + j0;
      if constexpr (Group == 4) interleave4(rows, to + k * columns);
      else interleave2(rows, to + k * columns);
    }
  if (g.b_row == 1) {  // columns of b are
    for (int64_t j = 0; j < width; ++j) {
      const int8_t* from = g.b + (j0 + j) * g.b_col;
      for (int64_t p = k; p + Group <= g.k; p += Group)
        for (int r = 0; r < Group; ++r) to[(p / Group * columns + j) * Group + r] = from[p + r];
    }
    k = g.k / Group * Group;
  }
  for (; k < g.k; ++k)
    for (int64_t j = 0; j < width; ++j)
      to[(k / Group * columns + j) * Group + k % Group] = g.b[k * g.b_row + (j0 + j) * g.b_col];
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
  parallel_for(panels, std::max<int64_t>(1, 4096 / (g.k + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      T* to = data + panel * p.k * columns;
      const int64_t j0 = panel * columns, width = std::min(columns, g.n - j0);
      if (width < columns || p.k != g.k) std::fill(to, to + p.k * columns, T{0});
      pack_panel<T, Group>(g, j0, width, to);
      if (with_sums) sum_panel<T, Group>(to, g.k, p.sums.data() + j0);
    }
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
