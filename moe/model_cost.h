// What a transformer with routed layers costs, from its description alone.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "moe/config.h"

namespace wattle::moe {

/// Attention of one layer. kv_lora > 0: multi-head latent attention (DeepSeek-V2), whose heads have
/// head_dim + rope_dim numbers for the scores and v_dim for the values.
struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t q_lora = 0, kv_lora = 0, rope_dim = 0, v_dim = 0;
  template <class V>
  void visit(V&& v) {
    v("heads", heads), v("kv_heads", kv_heads), v("head_dim", head_dim), v("q_lora", q_lora);
    v("kv_lora", kv_lora), v("rope_dim", rope_dim), v("v_dim", v_dim);
  }
};

/// A decoder-only language model. The first dense_layers layers have a dense FFN.
struct ModelConfig {
  std::string name;
  std::string source;  ///< where the figures come from
  int64_t layers = 1, d_model = 1, vocab = 1;
  int64_t sequence = 2048;  ///< tokens of one sequence
  AttentionShape attention;
  int64_t dense_layers = 0, dense_hidden = 0;
  bool swiglu = true;  ///< three matrices in an FFN, else two
  /// Of the other layers; d_ff = hidden size of one expert, segments = 1, experts = routed +
  /// shared.
  int64_t routed = 0, top_k = 0, shared = 0, expert_hidden = 0;
  bool gate_bias = false;        ///< a bias per expert that steers the choice
  bool tied_embeddings = false;  ///< one matrix for input and output
  /// Active FFN weights of a layer in units of d_model^2, where a publication counts with a nominal
  /// figure instead of the sizes above.
  std::optional<double> nominal_ffn = {};
  // What its authors print, for comparison: 10^12 FLOPs per sequence, 10^9 weights.
  std::optional<double> published_tflop = {}, published_total = {}, published_active = {};
  template <class V>
  void visit(V&& v) {
    v("name", name), v("layers", layers), v("d_model", d_model), v("vocab", vocab);
    v("sequence", sequence), v("attention", attention), v("dense_layers", dense_layers);
    v("dense_hidden", dense_hidden), v("swiglu", swiglu), v("routed", routed), v("top_k", top_k);
    v("shared", shared), v("expert_hidden", expert_hidden), v("gate_bias", gate_bias);
    v("tied_embeddings", tied_embeddings), v("nominal_ffn", nominal_ffn);
  }
};

struct ParameterCount {
  int64_t embedding = 0, head = 0, attention = 0, dense = 0, experts = 0, shared = 0, gate = 0,
          norm = 0;
  int64_t total() const {
    return embedding + head + attention + dense + experts + shared + gate + norm;
  }
};

/// All weights; with active = true those that one token meets.
ParameterCount parameters(const ModelConfig& m, bool active);

/// Training FLOPs (forward and backward) of one sequence of T tokens, by the convention of the
/// DeepSeekMoE paper: T (6 (attention + active FFN weights) + 12 L d T + 6 V d); attention scores
/// are not halved for causality, gates and norms not counted. With a nominal FFN attention has 4
/// d^2.
double flops_per_sequence(const ModelConfig& m, int64_t sequence);

/// Mean number of distinct experts out of N that T tokens with K each touch, if routing were
/// uniform and independent: N (1 - (1 - K / N)^T).
double expected_distinct(int64_t experts, int64_t k, int64_t tokens);
/// Weight bytes that one step over `tokens` tokens reads: all but the input embedding, experts as
/// expected_distinct says.
double weight_bytes_touched(const ModelConfig& m, int64_t tokens, double bytes_per_weight);
/// The smallest number of tokens at which a step of `m` touches more weight bytes than one of
/// `dense`; none where it never does.
std::optional<int64_t> break_even_tokens(const ModelConfig& m, const ModelConfig& dense);

/// The models of the paper's FLOP tables and some whose configurations are published.
const std::vector<ModelConfig>& model_presets();
/// A preset, or a JSON file (a name that ends in .json) with the fields above. Throws value_error
/// or io_error that names what was found and what was expected.
ModelConfig model_from(const std::string& name_or_file);

}  // namespace wattle::moe
