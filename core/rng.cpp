#include "core/rng.h"

#include <cmath>

namespace wattle {

std::array<float, 2> normal_pair_at(uint64_t seed, uint64_t i) {
  const auto r = philox(seed, i / 2);
  const uint32_t a = r[i % 2 * 2], b = r[i % 2 * 2 + 1];
  // 1 - u is in (0, 1], so the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - to_unit(a)));
  const double angle = 2.0 * 3.14159265358979323846 * to_unit(b);
  return {static_cast<float>(radius * std::cos(angle)),
          static_cast<float>(radius * std::sin(angle))};
}

uint64_t below_at(uint64_t seed, uint64_t i, uint64_t n) {
  const auto r = philox(seed, i / 2);
  const uint64_t bits = uint64_t{r[i % 2 * 2]} << 32 | r[i % 2 * 2 + 1];
  // High part of a 128-bit product (Lemire 2019): biased by less than n / 2^64.
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * n) >> 64);
}

Generator& default_generator() {
  thread_local Generator g;
  return g;
}

void manual_seed(uint64_t seed) { default_generator() = {seed, 0}; }

}  // namespace wattle
