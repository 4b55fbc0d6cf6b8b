// Register tiles and packing of the f32 GEMM.
//
// A tile holds MR x (NV * N) sums of C in registers and walks along k: one broadcast of A and NV
// vectors of B per step and row (Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008). Every sum is one chain of multiply-adds in the order of k whatever the
// tile it falls into, so the cutting of C into tiles cannot change its bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "core/simd.h"
#include "ops/gemm.h"

namespace wattle::gemm::detail {

using simd::f32;

/// Rows of the register tile; two vectors wide. 14 x 2 sums + 2 of B + 1 broadcast fill the 32
/// registers of AVX-512, 6 x 2 the 16 of AVX2.
template <class Isa>
constexpr int kTileRows = Isa::width == 16  ? 14
                          : Isa::width == 8 ? 6
                                            : 4;
template <class Isa>
constexpr int kPanel = 2 * Isa::width;

/// Long sums are taken in slabs of nearly equal depth, at most this: a strip of A of 14 x 320
/// (6 x 256) floats stays in the first-level cache while panels of B stream by.
template <class Isa>
constexpr int64_t kDepth = Isa::width >= 16 ? 320 : 256;

/// One strip of C: at most kTileRows rows, any number of columns.
struct Strip {
  const float* a;  // [rows, k]; either a_rs or a_cs is 1
  int64_t a_rs, a_cs;
  const float* b;  // panel j, [k, kPanel] with rows ldb apart, starts at b + j * panel_step
  int64_t ldb, panel_step;
  const float* b_tail;  // the last panel when it is narrower: zero-padded to whole vectors
  int64_t ldb_tail;
  int64_t n, k;
  float* c;
  int64_t ldc;
  const float* bias;  // [n] or null
  bool add;           // C += instead of C =
  const char* ahead;  // fetched along the way, ahead_step bytes in a step of k
  int64_t ahead_step;
};

/// c[0 .. cols) = t (+ bias) (+ c), cols < 2 N: whole vectors, then pieces of 8, 4, 2, 1.
template <int N>
WATTLE_FORCE_INLINE void store_row(float* c, const float* t, const float* bias, bool add,
                                   int64_t cols) {
  auto piece = [&]<int W>() WATTLE_INLINE_BODY {
    f32<W> x = simd::load<W>(t);
    if (bias) x += simd::load<W>(bias), bias += W;
    if (add) x += simd::load<W>(c);
    simd::store<W>(c, x);
    c += W, t += W;
  };
  if (cols & N) piece.template operator()<N>();
  if constexpr (N > 8)
    if (cols & 8) piece.template operator()<8>();
  if constexpr (N > 4)
    if (cols & 4) piece.template operator()<4>();
  if (cols & 2) piece.template operator()<2>();
  if (cols & 1) *c = *t + (bias ? *bias : 0.0f) + (add ? *c : 0.0f);
}

/// Stores one tile of `cols` columns, with bias and the old C as asked.
template <int N, int MR, int NV>
WATTLE_FORCE_INLINE void store_tile(const f32<N> (&acc)[MR][NV], const Strip& s, float* c,
                                    const float* bias, int64_t cols) {
  if (cols == NV * N && !bias) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) {
        float* q = c + i * s.ldc + v * N;
        simd::store<N>(q, s.add ? acc[i][v] + simd::load<N>(q) : acc[i][v]);
      }
    }
    return;
  }
  // Through memory: a loop over rows needs an address, and the sums must not need one.
  float t[MR * NV * N];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) simd::store<N>(t + (i * NV + v) * N, acc[i][v]);
#pragma GCC unroll 1
  for (int i = 0; i < MR; ++i)
    if (cols == NV * N) {
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) {
        float* q = c + i * s.ldc + v * N;
        f32<N> x = simd::load<N>(t + (i * NV + v) * N) + simd::load<N>(bias + v * N);
        simd::store<N>(q, s.add ? x + simd::load<N>(q) : x);
      }
    } else {
      store_row<N>(c + i * s.ldc, t + i * NV * N, bias, s.add, cols);
    }
}

/// acc[i][v] = sum_p A(i, p) B(p, v). Rows of A are addressed as base[i / 3] + (i % 3) * stride:
/// x86 scales an index by 1 or 2 elements for free, so 14 rows need 5 pointers and no spills.
template <int N, int MR, int NV, bool kRowsApart>
WATTLE_FORCE_INLINE void multiply(f32<N> (&acc)[MR][NV], const float* a, int64_t a_rs, int64_t a_cs,
                                  const float* b, int64_t ldb, int64_t k, const char*& ahead,
                                  int64_t ahead_step) {
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) acc[i][v] = f32<N>{};
  constexpr int kBases = kRowsApart ? (MR + 2) / 3 : 1;
  const float* base[kBases];
#pragma GCC unroll 8
  for (int g = 0; g < kBases; ++g) base[g] = a + 3 * g * a_rs;
  for (int64_t p = 0; p < k; ++p) {
    __builtin_prefetch(ahead, 0, 2);
    ahead += ahead_step;
    f32<N> y[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) y[v] = simd::load<N>(b + v * N);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const float x = kRowsApart ? base[i / 3][(i % 3) * a_rs] : base[0][i];
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[i][v] += x * y[v];
    }
