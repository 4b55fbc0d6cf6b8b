// The plan that forward convolution and gradient of the input share, see conv2d_kernels.cpp.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/conv2d_kernels.h"
#include "ops/conv2d_tile.h"

namespace wattle::conv {

inline constexpr int64_t kLanes = 16;  // images, or output pixels, of a tile

/// Output channels per register block: as many accumulators as registers hold.
template <int N>
inline constexpr int max_block = N == 16  ? 14
                                 : N == 8 ? 6
                                          : 2;

/// Taps along one axis: output o meets inputs in0[o] + i * in_step at packed taps
/// tap0[o] + i * tap_step, i < count[o]. at[o * taps + t] is the input that packed tap t of output
/// o meets, or -1.
struct Axis {
  std::vector<int64_t> in0, tap0, count, at;
  int64_t in_step = 1, tap_step = 1;
  int64_t period = 1;  ///< outputs that are equal mod period meet the same taps, borders aside
  /// Taps that fall inside, over all outputs.
  int64_t sum() const;
};

/// out[n,g,co] = sum over ci and taps of in[n,g,ci] * w; ci, co are channels per group.
struct Gather {
  int64_t n, groups, ci, co, hi, wi, ho, wo, r, s;
  Axis rows, cols;
  int64_t rs() const { return r * s; }
};

Gather forward_gather(const Geometry& g);
Gather backward_gather(const Geometry& g);

/// Input rows that output rows [rows.begin, rows.end) need; empty when they meet padding only.
Span input_rows(const Gather& q, Span rows);
/// Number of strips of output rows that a tile of images is computed in.
int64_t strips_of(const Gather& q);
/// The first images, which go into tiles of images; the others go into tiles of pixels.
int64_t tiled_images(int64_t n);

/// Output pixels that are equal mod the periods, in all images that go into tiles of pixels: those
/// of rows row + i * rows.period, i < height, and likewise for columns. They meet the taps
/// tap_r + i * rows.tap_step, i < taps_r, and likewise for columns.
struct Phase {
  int64_t row, col, height, width, pixels;
  int64_t tap_r, taps_r, tap_s, taps_s;
};
inline int64_t phases_of(const Gather& q) { return q.rows.period * q.cols.period; }
Phase phase_at(const Gather& q, int64_t index);

}  // namespace wattle::conv
