// Portable SIMD: one kernel body, compiled once per instruction set, chosen at run time.
//
// A kernel body is a lambda templated on N, the number of f32 lanes. An Isa type (Portable, Avx2,
// Avx512) calls it from a function that carries the matching target attribute; because the body is
// always_inline, the compiler generates it with that instruction set. No file is compiled with
// -march flags, so no inline function of the standard library can leak AVX-512 into a binary that
// has to start on an older machine.
//
//   template <class Isa> void axpy(float a, const float* x, float* y, int64_t n) {
//     Isa::call([&]<int N>() WATTLE_INLINE_BODY { ... simd::load<N>(x + i) ... });
//   }
#pragma once
#include <cstdint>
#include <cstring>

#define WATTLE_INLINE_BODY __attribute__((always_inline))
#define WATTLE_FORCE_INLINE [[gnu::always_inline]] inline

namespace wattle::simd {

enum class Level : int { portable = 0, avx2 = 1, avx512 = 2 };

/// The best level this machine runs, lowered by the environment variable WATTLE_ISA
/// (portable | avx2 | avx512). Read once.
Level level();
/// True when the machine itself can execute `l`, whatever WATTLE_ISA says.
bool machine_has(Level l);
/// "portable", "avx2", "avx512".
const char* level_name(Level l);
/// Lowers (never raises above the machine) the level used from now on; tests use it to run every
/// kernel of a wide machine. Returns the level in force before.
Level set_level(Level l);

template <class T, int N>
struct VecOf {
  typedef T type __attribute__((vector_size(N * sizeof(T)), aligned(alignof(T))));
};
template <int N>
using f32 = typename VecOf<float, N>::type;
template <int N>
using f64 = typename VecOf<double, N>::type;
template <int N>
using i32 = typename VecOf<int32_t, N>::type;
template <int N>
using u32 = typename VecOf<uint32_t, N>::type;

template <int N>
WATTLE_FORCE_INLINE f32<N> load(const float* p) {
  f32<N> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <int N>
WATTLE_FORCE_INLINE void store(float* p, f32<N> v) {
  std::memcpy(p, &v, sizeof v);
}
/// All lanes x. A product with ones becomes one broadcast; the obvious forms are assembled lane by
/// lane by GCC 12 when they are inlined into a wider target.
template <int N>
WATTLE_FORCE_INLINE f32<N> set1(float x) {
  f32<N> ones;
  for (int i = 0; i < N; ++i) ones[i] = 1.0f;
  return x * ones;
}
template <int N>
WATTLE_FORCE_INLINE f32<N> max(f32<N> a, f32<N> b) {
  return a > b ? a : b;
}
template <int N>
WATTLE_FORCE_INLINE f32<N> min(f32<N> a, f32<N> b) {
  return a < b ? a : b;
}
/// Sum of the lanes, by halves, so that the order of additions is the same on every machine that
/// has N lanes.
template <int N>
WATTLE_FORCE_INLINE float hsum(f32<N> v) {
  float t[N];
  std::memcpy(t, &v, sizeof v);
  for (int w = N / 2; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) t[i] += t[i + w];
  return t[0];
}
template <int N>
WATTLE_FORCE_INLINE float hmax(f32<N> v) {
  float t[N];
  std::memcpy(t, &v, sizeof v);
  float m = t[0];
  for (int i = 1; i < N; ++i) m = t[i] > m ? t[i] : m;
  return m;
}

struct Portable {
  static constexpr Level level = Level::portable;
  static constexpr int width = 4;
  template <class Body>
  static void call(const Body& body) {
    body.template operator()<4>();
  }
};
#if defined(__x86_64__)
#define WATTLE_TARGET_AVX2 gnu::target("avx2,fma,bmi,bmi2,f16c")
#define WATTLE_TARGET_AVX512                                                \
  gnu::target(                                                              \
      "avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512cd,avx512dq,avx512vl," \
      "prefer-vector-width=512")
#else  // the types exist everywhere, so that kernel lists read the same; no such machine runs them
#define WATTLE_TARGET_AVX2 gnu::used
#define WATTLE_TARGET_AVX512 gnu::used
#endif
struct Avx2 {
  static constexpr Level level = Level::avx2;
  static constexpr int width = 8;
  template <class Body>
  [[WATTLE_TARGET_AVX2, gnu::noinline]] static void call(const Body& body) {
    body.template operator()<8>();
  }
};
struct Avx512 {
  static constexpr Level level = Level::avx512;
  static constexpr int width = 16;
  template <class Body>
  [[WATTLE_TARGET_AVX512, gnu::noinline]] static void call(const Body& body) {
    body.template operator()<16>();
  }
};

}  // namespace wattle::simd
