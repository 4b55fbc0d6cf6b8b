// Pieces of the vector kernel of topk_gate: the lanes are tokens, so that nothing works across
// lanes.
#pragma once
#include <limits>

#include "core/simd_math.h"
#include "ops/gemm_kernels.h"

namespace wattle::gate {

inline constexpr int64_t kChosen = 16;  // choices of a token that are kept in registers

// x [n][N], logits of N tokens -> scores in place.
template <int N>
WATTLE_FORCE_INLINE void score_lanes(float* x, int64_t n, bool softmax) {
  using V = simd::f32<N>;
  if (!softmax) {
    for (int64_t i = 0; i < n; ++i)
      simd::store<N>(x + i * N, simd::sigmoid<N>(simd::load<N>(x + i * N)));
    return;
  }
  V top = simd::load<N>(x), sum{};
  for (int64_t i = 1; i < n; ++i) top = simd::max<N>(top, simd::load<N>(x + i * N));
  for (int64_t i = 0; i < n; ++i) {
    const V y = simd::exp<N>(simd::load<N>(x + i * N) - top);
    simd::store<N>(x + i * N, y);
    sum += y;
  }
  for (int64_t i = 0; i < n; ++i) simd::store<N>(x + i * N, simd::load<N>(x + i * N) / sum);
}

// The W largest of s + bias in every lane, by insertion: an expert moves up past smaller ones only,
// so equal ones keep their order. False where a key is infinite or not a number; the caller then
// takes the scalar way.
template <int N, int W>
WATTLE_FORCE_INLINE bool pick_lanes(const float* s, const float* bias, int64_t n, float* list) {
  using V = simd::f32<N>;
  V value[W], index[W], odd{};
#pragma GCC unroll 16
  for (int w = 0; w < W; ++w)
    value[w] = simd::set1<N>(-std::numeric_limits<float>::infinity()), index[w] = V{};
  for (int64_t i = 0; i < n; ++i) {
    V x = simd::load<N>(s + i * N);
    if (bias) x += bias[i];
    V at = simd::set1<N>(static_cast<float>(i));
    odd += x - x;
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) {
      const V v = value[w], a = index[w];
      value[w] = x > v ? x : v;
      index[w] = x > v ? at : a;
      at = x > v ? a : at;
      x = x > v ? v : x;
    }
  }
#pragma GCC unroll 16
  for (int w = 0; w < W; ++w) simd::store<N>(list + w * N, index[w]);
  return simd::hsum<N>(odd) == 0;
}

template <int N>
WATTLE_FORCE_INLINE bool pick_lanes(const float* s, const float* bias, int64_t n, int64_t want,
                                    float* list) {
  if (want == 1) return pick_lanes<N, 1>(s, bias, n, list);
  if (want == 2) return pick_lanes<N, 2>(s, bias, n, list);
  if (want <= 4) return pick_lanes<N, 4>(s, bias, n, list);
  if (want <= 8) return pick_lanes<N, 8>(s, bias, n, list);
  return pick_lanes<N, kChosen>(s, bias, n, list);
}

// Scores of `count` tokens from lanes to rows of n.
template <int N>
WATTLE_FORCE_INLINE void rows_of_lanes(const float* lanes, int64_t n, int64_t count, float* rows) {
  int64_t i = 0;
  for (; i + N <= n; i += N)
    gemm::detail::pack_transposed<N>(lanes + i * N, N, N, count, rows + i, n);
  for (; i < n; ++i)
    for (int64_t t = 0; t < count; ++t) rows[t * n + i] = lanes[i * N + t];
}

}  // namespace wattle::gate
