// Raw f32 convolution kernels: forward, gradient of the input, gradient of the weights.
//
//   y[n,k,p,q] = b[k] + sum_{c,r,s} w[k,c,r,s] * x[n, c, p*stride_h - pad_h + r*dil_h,
//                                                       q*stride_w - pad_w + s*dil_w]
//
// with zeros outside the image (cross-correlation, as in every deep-learning library).
#pragma once
#include <cstdint>

#include "ops/ops.h"

namespace wattle::conv {

/// Sizes of one convolution. x [n,c,h,w], w [k,c/groups,r,s], y [n,k,ho,wo]; ho and wo follow from
/// the other fields, ho = (h + 2 pad_h - dil_h (r - 1) - 1) / stride_h + 1, and are taken as given.
struct Geometry {
  int64_t n, c, h, w, k, r, s, ho, wo, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
};

/// Sizes of a conv2d call. Throws shape_error or value_error, naming `op`, for operands that do not
/// fit together.
Geometry forward_geometry(Ins in, const ConvGeometryAttr& a, const char* op = "conv2d");

/// y = conv(x, w) + bias. `bias` [k] may be null. Every element of y is written.
template <class Isa>
void forward(const Geometry& g, const float* x, const float* w, const float* bias, float* y);

/// gx [n,c,h,w] = gradient of sum(y * gy) with respect to x. Every element of gx is written.
template <class Isa>
void grad_input(const Geometry& g, const float* gy, const float* w, float* gx);

/// gw [k,c/groups,r,s] = gradient of sum(y * gy) with respect to w. Every element of gw is written.
template <class Isa>
void grad_weight(const Geometry& g, const float* gy, const float* x, float* gw);

/// What one call really does: bytes that its instructions load and store, scratch included
/// (packing, operands read again for each tile of outputs, partial sums), wherever in the memory
/// hierarchy they hit, and multiply-adds that its vector lanes execute, lanes without a result
/// included.
struct Work {
  int64_t read = 0, written = 0, mac = 0;
};

/// Closed forms of the loops, no data needed. Exact for `mac`; bytes leave out the index tables,
/// count an overlapping last vector of a transposition once and a broadcast weight as 4 bytes.
template <class Isa>
Work forward_work(const Geometry& g, bool bias);
template <class Isa>
Work grad_input_work(const Geometry& g);
template <class Isa>
Work grad_weight_work(const Geometry& g);

}  // namespace wattle::conv
