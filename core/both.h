// Marks the arithmetic of an element that host and device code share: one definition, and what a
// test on the host finds out about it holds on a device. C++17, as nvcc has it here.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define WATTLE_BOTH __host__ __device__
#else
#define WATTLE_BOTH
#endif

namespace wattle {

/// Zeros above the highest 1; 64 for 0.
WATTLE_BOTH inline int leading_zeros(uint64_t x) {
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(x));
#else
  return x ? __builtin_clzll(x) : 64;
#endif
}

/// Zeros below the lowest 1; x is not 0.
WATTLE_BOTH inline int trailing_zeros(uint64_t x) {
#if defined(__CUDA_ARCH__)
  return __ffsll(static_cast<long long>(x)) - 1;
#else
  return __builtin_ctzll(x);
#endif
}

}  // namespace wattle