#pragma GCC unroll 8
    for (int g = 0; g < kBases; ++g) base[g] += kRowsApart ? 1 : a_cs;
    b += ldb;
  }
}

/// c [MR, n] (+)= a [MR, k] b [k, n], panel after panel.
template <int N, int MR, bool kRowsApart>
WATTLE_FORCE_INLINE void strip_body(const Strip& s) {
  constexpr int64_t kWide = 2 * N;
  const char* ahead = s.ahead;
  int64_t j = 0;
  for (; j + N < s.n; j += kWide) {
    const bool whole = j + kWide <= s.n;
    const float* b = whole ? s.b + j / kWide * s.panel_step : s.b_tail;
    f32<N> acc[MR][2];
    multiply<N, MR, 2, kRowsApart>(acc, s.a, s.a_rs, s.a_cs, b, whole ? s.ldb : s.ldb_tail, s.k,
                                   ahead, s.ahead_step);
    store_tile<N, MR, 2>(acc, s, s.c + j, s.bias ? s.bias + j : nullptr, whole ? kWide : s.n - j);
  }
  if (j < s.n) {
    f32<N> acc[MR][1];
    multiply<N, MR, 1, kRowsApart>(acc, s.a, s.a_rs, s.a_cs, s.b_tail, s.ldb_tail, s.k, ahead,
                                   s.ahead_step);
    store_tile<N, MR, 1>(acc, s, s.c + j, s.bias ? s.bias + j : nullptr, s.n - j);
  }
}

template <class Isa, int MR, bool kRowsApart>
void strip(const Strip& s) {
  Isa::call([&]<int N>() WATTLE_INLINE_BODY { strip_body<N, MR, kRowsApart>(s); });
}

/// The kernel for `rows` rows of A that lie apart (each contiguous along k) or side by side.
using StripFn = void (*)(const Strip&);
template <class Isa>
StripFn strip_fn(int rows, bool rows_apart);

/// sum_p x[p] y[p] in four vectors of partial sums.
template <int N>
WATTLE_FORCE_INLINE float dot(const float* x, const float* y, int64_t k) {
  f32<N> s[4] = {};
  int64_t p = 0;
  for (; p + 4 * N <= k; p += 4 * N) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) s[i] += simd::load<N>(x + p + i * N) * simd::load<N>(y + p + i * N);
  }
  for (; p + N <= k; p += N) s[0] += simd::load<N>(x + p) * simd::load<N>(y + p);
  float sum = simd::hsum<N>((s[0] + s[1]) + (s[2] + s[3]));
  for (; p < k; ++p) sum += x[p] * y[p];
  return sum;
}

// ---- packing ---------------------------------------------------------------------------------

/// Blocks of W lanes of x and y: kHigh = false keeps the even ones, true the odd ones of both.
template <int N, int W, bool kHigh, int... L>
WATTLE_FORCE_INLINE f32<N> pick(f32<N> x, f32<N> y, std::integer_sequence<int, L...>) {
  return __builtin_shufflevector(x, y, ((L & W ? N + L - W : L) + (kHigh ? W : 0))...);
}

/// One round of a transpose: in every 2W x 2W block the off-diagonal W x W blocks change places.
template <int N, int W>
WATTLE_FORCE_INLINE void transpose_round(f32<N> (&r)[N]) {
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    if (i & W) continue;
    const f32<N> x = r[i], y = r[i + W];
    r[i] = pick<N, W, false>(x, y, std::make_integer_sequence<int, N>{});
    r[i + W] = pick<N, W, true>(x, y, std::make_integer_sequence<int, N>{});
  }
}

template <int N>
WATTLE_FORCE_INLINE void transpose(f32<N> (&r)[N]) {
  if constexpr (N >= 16) transpose_round<N, 8>(r);
  if constexpr (N >= 8) transpose_round<N, 4>(r);
  transpose_round<N, 2>(r);
  transpose_round<N, 1>(r);
}

/// dst[p * dst_ld + i] = src[i * src_ld + p] for p < k and i < rows <= N. Writes whole vectors: up
/// to N - rows elements behind each row of dst are overwritten with zeros, rows in rising order.
template <int N>
WATTLE_FORCE_INLINE void pack_transposed(const float* src, int64_t src_ld, int rows, int64_t k,
                                         float* dst, int64_t dst_ld) {
  int64_t p = 0;
  auto squares = [&](auto load) WATTLE_INLINE_BODY {
    for (; p + N <= k; p += N) {
      f32<N> r[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) r[i] = load(i);
      transpose<N>(r);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) simd::store<N>(dst + (p + i) * dst_ld, r[i]);
    }
  };
  auto row = [&](int i) WATTLE_INLINE_BODY { return simd::load<N>(src + i * src_ld + p); };
  if (rows == N) squares(row);  // without a branch for each row
  else squares([&](int i) WATTLE_INLINE_BODY { return i < rows ? row(i) : f32<N>{}; });
  for (; p < k; ++p) {
    simd::store<N>(dst + p * dst_ld, f32<N>{});
    for (int i = 0; i < rows; ++i) dst[p * dst_ld + i] = src[i * src_ld + p];
  }
}

