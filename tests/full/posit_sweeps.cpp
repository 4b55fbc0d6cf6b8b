// Long sweeps that a run of the tests leaves out (./wattle test --full): every f32 into posits, by
// the reference and by the codec at every SIMD level; millions of arithmetic cases.
// The oracle is a walk: positive floats in rising order pass the rounding thresholds one by one,
// and a threshold is the posit of one bit more that lies between two words (standard of 2022, 4.1),
// read bit by bit. It shares no code with quant/posit.h.
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>

#include "core/codec.h"
#include "core/parallel.h"
#include "quant/posit.h"
#include "tests/posit_cases.h"

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
  constexpr uint32_t block = 1024;
  float x_of[2 * block];
  uint32_t got[2 * block];  // first the positive ones
  for (uint32_t i = begin; i < end; ++i) {
    const uint32_t at = (i - begin) % block;
    if (at == 0) {
      const uint32_t n = std::min(block, end - i);
      for (uint32_t j = 0; j < n; ++j) {
        x_of[j] = std::bit_cast<float>(i + j);
        x_of[block + j] = -x_of[j];
      }
      encode(x_of, got, n);
      encode(x_of + block, got + block, n);
    }
    const float x = x_of[at];
    while (double{x} > threshold || (double{x} == threshold && word % 2 == 1)) {
      ++word;
      threshold = word < top ? value_of(2 * word + 1, N + 1, ES) : INFINITY;
    }
    wrong += got[at] != word;
    wrong += got[block + at] != ((~word + 1) & mask);
  }
  return wrong;
}

template <int N, int ES, class Encode>
int64_t sweep(const char* name, const Encode& encode, bool expect_faults = false) {
  const auto start = std::chrono::steady_clock::now();
  constexpr uint32_t infinity = 0x7F800000, piece = 1 << 20;
  constexpr uint32_t nar = 1u << (N - 1);
  const auto one = [&](uint32_t bits) {
    const float x = std::bit_cast<float>(bits);
    uint32_t word = 0;
    encode(&x, &word, 1);
    return word;
  };
  std::atomic<int64_t> wrong{(one(0) != 0) + (one(0x80000000u) != 0)};
  parallel_chunks((infinity + piece - 1) / piece, [&](int64_t c) {
    const uint32_t begin = std::max<uint32_t>(1, static_cast<uint32_t>(c) * piece);
    const uint32_t end = std::min(infinity, (static_cast<uint32_t>(c) + 1) * piece);
    wrong += walk<N, ES>(begin, end, encode);
  });
  for (uint64_t i = infinity; i <= 0x7FFFFFFF; ++i)  // infinity and every NaN
    for (const uint32_t sign : {0u, 0x80000000u})
      wrong += one(static_cast<uint32_t>(i) | sign) != nar;
  const std::chrono::duration<double> s = std::chrono::steady_clock::now() - start;
  std::printf("%-44s 2^32 cases, %lld differences%s, %.1f s\n", name,
              static_cast<long long>(wrong.load()), expect_faults ? " (planted)" : "", s.count());
  std::fflush(stdout);
  return expect_faults ? wrong.load() == 0 : wrong.load();
}

// By the scalar reference.
template <int N, int ES>
void reference(const float* x, uint32_t* words, int64_t n) {
  for (int64_t i = 0; i < n; ++i) words[i] = quant::Posit<N, ES>::from(double{x[i]}).bits;
}

// By the codec that tensors use.
template <class Code>
auto by_codec(DType t) {
  return [t](const float* x, uint32_t* words, int64_t n) {
    Code codes[1024];
    codec(t).encode(x, codes, n, {});
    for (int64_t i = 0; i < n; ++i) words[i] = codes[i];
  };
}

int64_t arithmetic(const posit_cases::Type& t, posit_cases::Arith op, const char* what,
                   int64_t count) {
  const auto start = std::chrono::steady_clock::now();
  int64_t wrong = 0;
  constexpr int64_t piece = 500000;
  for (int64_t done = 0; done < count; done += piece) {
    const auto w = posit_cases::stratified(t, piece, 1000 + static_cast<uint64_t>(done));
    const Tensor a = posit_cases::codes(t.dtype, w.a), b = posit_cases::codes(t.dtype, w.b),
                 c = posit_cases::codes(t.dtype, w.c);
    wrong += posit_cases::wrong(op, t, a, b, c, posit_cases::run(op, a, b, c));
  }
  const std::chrono::duration<double> s = std::chrono::steady_clock::now() - start;
  std::printf("%-44s %lld cases, %lld differences, %.1f s\n",
              (std::string(name(t.dtype)) + " " + what).c_str(), static_cast<long long>(count),
              static_cast<long long>(wrong), s.count());
  std::fflush(stdout);
  return wrong;
}

int64_t arithmetic_of(const posit_cases::Type& t, int64_t count) {
  const char* const names[] = {"add", "sub", "mul", "div", "sqrt", "fma"};
  int64_t wrong = 0;
  for (posit_cases::Arith op : posit_cases::all_ops_of_posits)
    wrong += arithmetic(t, op, names[static_cast<int>(op)], count);
  return wrong;
}

}  // namespace

int main() {
  int64_t bad = 0;
  for (const posit_cases::Type& t : posit_cases::types) {
    if (t.dtype == DType::posit16) bad += arithmetic_of(t, 4000000);
    if (t.dtype == DType::posit32) bad += arithmetic_of(t, 10000000);
  }
  for (simd::Level l : {simd::Level::avx512, simd::Level::avx2, simd::Level::portable}) {
    if (!simd::machine_has(l)) continue;
    const simd::Level before = simd::set_level(l);
    const std::string at = std::string(" at ") + simd::level_name(l);
    bad += sweep<16, 2>(("f32 -> posit16" + at).c_str(), by_codec<uint16_t>(DType::posit16));
    bad += sweep<8, 2>(("f32 -> posit8" + at).c_str(), by_codec<uint8_t>(DType::posit8));
    simd::set_level(before);
  }
  bad += sweep<16, 2>("f32 -> posit16 by the reference", reference<16, 2>);
  bad += sweep<8, 2>("f32 -> posit8 by the reference", reference<8, 2>);
  bad += sweep<16, 1>("f32 -> posit<16, 1> by the reference", reference<16, 1>);
  // Ties to the even word, broken at one number: the sweep has to see it.
  bad += sweep<16, 2>(
      "f32 -> posit16, one tie rounded up",
      [](const float* x, uint32_t* words, int64_t n) {
        by_codec<uint16_t>(DType::posit16)(x, words, n);
        for (int64_t i = 0; i < n; ++i)
          if (x[i] == 0x1.001p0f) ++words[i];
      },
      true);
  return bad == 0 ? 0 : 1;
}
