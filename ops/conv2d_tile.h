// Pieces shared by the convolution kernels: scratch memory and transposition in registers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/simd.h"

namespace wattle::conv {

enum class Slot : int { weights, input, output, partial, count };

/// A 64-byte aligned buffer of at least n floats that belongs to the calling thread and keeps its
/// size between calls. A second request for the same slot may move the buffer.
float* scratch(Slot slot, int64_t n);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// [begin, end) of part i when n items are cut into `parts` nearly equal runs.
struct Span {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};
inline Span part_of(int64_t n, int64_t parts, int64_t i) {
  return {n * i / parts, n * (i + 1) / parts};
}

/// Keeps a loaded vector in its register: GCC would rather load an unaligned operand again for
/// every use, and each such load may cost two cache lines.
template <int N>
WATTLE_FORCE_INLINE void keep(simd::f32<N>& v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#else
  (void)v;
#endif
}

/// Outputs o with 0 <= o * stride - pad + offset < in.
inline Span valid_outputs(int64_t in, int64_t out, int64_t stride, int64_t pad, int64_t offset) {
  const int64_t first = offset - pad;
  const int64_t lo = first >= 0 ? 0 : ceil_div(-first, stride);
  const int64_t hi = first >= in ? 0 : std::min(out, ceil_div(in - first, stride));
  return {std::min(lo, hi), hi};
}

namespace detail {
// One step of a transposition by recursive block swaps: exchanges the upper D-blocks of a with the
// lower D-blocks of b.
template <int N, int D, int... I>
WATTLE_FORCE_INLINE void swap_blocks(simd::f32<N>& a, simd::f32<N>& b,
                                     std::integer_sequence<int, I...>) {
  const simd::f32<N> lo = __builtin_shufflevector(a, b, ((I & D) ? N + I - D : I)...);
  const simd::f32<N> hi = __builtin_shufflevector(a, b, ((I & D) ? N + I : I + D)...);
  a = lo, b = hi;
}
template <int N, int D>
WATTLE_FORCE_INLINE void transpose_steps(simd::f32<N>* v) {
  if constexpr (D < N) {
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i)
      if (!(i & D)) swap_blocks<N, D>(v[i], v[i + D], std::make_integer_sequence<int, N>{});
    transpose_steps<N, 2 * D>(v);
  }
}
}  // namespace detail

/// Transposes the N x N matrix whose rows are v[0..N).
template <int N>
WATTLE_FORCE_INLINE void transpose(simd::f32<N>* v) {
  detail::transpose_steps<N, 1>(v);
}

}  // namespace wattle::conv
