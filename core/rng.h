// Random numbers by counting: number i of a stream is a pure function of (seed, i), so the numbers
// do not depend on how many threads draw them or in which order.
#pragma once
#include <array>
#include <cstdint>

namespace wattle {

/// One block of Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011): four 32-bit numbers for a 128-bit counter and a 64-bit key.
inline std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_lo, uint64_t counter_hi = 0) {
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
inline float to_unit(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

/// Number i of the stream `seed`, uniform in [0, 1).
inline float uniform_at(uint64_t seed, uint64_t i) { return to_unit(philox(seed, i / 4)[i % 4]); }
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
