// Long sweeps that a run of the tests leaves out (./wattle test --full): every f32 into posits.
// The oracle is a walk: positive floats in rising order pass the rounding thresholds one by one,
// and a threshold is the posit of one bit more that lies between two words (standard of 2022, 4.1),
// read bit by bit. It shares no code with quant/posit.h.
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "core/parallel.h"
#include "quant/posit.h"

namespace {

using namespace wattle;

// Value of a positive posit<n, es>; exact in a double.
double value_of(uint32_t word, int n, int es) {
  int at = n - 2, run = 0;
  const auto bit = [&](int i) { return i >= 0 ? word >> i & 1u : 0u; };
  const uint32_t first = bit(at);
  while (at >= 0 && bit(at) == first) ++run, --at;
  --at;  // the bit that ended the run
  int exponent = 0;
  for (int i = 0; i < es; ++i, --at) exponent = 2 * exponent + static_cast<int>(bit(at));
  exponent += (first ? run - 1 : -run) * (1 << es);
  double v = 1, half = 0.5;
  for (; at >= 0; --at, half /= 2) v += bit(at) * half;
  return std::ldexp(v, exponent);
}

// Word of a positive double by a search; where a walk begins.
template <int N, int ES>
uint32_t search(double x) {
  uint32_t low = 1, high = (1u << (N - 1)) - 1;
  while (low < high) {
    const uint32_t mid = (low + high) / 2;
    const double t = value_of(2 * mid + 1, N + 1, ES);
    if (x > t || (x == t && mid % 2 == 1)) low = mid + 1;
    else high = mid;
  }
  return low;
}

// Positive floats with the bits [begin, end), and their negatives; the number that `encode` gets
// wrong.
template <int N, int ES, class Encode>
int64_t walk(uint32_t begin, uint32_t end, const Encode& encode) {
  constexpr uint32_t top = (1u << (N - 1)) - 1, mask = (2u << (N - 1)) - 1;
  uint32_t word = search<N, ES>(double{std::bit_cast<float>(begin)});
  double threshold = word < top ? value_of(2 * word + 1, N + 1, ES) : INFINITY;
  int64_t wrong = 0;
  for (uint32_t i = begin; i < end; ++i) {
    const float x = std::bit_cast<float>(i);
    while (double{x} > threshold || (double{x} == threshold && word % 2 == 1)) {
      ++word;
      threshold = word < top ? value_of(2 * word + 1, N + 1, ES) : INFINITY;
    }
    wrong += encode(x) != word;
    wrong += encode(-x) != ((~word + 1) & mask);
  }
  return wrong;
}

template <int N, int ES, class Encode>
int64_t sweep(const char* name, const Encode& encode, bool expect_faults = false) {
  const auto start = std::chrono::steady_clock::now();
  constexpr uint32_t infinity = 0x7F800000, piece = 1 << 20;
  constexpr uint32_t nar = 1u << (N - 1);
  std::atomic<int64_t> wrong{(encode(0.0f) != 0) + (encode(-0.0f) != 0)};
  parallel_chunks((infinity + piece - 1) / piece, [&](int64_t c) {
    const uint32_t begin = std::max<uint32_t>(1, static_cast<uint32_t>(c) * piece);
    const uint32_t end = std::min(infinity, (static_cast<uint32_t>(c) + 1) * piece);
    wrong += walk<N, ES>(begin, end, encode);
  });
  for (uint64_t i = infinity; i <= 0x7FFFFFFF; ++i)  // infinity and every NaN
    for (const uint32_t sign : {0u, 0x80000000u})
      wrong += encode(std::bit_cast<float>(static_cast<uint32_t>(i) | sign)) != nar;
  const std::chrono::duration<double> s = std::chrono::steady_clock::now() - start;
  std::printf("%-44s 2^32 cases, %lld differences%s, %.1f s\n", name,
              static_cast<long long>(wrong.load()), expect_faults ? " (planted)" : "", s.count());
  std::fflush(stdout);
  return expect_faults ? wrong.load() == 0 : wrong.load();
}

template <int N, int ES>
uint32_t encode(float x) {
  return quant::Posit<N, ES>::from(double{x}).bits;
}

}  // namespace

int main() {
  int64_t bad = sweep<16, 2>("f32 -> posit16", encode<16, 2>);
  bad += sweep<8, 2>("f32 -> posit8", encode<8, 2>);
  bad += sweep<16, 1>("f32 -> posit<16, 1>", encode<16, 1>);
  // Ties to the even word, broken at one number: the sweep has to see it.
  bad += sweep<16, 2>(
      "f32 -> posit16, one tie rounded up",
      [](float x) { return encode<16, 2>(x == 0x1.001p0f ? 0x1.002p0f : x); }, true);
  return bad == 0 ? 0 : 1;
}
