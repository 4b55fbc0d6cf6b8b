#include "moe/model_cost.h"

#include <cmath>

namespace wattle::moe {
namespace {

int64_t attention_weights(const ModelConfig& m) {
  const AttentionShape& a = m.attention;
  const int64_t d = m.d_model;
  if (a.kv_lora == 0)
    return d * a.heads * a.head_dim * 2 + d * a.kv_heads * a.head_dim * 2;  // q and out, k and v
  const int64_t score = a.head_dim + a.rope_dim;
  const int64_t q = a.q_lora > 0 ? d * a.q_lora + a.q_lora * a.heads * score : d * a.heads * score;
  const int64_t kv = d * (a.kv_lora + a.rope_dim) + a.kv_lora * a.heads * (a.head_dim + a.v_dim);
  return q + kv + a.heads * a.v_dim * d;
}

int64_t attention_norms(const ModelConfig& m) {
  const AttentionShape& a = m.attention;
  return a.kv_lora > 0 ? a.q_lora + a.kv_lora : 0;
}

int64_t ffn_weights(const ModelConfig& m, int64_t hidden) {
  return (m.swiglu ? 3 : 2) * m.d_model * hidden;
}

}  // namespace

ParameterCount parameters(const ModelConfig& m, bool active) {
  const int64_t routed_layers = m.layers - m.dense_layers;
  ParameterCount p;
  p.embedding = m.tied_embeddings ? 0 : m.vocab * m.d_model;
  p.head = m.vocab * m.d_model;
  p.attention = m.layers * attention_weights(m);
  p.dense = m.dense_layers * ffn_weights(m, m.dense_hidden);
  p.experts = routed_layers * (active ? m.top_k : m.routed) * ffn_weights(m, m.expert_hidden);
  p.shared = routed_layers * m.shared * ffn_weights(m, m.expert_hidden);
  p.gate = routed_layers * m.routed * (m.d_model + (m.gate_bias ? 1 : 0));
  p.norm = (2 * m.layers + 1) * m.d_model + m.layers * attention_norms(m);
  return p;
}

double flops_per_sequence(const ModelConfig& m, int64_t sequence) {
  const double d = static_cast<double>(m.d_model), layers = static_cast<double>(m.layers);
  double weights;  // in attention and active FFNs
  if (m.nominal_ffn) {
    weights = layers * (4 + *m.nominal_ffn) * d * d;
  } else {
    const ParameterCount p = parameters(m, true);
    weights = static_cast<double>(p.attention + p.dense + p.experts + p.shared);
  }
  const double t = static_cast<double>(sequence);
  return t * (6 * weights + 12 * layers * d * t + 6 * static_cast<double>(m.vocab) * d);
}

double expected_distinct(int64_t experts, int64_t k, int64_t tokens) {
  const double n = static_cast<double>(experts);
  if (experts == 0 || tokens == 0) return 0;
  if (k >= experts) return n;
  return n * -std::expm1(static_cast<double>(tokens) * std::log1p(-static_cast<double>(k) / n));
}

double weight_bytes_touched(const ModelConfig& m, int64_t tokens, double bytes_per_weight) {
  const ParameterCount p = parameters(m, false);
  const double base = static_cast<double>(p.total() - p.embedding - p.experts);
  const double one =
      static_cast<double>(ffn_weights(m, m.expert_hidden) * (m.layers - m.dense_layers));
  return bytes_per_weight * (base + expected_distinct(m.routed, m.top_k, tokens) * one);
}

std::optional<int64_t> break_even_tokens(const ModelConfig& m, const ModelConfig& dense) {
  for (int64_t t = 1; t <= 1 << 20; ++t)
    if (weight_bytes_touched(m, t, 1) > weight_bytes_touched(dense, t, 1)) return t;
  return {};
}

}  // namespace wattle::moe
