// The ops of this folder.
#pragma once
#include "ops/ops.h"

namespace wattle {

/// a [M,K] i8 or u8, b [K,N] i8 (or [N,K] with transpose_b) -> [M,N] i32.
Tensor int_matmul(const Tensor& a, const Tensor& b, bool transpose_b = false);
/// x [N,C,H,W] i8, weight [K,C/groups,R,S] i8 -> [N,K,Ho,Wo] i32. Outside the image x is pad_value,
/// the zero point of its quantisation.
struct IntConvAttr : ConvGeometryAttr {
  int64_t pad_value = 0;
  template <class V>
  void visit(V&& v) {
    ConvGeometryAttr::visit(v);
    v("pad_value", pad_value);
  }
};
Tensor int_conv2d(const Tensor& x, const Tensor& weight, const IntConvAttr& attr = {});

/// Affine quantisation: q = clamp(round(x / scale) + zero_point, qmin, qmax). Scale and zero point
/// are floating tensors of one number, or of one for each index of `axis`.
struct AffineAttr {
  int64_t axis = -1;  ///< -1: one scale for the tensor; else one for each index of this dimension
  int64_t qmin = -128, qmax = 127;
  template <class V>
  void visit(V&& v) {
    v("axis", axis), v("qmin", qmin), v("qmax", qmax);
  }
};
struct FakeQuantizeAttr : AffineAttr {
  double grad_scale = 1;  ///< of the scale's gradient; LSQ: 1 / sqrt(numel qmax)
  template <class V>
  void visit(V&& v) {
    AffineAttr::visit(v);
    v("grad_scale", grad_scale);
  }
};
/// x f32 -> i8, or u8 where qmin >= 0.
Tensor quantize_affine(const Tensor& x, const Tensor& scale, const Tensor& zero_point,
                       const AffineAttr& attr = {});
/// (q - zero_point) scale, f32. q is i8, u8, i32 or int4.
Tensor dequantize_affine(const Tensor& q, const Tensor& scale, const Tensor& zero_point,
                         const AffineAttr& attr = {});
/// What comes back from quantize_affine and dequantize_affine, with a straight-through gradient for
/// x and a learned-step-size gradient for the scale.
Tensor fake_quantize_affine(const Tensor& x, const Tensor& scale, const Tensor& zero_point,
                            const FakeQuantizeAttr& attr = {});
/// sums i32 -> f32: sums scale[c] + shift[c], c along `axis`: what turns integer products back into
/// numbers, biases and zero points included.
Tensor rescale(const Tensor& sums, const Tensor& scale, const Tensor& shift, int64_t axis);

}  // namespace wattle
