// How the f32 GEMM cuts C into tasks.
#pragma once
#include <algorithm>
#include <cstdint>

#include "ops/gemm_kernels.h"

namespace wattle::gemm::detail {

// A slab of B of kDepth x 384 floats (480 KB) stays in the second-level cache. A block of C is
// 56 x 384.
constexpr int64_t kBlockRows = 56, kBlockCols = 384;
// Up to here one task takes all rows of its columns, and packs its part of B for itself.
constexpr int64_t kOwnRows = 112;
// B with contiguous rows is read in place up to this many rows of C: beyond, packing pays.
template <class Isa>
constexpr int64_t kInPlaceRows = Isa::width >= 16 ? 1024 : 32;
constexpr int64_t kSmallTask = 1 << 18;  // multiply-adds worth handing to a thread (about 5 us)
constexpr int64_t kTaskWork = 1 << 22;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows a multiple of 2 KB apart fall into a few sets of the cache and evict each other.
inline bool crowded(int64_t stride) { return stride % 512 == 0; }

// How C is cut: rows into tiles, tiles and panels into tasks. A function of the shape alone.
// own_panels: a task holds all rows, so that no other task needs its columns of B packed.
struct Cut {
  int64_t tiles, panels, tasks_m, tasks_n;
  bool own_panels, in_place;
};

// alone: one thread will run all of it.
template <class Isa>
Cut cut(int64_t m, int64_t n, int64_t k, MatView b, bool alone) {
  Cut c{ceil_div(m, kTileRows<Isa>), ceil_div(n, kPanel<Isa>), 1, 1, false, false};
  const int64_t work = m * ceil_div(n, Isa::width) * Isa::width * k;
  const int64_t want = alone ? 1
                             : std::max({std::min<int64_t>(8, work / kSmallTask),
                                         std::min<int64_t>(32, work / kTaskWork),
                                         std::min<int64_t>(128, work / (16 * kTaskWork))});
  c.own_panels =
      want <= 1 || (m <= kOwnRows && c.panels >= std::min<int64_t>(want, 4)) || c.tiles <= 2;
  c.in_place = b.col_stride == 1 && !crowded(b.row_stride) && m <= kInPlaceRows<Isa>;
  int64_t rows = ceil_div(kBlockRows, kTileRows<Isa>), wide = kBlockCols / kPanel<Isa>;
  if (c.own_panels) {
    const int64_t least = work <= kSmallTask ? 1 : ceil_div(c.panels, wide);
    c.tasks_n = std::max(std::min(want, c.panels), least);
    return c;
  }
  auto tasks = [&] {
    c.tasks_m = ceil_div(c.tiles, rows), c.tasks_n = ceil_div(c.panels, wide);
    return c.tasks_m * c.tasks_n;
  };
  while (tasks() < want) {
    if (rows * kTileRows < Isa >> kBlockRows / 2 && c.tiles > 1) rows = ceil_div(rows, 2);
    else if (wide > 4 && c.panels > 4) wide /= 2;
    else if (rows > 1 && c.tiles > 1) rows = ceil_div(rows, 2);
    else if (wide > 1 && c.panels > 1) wide /= 2;
    else break;
  }
  return c;
}

}  // namespace wattle::gemm::detail
