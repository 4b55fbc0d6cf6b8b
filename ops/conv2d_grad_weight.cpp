// Gradient of the weights, two ways:
//
// outer: gw[c,r,s][k] += x[n,c,h,w] * gy[n,p,q][k], output channels in the lanes
// (conv2d_outer.cpp). dot: for few channels, each gradient a long dot product over pixels
// (conv2d_dot.cpp).
//
// Images are cut into blocks by problem size; each block sums into its own partial result, and the
// partials are added in block order, so that the bits do not depend on the number of threads.
#include "ops/conv2d_grad_weight.h"

#include <algorithm>

#include "core/simd.h"
#include "ops/conv2d_tile.h"

namespace wattle::conv {
namespace {

constexpr int64_t kTargetChunks = 16;  // parallel pieces of one call, as far as images allow
constexpr int64_t kBlockImages = 4;    // a block has about as many images at least
constexpr int64_t kPartialFloats = 1 << 20;

// Lanes over k want at least 16 output channels, and input channels enough for as many chains of
// additions as the latency of one needs.
bool use_outer(const Geometry& g) { return g.k / g.groups >= 16 && g.c / g.groups >= 3; }

bool empty(const Geometry& g) { return g.n * g.c * g.h * g.w * g.k * g.ho * g.wo == 0; }

}  // namespace

int64_t image_blocks(const Geometry& g, int64_t pieces, int64_t partial_floats) {
  const int64_t wanted = ceil_div(kTargetChunks, pieces);
  const int64_t fit = std::max<int64_t>(kPartialFloats / partial_floats, 1);
  return std::clamp<int64_t>(std::min(wanted, fit), 1, ceil_div(g.n, kBlockImages));
}

template <class Isa>
void grad_weight(const Geometry& g, const float* gy, const float* x, float* gw) {
  if (empty(g)) std::fill(gw, gw + g.k * (g.c / g.groups) * g.r * g.s, 0.0f);
  else if (use_outer(g)) outer<Isa>(g, gy, x, gw);
  else dot<Isa>(g, gy, x, gw);
}

template <class Isa>
Work grad_weight_work(const Geometry& g) {
  if (empty(g)) return {0, 4 * g.k * (g.c / g.groups) * g.r * g.s, 0};
  return use_outer(g) ? outer_work<Isa>(g) : dot_work<Isa>(g);
}

#define WATTLE_CONV(ISA)                                                               \
  template void grad_weight<ISA>(const Geometry&, const float*, const float*, float*); \
  template Work grad_weight_work<ISA>(const Geometry&);
WATTLE_CONV(simd::Portable)
#if defined(__x86_64__)
WATTLE_CONV(simd::Avx2)
WATTLE_CONV(simd::Avx512)
#endif
#undef WATTLE_CONV

}  // namespace wattle::conv
