// The counter-based generator behind every random number, the same on host and device.
#pragma once
#include <array>
#include <cstdint>

#include "core/both.h"

namespace wattle {

/// One block of Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011): four 32-bit numbers for a 128-bit counter and a 64-bit key.
WATTLE_BOTH inline std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_lo,
                                                  uint64_t counter_hi = 0) {
  uint32_t c0 = static_cast<uint32_t>(counter_lo), c1 = static_cast<uint32_t>(counter_lo >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_hi), c3 = static_cast<uint32_t>(counter_hi >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// Uniform in [0, 1) with 24 random bits, exact in f32.
WATTLE_BOTH inline float to_unit(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

/// Number i of the stream `seed`, uniform in [0, 1).
WATTLE_BOTH inline float uniform_at(uint64_t seed, uint64_t i) {
  return to_unit(philox(seed, i / 4)[i % 4]);
}

}  // namespace wattle
