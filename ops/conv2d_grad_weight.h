// The two ways to the gradient of the weights, see conv2d_grad_weight.cpp.
#pragma once
#include <cstdint>

#include "ops/conv2d_kernels.h"

namespace wattle::conv {

template <class Isa>
void outer(const Geometry& g, const float* gy, const float* x, float* gw);
template <class Isa>
void dot(const Geometry& g, const float* gy, const float* x, float* gw);
template <class Isa>
Work outer_work(const Geometry& g);
template <class Isa>
Work dot_work(const Geometry& g);

/// gy of the images that one pass keeps in the L1 cache, in floats.
inline constexpr int64_t kPanelFloats = 4 << 10;

/// Blocks of images with a partial result each. `pieces`: parallel pieces of one block;
/// `partial_floats`: size of one partial result.
int64_t image_blocks(const Geometry& g, int64_t pieces, int64_t partial_floats);

}  // namespace wattle::conv
