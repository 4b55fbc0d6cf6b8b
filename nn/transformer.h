// The parts of a transformer: attention, normalisation, the two-matrix feed-forward layer.
#pragma once
#include "nn/layers.h"

namespace wattle::nn {

/// Over the last dim, by its root mean square (Zhang and Sennrich, 2019).
class RMSNorm final : public Module {
 public:
  explicit RMSNorm(int64_t size, double eps = 1e-6);
  Tensor forward(const Tensor& x) override { return rms_norm(x, {weight.size(0)}, weight, eps_); }
  const char* kind() const override { return "RMSNorm"; }
  std::string extra() const override { return str(weight.size(0)); }
  Tensor weight;  ///< [size]

 private:
  double eps_;
};

/// x [B,T,d] -> [B,T,d]: every position attends to itself and to earlier ones (Vaswani et al.,
/// 2017). Scores are computed for all pairs and masked, so they cost 2 d T^2 multiply-adds.
class CausalSelfAttention final : public Module {
 public:
  /// Throws value_error unless `heads` divides d_model.
  CausalSelfAttention(int64_t d_model, int64_t heads);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "CausalSelfAttention"; }
  std::string extra() const override { return str(heads_, " heads"); }

 private:
  Tensor mask_for(int64_t length, const Tensor& like);
  int64_t heads_;
  std::shared_ptr<Linear> qkv_, out_;
  Tensor mask_;  // 0 on and below the diagonal, -infinity above
};

/// relu(x up) down, without biases.
class FeedForward final : public Module {
 public:
  FeedForward(int64_t d_model, int64_t hidden);
  Tensor forward(const Tensor& x) override { return matmul(relu(matmul(x, up)), down); }
  const char* kind() const override { return "FeedForward"; }
  std::string extra() const override { return str(up.size(0), " -> ", up.size(1)); }
  Tensor up, down;  ///< [d,h], [h,d]
};

}  // namespace wattle::nn
