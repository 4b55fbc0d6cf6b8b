// The taps of every output of one image and group, [ho * wo, c/groups * r * s]: a convolution as a
// matrix product, for codes and integers.
#pragma once
#include "ops/conv2d_kernels.h"

namespace wattle::quant {

template <class Code>
void patches(const conv::Geometry& g, const Code* image, Code padding, Code* y) {
  for (int64_t p = 0; p < g.ho; ++p)
    for (int64_t q = 0; q < g.wo; ++q)
      for (int64_t c = 0; c < g.c / g.groups; ++c)
        for (int64_t r = 0; r < g.r; ++r) {
          const int64_t i = p * g.stride_h - g.pad_h + r * g.dil_h;
          for (int64_t s = 0; s < g.s; ++s) {
            const int64_t j = q * g.stride_w - g.pad_w + s * g.dil_w;
            const bool inside = i >= 0 && i < g.h && j >= 0 && j < g.w;
            *y++ = inside ? image[(c * g.h + i) * g.w + j] : padding;
          }
        }
}

}  // namespace wattle::quant
