// Convolutions by cuDNN's graph API.
#pragma once
#include <cstdint>

#include "core/launch.h"

namespace wattle::device {

enum class ConvPass : int32_t { forward, input_gradient, weight_gradient };

/// x [n,c,h,w], w [k,c/groups,r,s], y [n,k,ho,wo]; row-major f32.
struct Conv {
  int64_t n, c, h, w, k, r, s, ho, wo;
  int64_t stride[2], padding[2], dilation[2], groups;
  ConvPass pass;
  int32_t math = math_f32;
  bool deterministic = true;
};

/// Builds the operation graph, as for a run; needs no device. Null = cuDNN accepts it.
const char* dnn_describe(const Conv& c);
/// The two tensors that are read and the one that is written, in the order x, w, y.
const char* dnn_run(const Conv& c, const void* x, const void* w, const void* y);

}  // namespace wattle::device
