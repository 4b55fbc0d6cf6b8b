// A feed-forward layer whose tokens each visit a few of many experts.
#pragma once
#include "moe/config.h"
#include "nn/layers.h"

namespace wattle::moe {

/// Departures from the trained routing, to see what a model owes to it.
struct Probe {
  double disable_top = 0;   ///< of each token's best experts, round(share N') are passed over
  bool shared_off = false;  ///< leaves the shared experts out and routes to as many more
  int64_t active = 0;       ///< routed experts of a token; 0 = as trained
};

/// What the router of one layer did with one batch.
struct RouterStats {
  int64_t tokens = 0, active = 0;  ///< T and K'
  std::vector<int64_t> load;       ///< rows of each routed expert, dropped ones not among them
  std::vector<double> mean_score;  ///< P_i
  int64_t dropped = 0;             ///< rows over the capacity
  int64_t distinct = 0;            ///< experts with a row: whose weights were touched
  /// max load / mean load - 1 of this batch; 0 = balanced, N'/K' - 1 = collapsed. Small batches
  /// have a large one by chance.
  double max_vio() const;
  double entropy() const;  ///< of the load, in nats; log N' = balanced
};
/// The same of several batches together ("global").
RouterStats operator+(RouterStats a, const RouterStats& b);

/// x [.., d] -> [.., d], without the residual:
///   sum of the shared experts + sum over the chosen ones of weight * expert(x).
/// Ops are credited to the scopes gate, route, experts and shared of the layer.
class MoE final : public nn::Module {
 public:
  /// Weights are drawn from N(0, init_std), by default 0.6 / sqrt(d_model).
  /// With several ranks in world() this one holds its share of the experts (first_expert); the
  /// drawn numbers are those of one process. Throws value_error for more ranks than experts.
  explicit MoE(const MoEConfig& c, double init_std = 0);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "MoE"; }
  std::string extra() const override;
  const MoEConfig& config() const { return c_; }

  /// Balance losses and z-loss of the last forward pass, times their factors; undefined when the
  /// layer has none. Belongs into the training loss, not into the reported one.
  Tensor aux_loss() const { return aux_; }
  /// Of the last forward pass. Throws value_error before the first one.
  RouterStats stats() const;
  /// After an optimiser step: every bias moves by bias_update_rate towards the mean load of the
  /// training batches since the last call. Nothing happens in a layer without biases, and none is
  /// counted in eval().
  void update_bias();
  /// Numbers of the tokens of the next batches (i64, as many as x has rows), for score = hash.
  void set_tokens(const Tensor& tokens) { tokens_ = tokens; }
  void set_probe(const Probe& p);
  /// Routing of the next batches, [T,K'] i64, instead of the gate's choice; undefined = the gate's.
  void freeze(const Tensor& expert) { frozen_ = expert; }
  /// Experts that each token of the last batch went to, [T,K'].
  Tensor experts_of_tokens() const { return expert_; }

  Tensor gate;                                    ///< [N',d]; undefined for a hash
  Tensor up, up_gate, down;                       ///< [N',d,h], [N',d,h] (swiglu), [N',h,d]
  Tensor shared_up, shared_up_gate, shared_down;  ///< [d,Ks h], .., [Ks h,d]
  Tensor bias;                                    ///< [N'], a buffer

 private:
  struct Chosen {
    Tensor weight, expert, score;
  };
  Chosen choose(const Tensor& x);
  Tensor routed(const Tensor& x, const Chosen& c);
  Tensor experts_here(const Tensor& x, const Tensor& offsets, const Tensor& order,
                      const Tensor& position) const;
  Tensor experts_of_all_ranks(const Tensor& rows);
  Tensor own_experts(const Tensor& all) const;
  Tensor shared(const Tensor& x) const;
  Tensor activate(const Tensor& h, const Tensor& gate) const;
  void losses(const Tensor& logits, const Chosen& c, int64_t sequences);
  int64_t capacity(int64_t tokens, int64_t k) const;
  int64_t k() const;

  MoEConfig c_;
  Probe probe_;
  Tensor tokens_, frozen_, aux_, logits_;
  Tensor expert_, score_, offsets_;  // of the last batch
  std::vector<int64_t> load_;        // of training batches since the last update_bias
};

/// Whether a parameter of this name belongs to routed experts, which ranks share out.
bool is_of_experts(const std::string& parameter);
/// Every MoE in a module, depth first.
std::vector<MoE*> moe_layers(nn::Module& m);
/// Sum of the layers' losses; undefined when there is none. Each layer's is made from its own f and
/// P, so opposite imbalances of two layers do not cancel.
Tensor aux_loss(nn::Module& m);

}  // namespace wattle::moe
