// Philox4x32-10 for many counters at once: the numbers of core/rng.h, drawn by SIMD lanes.
#pragma once
#include <cstdint>

#include "core/counted.h"
#include "core/simd.h"

namespace wattle::philox_lanes {

/// Integer operations of one block of four numbers: 10 rounds of 2 multiplications, 4 exclusive ors
/// and 2 key additions.
inline constexpr int64_t iops_per_block = 80;

/// Tells a counting run of a reference kernel that it drew `blocks` blocks.
template <class T>
void tally(int64_t iops) {
  if constexpr (std::is_same_v<T, Counted>) counted_tally().iop += iops;
}

/// Numbers that one call of draw() makes.
inline constexpr int64_t batch = 256;

struct Keys {
  uint32_t k0, k1;
};

WATTLE_FORCE_INLINE void round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, Keys k) {
  const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
  c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k.k0;
  c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k.k1;
  c1 = static_cast<uint32_t>(p1);
  c3 = static_cast<uint32_t>(p0);
}

/// bits[0, 256) = numbers [4 * block, 4 * block + 256) of the stream `seed`. The loop over counters
/// has no dependences, so the compiler runs it in the lanes of the caller's instruction set.
WATTLE_FORCE_INLINE void draw(uint64_t seed, uint64_t block, uint32_t* bits) {
  Keys keys[10];
  for (uint32_t r = 0; r < 10; ++r)
    keys[r] = {static_cast<uint32_t>(seed) + r * 0x9E3779B9u,
               static_cast<uint32_t>(seed >> 32) + r * 0xBB67AE85u};
#pragma omp simd
  for (int i = 0; i < static_cast<int>(batch / 4); ++i) {
    const uint64_t counter = block + static_cast<uint64_t>(i);
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
    uint32_t c2 = 0, c3 = 0;
    round(c0, c1, c2, c3, keys[0]), round(c0, c1, c2, c3, keys[1]);
    round(c0, c1, c2, c3, keys[2]), round(c0, c1, c2, c3, keys[3]);
    round(c0, c1, c2, c3, keys[4]), round(c0, c1, c2, c3, keys[5]);
    round(c0, c1, c2, c3, keys[6]), round(c0, c1, c2, c3, keys[7]);
    round(c0, c1, c2, c3, keys[8]), round(c0, c1, c2, c3, keys[9]);
    bits[4 * i] = c0, bits[4 * i + 1] = c1, bits[4 * i + 2] = c2, bits[4 * i + 3] = c3;
  }
}

}  // namespace wattle::philox_lanes
