// One description for the whole family: dense, Switch, GShard, fine-grained and shared experts.
#pragma once
#include <cstdint>
#include <string>

namespace wattle::moe {

/// N experts of the size of a standard FFN, of which a token visits K, are cut into m segments
/// each; Ks of the segments are shared, visited by every token, and the router chooses among the
/// rest (Dai et al., "DeepSeekMoE", 2024, section 3).
struct MoEConfig {
  int64_t d_model = 64;
  int64_t d_ff = 256;               ///< hidden size of the standard FFN
  int64_t experts = 16;             ///< N
  int64_t top_k = 2;                ///< K
  int64_t segments = 1;             ///< m
  int64_t shared = 0;               ///< Ks
  std::string activation = "relu";  ///< relu | gelu | swiglu (two matrices in, one out)
  std::string score = "softmax";    ///< softmax | sigmoid | hash (of the token's number)
  bool norm_topk = false;           ///< weights of a token sum to route_scale
  double route_scale = 1;
  int64_t groups = 1, topk_groups = 1;  ///< routing limited to the best groups of experts
  double aux_alpha = 0;                 ///< factor of the expert-level balance loss
  double device_alpha = 0;              ///< factor of the device-level one, over device_groups
  int64_t device_groups = 1;
  bool sequence_wise = false;   ///< balance losses of each sequence, averaged
  double z_loss = 0;            ///< factor of the router z-loss
  double bias_update_rate = 0;  ///< > 0: a bias per expert steers the choice, without a loss
  double capacity_factor = 0;   ///< an expert takes floor(factor K' T / N') rows; 0 = no limit

  template <class V>
  void visit(V&& v) {
    v("d_model", d_model), v("d_ff", d_ff), v("experts", experts), v("top_k", top_k);
    v("segments", segments), v("shared", shared), v("activation", activation), v("score", score);
    v("norm_topk", norm_topk), v("route_scale", route_scale), v("groups", groups);
    v("topk_groups", topk_groups), v("aux_alpha", aux_alpha), v("device_alpha", device_alpha);
    v("device_groups", device_groups), v("sequence_wise", sequence_wise), v("z_loss", z_loss);
    v("bias_update_rate", bias_update_rate), v("capacity_factor", capacity_factor);
  }

  int64_t routed() const { return segments * experts - shared; }  ///< N' = m N - Ks
  int64_t active() const { return segments * top_k - shared; }    ///< K' = m K - Ks
  int64_t d_expert() const { return d_ff / segments; }            ///< hidden size of a segment
  int64_t matrices() const { return activation == "swiglu" ? 3 : 2; }
  int64_t expert_parameters() const { return matrices() * d_model * d_expert(); }
  int64_t gate_parameters() const { return score == "hash" ? 0 : d_model * routed(); }
  /// All experts and the gate; the bias of bias_update_rate is no parameter.
  int64_t parameters() const {
    return (routed() + shared) * expert_parameters() + gate_parameters();
  }
  /// What one token meets.
  int64_t active_parameters() const {
    return (active() + shared) * expert_parameters() + gate_parameters();
  }
};

/// Throws value_error that names the field, what was found and what was expected.
void check(const MoEConfig& c);
/// A JSON file with the fields above. Throws value_error or io_error that names file and field.
MoEConfig config_from(const std::string& path);

}  // namespace wattle::moe
