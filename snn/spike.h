// Spikes are a dtype: one bit each, packed along the last dimension, every row from a byte on. That
// a number is 0 or 1 is known by its type, never guessed from values.
#pragma once
#include <bit>
#include <cstring>

#include "core/tensor.h"

namespace wattle::snn {

/// Bytes of a row of `columns` spikes.
constexpr int64_t spike_row_bytes(int64_t columns) { return (columns + 7) / 8; }

/// Calls fn(i) for every spike i of a row, in order. Bits beyond the row's end are 0.
template <class F>
void for_each_spike(const uint8_t* row, int64_t columns, F&& fn) {
  const int64_t bytes = spike_row_bytes(columns);
  for (int64_t at = 0; at < bytes; at += 8) {
    uint64_t word = 0;
    if (bytes - at >= 8) std::memcpy(&word, row + at, 8);
    else  // a copy of unknown size would be a call
      for (int64_t b = at; b < bytes; ++b) word |= uint64_t{row[b]} << 8 * (b - at);
    for (; word; word &= word - 1) fn(at * 8 + std::countr_zero(word));
  }
}

/// Number of bits that are 1 in n bytes.
int64_t count_bits(const uint8_t* p, int64_t n);

/// Number of spikes in a tensor of dtype spike.
int64_t count_spikes(const Tensor& s);

}  // namespace wattle::snn
