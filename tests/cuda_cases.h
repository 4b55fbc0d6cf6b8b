// What the tests of device code share: when they are skipped, and when that is a failure.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/cuda.h"

namespace wattle {

inline bool required() {
  const char* const v = std::getenv("WATTLE_REQUIRE_GPU");
  return v && *v == '1';
}
// Empty when there is a device.
inline std::string why_not() {
  const cuda::Status& s = cuda::status();
  return s.available ? "" : s.reason + ": " + s.message;
}
#define NEEDS_DEVICE()                                                             \
  if (const std::string why = why_not(); !why.empty()) {                           \
    if (required()) FAIL() << "a GPU is required (WATTLE_REQUIRE_GPU=1): " << why; \
    GTEST_SKIP() << why;                                                           \
  }

inline Tensors on(Device d, const Tensors& in) {
  Tensors out;
  for (const Tensor& t : in) out.push_back(t ? t.to(d) : Tensor{});
  return out;
}

}  // namespace wattle
