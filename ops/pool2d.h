// Windows of the pooling ops: sizes, in-bounds taps, and how many there are. Both axes are alike
// and independent, so that every count of a plane is a product of two counts of an axis.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "core/simd.h"
#include "ops/rules.h"

namespace wattle::pool2d {

/// One axis: output o covers input i = o * stride - pad + k * dilation, k in [0, kernel).
struct Axis {
  int64_t in, out, kernel, stride, pad, dilation;

  int64_t start(int64_t o) const { return o * stride - pad; }
  /// First tap that is not left of the input, and the first that is right of it (or kernel).
  int64_t first(int64_t o) const { return std::min(kernel, taps_before(-start(o))); }
  int64_t last(int64_t o) const {
    return std::max(first(o), std::min(kernel, taps_before(in - start(o))));
  }
  /// Outputs [begin, end) whose taps are all in bounds.
  int64_t inner_begin() const { return std::min(out, (pad + stride - 1) / stride); }
  int64_t inner_end() const {
    const int64_t room = in + pad - (kernel - 1) * dilation - 1;
    return room < 0 ? inner_begin() : std::clamp(room / stride + 1, inner_begin(), out);
  }

 private:
  // Taps in front of the position `distance` from the first; kernels call this for every window, so
  // the common case does without the division.
  int64_t taps_before(int64_t distance) const {
    if (distance <= 0) return 0;
    return dilation == 1 ? distance : (distance + dilation - 1) / dilation;
  }
};

struct Geometry {
  int64_t planes;
  Axis h, w;
  int64_t in_plane() const { return h.in * w.in; }
  int64_t out_plane() const { return h.out * w.out; }
  int64_t taps() const { return h.kernel * w.kernel; }
};

/// Counts over all windows of an axis.
struct Tally {
  int64_t taps = 0;      ///< in-bounds taps of all windows
  int64_t nonempty = 0;  ///< windows that have one
  int64_t covered = 0;   ///< input positions that belong to some window
};
Tally tally(const Axis& a);

/// PyTorch's output size. In ceil mode the last window may stick out on the right, but must start
/// inside the input or its left padding.
int64_t out_size(int64_t in, const Axis& a, bool ceil_mode);

/// x [N,C,H,W] or [C,H,W] -> its windows. Throws shape_error or value_error naming `op`.
Geometry geometry(const char* op, const Shape& x, Pair kernel, const std::optional<Pair>& stride,
                  Pair pad, Pair dilation, bool ceil_mode);
/// The same shape with other plane sizes.
Shape with_planes(const Shape& x, int64_t h, int64_t w);

/// Planes per task of a parallel loop: about 16 k values of the larger side.
int64_t planes_per_task(const Geometry& g);

// ---- Vectors of every second value ----

template <int N, int... I>
WATTLE_FORCE_INLINE simd::f32<N> every_second(simd::f32<N> a, simd::f32<N> b, int offset,
                                              std::integer_sequence<int, I...>) {
  return offset == 0 ? __builtin_shufflevector(a, b, (2 * I)...)
                     : __builtin_shufflevector(a, b, (2 * I + 1)...);
}
/// Lanes 0, 2, 4, ... and 1, 3, 5, ... of a followed by b.
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> evens(simd::f32<N> a, simd::f32<N> b) {
  return every_second<N>(a, b, 0, std::make_integer_sequence<int, N>());
}
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> odds(simd::f32<N> a, simd::f32<N> b) {
  return every_second<N>(a, b, 1, std::make_integer_sequence<int, N>());
}

template <int N, int... I>
WATTLE_FORCE_INLINE simd::f32<N> zip(simd::f32<N> a, simd::f32<N> b, int from,
                                     std::integer_sequence<int, I...>) {
  return from == 0 ? __builtin_shufflevector(a, b, (I / 2 + I % 2 * N)...)
                   : __builtin_shufflevector(a, b, (N / 2 + I / 2 + I % 2 * N)...);
}
/// Lower and upper half of a0 b0 a1 b1 ...
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> zip_low(simd::f32<N> a, simd::f32<N> b) {
  return zip<N>(a, b, 0, std::make_integer_sequence<int, N>());
}
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> zip_high(simd::f32<N> a, simd::f32<N> b) {
  return zip<N>(a, b, 1, std::make_integer_sequence<int, N>());
}

/// p[0], p[stride], ..., N values; stride 1 or 2. Reads nothing beyond the last of them.
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> load_every(const float* p, int64_t stride) {
  if (stride == 1) return simd::load<N>(p);
  typedef std::make_integer_sequence<int, N> Lanes;
  const simd::f32<N> a = simd::load<N>(p), b = simd::load<N>(p + N - 1);
  return [&]<int... I>(std::integer_sequence<int, I...>) WATTLE_INLINE_BODY {
    return __builtin_shufflevector(a, b, (I < N / 2 ? 2 * I : 2 * I + 1)...);
  }
  (Lanes());
}

}  // namespace wattle::pool2d