/// Rows [k] of `width` elements, 1 <= width <= N, from rows src_ld apart into rows dst_ld apart.
template <int N>
WATTLE_FORCE_INLINE void copy_rows(const float* src, int64_t src_ld, int width, int64_t k,
                                   float* dst, int64_t dst_ld) {
  auto two = [&]<int W>() WATTLE_INLINE_BODY {  // two overlapping pieces, W <= width <= 2 W
    for (int64_t p = 0; p < k; ++p, src += src_ld, dst += dst_ld) {
      const f32<W> x = simd::load<W>(src), y = simd::load<W>(src + width - W);
      simd::store<W>(dst, x);
      simd::store<W>(dst + width - W, y);
    }
  };
  if (width >= 8) return two.template operator()<8>();
  if (width >= 4) return two.template operator()<4>();
  for (int64_t p = 0; p < k; ++p, src += src_ld, dst += dst_ld)
    for (int i = 0; i < width; ++i) dst[i] = src[i];
}

/// One panel of B: dst[p * dst_ld + j] = src[p * rs + j * cs] for j < width, 0 up to dst_ld, where
/// dst_ld is N or 2 N and width <= dst_ld.
template <int N>
WATTLE_FORCE_INLINE void pack_panel(const float* src, int64_t rs, int64_t cs, int width, int64_t k,
                                    float* dst, int dst_ld) {
  if (cs == 1 && width == 2 * N) {
    for (int64_t p = 0; p < k; ++p, src += rs, dst += 2 * N) {
      simd::store<N>(dst, simd::load<N>(src));
      simd::store<N>(dst + N, simd::load<N>(src + N));
    }
    return;
  }
  for (int j = 0; j < dst_ld; j += N) {
    const int w = width - j < N ? width - j : N;
    const float* s = src + j * cs;
    if (rs == 1) {
      pack_transposed<N>(s, cs, w, k, dst + j, dst_ld);
      continue;
    }
    for (int64_t p = 0; p < k; ++p) simd::store<N>(dst + p * dst_ld + j, f32<N>{});
    if (cs == 1 && w > 0) {
      copy_rows<N>(s, rs, w, k, dst + j, dst_ld);
      continue;
    }
    for (int64_t p = 0; p < k; ++p)
      for (int i = 0; i < w; ++i) dst[p * dst_ld + j + i] = s[p * rs + i * cs];
  }
}

/// One strip of A: dst[p * rows + i] = src[i * rs + p * cs]; dst has room for N more elements.
template <int N>
WATTLE_FORCE_INLINE void pack_strip(const float* src, int64_t rs, int64_t cs, int rows, int64_t k,
                                    float* dst) {
  if (rs == 1) return copy_rows<N>(src, cs, rows, k, dst, rows);
  if (cs == 1 && rows <= N) return pack_transposed<N>(src, rs, rows, k, dst, rows);
  for (int64_t p = 0; p < k; ++p)
    for (int i = 0; i < rows; ++i) dst[p * rows + i] = src[i * rs + p * cs];
}

// B as the strips read it: panel j starts at b + j * step.
struct Panels {
  const float* b;
  int64_t ldb, step;
  const float* tail;
  int64_t ldb_tail;
};

// Where the columns [0, n) of B [k, n] go: `packed` whole panels, then the tail, which is only as
// wide as it must be. Whole panels of a B with contiguous rows may be read in place.
template <class Isa>
struct Layout {
  static constexpr int64_t kWide = kPanel<Isa>;
  int64_t whole, rest, tail_width, packed;
  Layout(int64_t n, bool in_place)
      : whole(n / kWide),
        rest(n % kWide),
        tail_width(rest == 0            ? 0
                   : rest <= Isa::width ? Isa::width
                                        : kWide),
        packed(in_place ? 0 : whole) {}
  int64_t floats(int64_t k) const { return k * (packed * kWide + tail_width); }
  int64_t first() const { return whole - packed; }
  int64_t last() const { return whole + (rest > 0); }

  // Panels [begin, end) of b into buffer.
  void pack(int64_t begin, int64_t end, int64_t k, MatView b, float* buffer) const {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (int64_t j = begin; j < end; ++j)
        pack_panel<N>(b.p + j * kWide * b.col_stride, b.row_stride, b.col_stride,
                      static_cast<int>(j < whole ? kWide : rest), k,
                      buffer + (j - first()) * kWide * k,
                      static_cast<int>(j < whole ? kWide : tail_width));
    });
  }
  Panels panels(int64_t k, MatView b, const float* buffer) const {
    const float* const tail = buffer + packed * kWide * k;
    if (packed < whole) return {b.p, b.row_stride, kWide, tail, tail_width};
    return {buffer, kWide, kWide * k, tail, tail_width};
  }
};

}  // namespace wattle::gemm::detail
