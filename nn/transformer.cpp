#include "nn/transformer.h"

#include <cmath>
#include <limits>

namespace wattle::nn {

RMSNorm::RMSNorm(int64_t size, double eps) : eps_(eps) {
  weight = register_parameter("weight", Tensor::ones({size}, DType::f32, default_device()));
}

CausalSelfAttention::CausalSelfAttention(int64_t d_model, int64_t heads) : heads_(heads) {
  if (heads < 1 || d_model % heads != 0)
    throw value_error(str("CausalSelfAttention: found ", heads, " heads, expected a divisor of ",
                          d_model, ", the width"));
  qkv_ = register_module("qkv", std::make_shared<Linear>(d_model, 3 * d_model, false));
  out_ = register_module("out", std::make_shared<Linear>(d_model, d_model, false));
}

Tensor CausalSelfAttention::mask_for(int64_t length, const Tensor& like) {
  if (like.is_meta()) return Tensor::empty({length, length}, like.dtype(), meta);
  if (!mask_ || mask_.size(0) != length || mask_.dtype() != like.dtype() ||
      mask_.device() != like.device()) {
    const Tensor mask = Tensor::zeros({length, length}, like.dtype(), cpu);
    dispatch_floating("CausalSelfAttention", like.dtype(), [&]<class T>() {
      for (int64_t i = 0; i < length; ++i)
        for (int64_t j = i + 1; j < length; ++j)
          mask.data<T>()[i * length + j] = T(-std::numeric_limits<double>::infinity());
    });
    mask_ = mask.to(like.device());
  }
  return mask_;
}

Tensor CausalSelfAttention::forward(const Tensor& x) {
  if (x.rank() != 3) throw shape_error(str("CausalSelfAttention: input ", x, ", expected [B,T,d]"));
  const int64_t b = x.size(0), t = x.size(1), d = x.size(2), width = d / heads_;
  // One copy puts queries, keys and values of each head side by side: [3,B,H,T,width].
  const Tensor all =
      contiguous(permute(reshape((*qkv_)(x), {b, t, 3, heads_, width}), {2, 0, 3, 1, 4}));
  const auto part = [&](int64_t i) {
    return reshape(slice(all, 0, i, i + 1), {b, heads_, t, width});
  };
  const Tensor scores =
      scale(matmul(part(0), part(1), false, true), 1 / std::sqrt(static_cast<double>(width)));
  const Tensor y = matmul(softmax(add(scores, mask_for(t, x)), -1), part(2));
  return (*out_)(reshape(permute(y, {0, 2, 1, 3}), {b, t, d}));
}

FeedForward::FeedForward(int64_t d_model, int64_t hidden) {
  if (d_model < 1 || hidden < 1)
    throw value_error(str("FeedForward: found ", d_model, " -> ", hidden, ", expected sizes >= 1"));
  up = register_parameter("up", init::kaiming_uniform({d_model, hidden}, d_model));
  down = register_parameter("down", init::kaiming_uniform({hidden, d_model}, hidden));
}

}  // namespace wattle::nn
