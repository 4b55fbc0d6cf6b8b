// Random numbers by counting: number i of a stream is a pure function of (seed, i), so the numbers
// do not depend on how many threads draw them or in which order.
#pragma once
#include "core/philox.h"

namespace wattle {

/// Two independent standard normal numbers, by Box and Muller, for the pair i of the stream.
std::array<float, 2> normal_pair_at(uint64_t seed, uint64_t i);
/// Number i of the stream, uniform in [0, n).
uint64_t below_at(uint64_t seed, uint64_t i, uint64_t n);

/// A position in a stream. An op that draws numbers says how many by
/// reserving them here; the numbers themselves are a function of the attributes it carries.
struct Generator {
  uint64_t seed = 0;
  uint64_t offset = 0;
  /// Takes `n` numbers and returns the index of the first.
  uint64_t reserve(uint64_t n) {
    const uint64_t first = offset;
    offset += (n + 3) / 4 * 4;  // whole Philox blocks, so that kernels can draw by fours
    return first;
  }
  friend bool operator==(const Generator&, const Generator&) = default;
};

/// This thread's generator.
Generator& default_generator();
/// Restarts this thread's generator.
void manual_seed(uint64_t seed);

}  // namespace wattle
