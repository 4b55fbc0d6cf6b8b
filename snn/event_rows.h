// Sums of rows by events: what every product with spikes comes down to.
#pragma once
#include <span>
#include <vector>

#include "core/tensor.h"

namespace wattle::snn {

/// The places of the spikes of a matrix of bits, in order: of each row, or of each column.
struct SpikeLists {
  std::vector<int64_t> first;  ///< list i is at[first[i]] up to at[first[i + 1]]
  std::vector<int32_t> at;

  static SpikeLists by_row(const uint8_t* bits, int64_t rows, int64_t columns);
  static SpikeLists by_column(const uint8_t* bits, int64_t rows, int64_t columns);

  int64_t lists() const { return static_cast<int64_t>(first.size()) - 1; }
  int64_t spikes() const { return static_cast<int64_t>(at.size()); }
  std::span<const int32_t> list(int64_t i) const {
    const auto begin = static_cast<size_t>(first[static_cast<size_t>(i)]);
    return std::span(at).subspan(begin,
                                 static_cast<size_t>(first[static_cast<size_t>(i) + 1]) - begin);
  }
};

/// y [lists, n]: row i is the sum of the rows of w that list i names, in its order, plus bias.
struct RowSums {
  static constexpr int64_t tile = 256;  ///< columns

  int64_t n, rows;        ///< of w
  const float* w;         ///< column j of row i is w[j / tile * w_tile + i * w_row + j % tile]
  int64_t w_row, w_tile;  ///< tile for rows of n numbers
  const float* bias;      ///< [n] or null
  float* y;
};
/// Runs on several threads; the bits do not depend on how many.
void sum_rows(const SpikeLists& lists, const RowSums& s);

/// w [n, k] as tiles of [k, RowSums::tile] for sum_rows: w_row is tile, w_tile k * tile.
Tensor by_input(const float* w, int64_t n, int64_t k);
/// The transpose of x [rows, columns], row-major.
void transpose_into(const float* x, int64_t rows, int64_t columns, float* to);

}  // namespace wattle::snn
