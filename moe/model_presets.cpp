// Descriptions of published models, and of a user's own from a JSON file.
#include "moe/json_fields.h"
#include "moe/model_cost.h"

namespace wattle::moe {
namespace {

const char* const kPaper = "Dai et al., DeepSeekMoE, arXiv 2401.06066, tables 1, 2, 3, 6 and 4.1.3";

// The validation models: 9 layers of d 1280, two-matrix FFNs of 4 d. hidden = 0: routed layers.
ModelConfig validation(const char* name, int64_t dense_hidden, int64_t routed, int64_t k,
                       int64_t shared, int64_t hidden, double published) {
  ModelConfig m{.name = name, .source = kPaper, .layers = 9, .d_model = 1280, .vocab = 8192};
  m.attention = {.heads = 10, .kv_heads = 10, .head_dim = 128};
  m.swiglu = false;
  m.dense_layers = dense_hidden > 0 ? 9 : 0, m.dense_hidden = dense_hidden;
  m.routed = routed, m.top_k = k, m.shared = shared, m.expert_hidden = hidden;
  m.published_tflop = published;
  return m;
}

// Dense models, counted by the paper with a nominal FFN of 8 d^2.
ModelConfig dense(const char* name, int64_t layers, int64_t d, int64_t hidden, int64_t vocab,
                  double published) {
  ModelConfig m{.name = name, .source = kPaper, .layers = layers, .d_model = d, .vocab = vocab};
  m.sequence = 4096;
  m.attention = {.heads = d / 128, .kv_heads = d / 128, .head_dim = 128};
  m.dense_layers = layers, m.dense_hidden = hidden;
  m.nominal_ffn = 8;
  m.published_tflop = published;
  return m;
}

ModelConfig large(const char* name, int64_t routed, int64_t k, int64_t shared, int64_t hidden,
                  double published) {
  ModelConfig m{.name = name, .source = kPaper, .layers = 62, .d_model = 4096, .vocab = 102400};
  m.sequence = 4096;
  m.attention = {.heads = 32, .kv_heads = 32, .head_dim = 128};
  m.routed = routed, m.top_k = k, m.shared = shared, m.expert_hidden = hidden;
  m.published_tflop = published;
  return m;
}

ModelConfig deepseek_16b() {
  ModelConfig m{
      .name = "deepseekmoe-16b", .source = kPaper, .layers = 28, .d_model = 2048, .vocab = 102400};
  m.sequence = 4096;
  m.attention = {.heads = 16, .kv_heads = 16, .head_dim = 128};
  m.dense_layers = 1, m.dense_hidden = 10944;
  m.routed = 64, m.top_k = 6, m.shared = 2, m.expert_hidden = 1408;
  m.nominal_ffn = 16;
  m.published_tflop = 74.4, m.published_total = 16.4, m.published_active = 2.8;
  return m;
}

ModelConfig deepseek_v2() {
  ModelConfig m{.name = "deepseek-v2",
                .source = "its published configuration",
                .layers = 60,
                .d_model = 5120,
                .vocab = 102400};
  m.sequence = 4096;
  m.attention = {.heads = 128,
                 .kv_heads = 128,
                 .head_dim = 128,
                 .q_lora = 1536,
                 .kv_lora = 512,
                 .rope_dim = 64,
                 .v_dim = 128};
  m.dense_layers = 1, m.dense_hidden = 12288;
  m.routed = 160, m.top_k = 6, m.shared = 2, m.expert_hidden = 1536;
  m.published_total = 236, m.published_active = 21;
  return m;
}

ModelConfig deepseek_v3() {
  ModelConfig m = deepseek_v2();
  m.name = "deepseek-v3", m.layers = 61, m.d_model = 7168, m.vocab = 129280;
  m.dense_layers = 3, m.dense_hidden = 18432;
  m.routed = 256, m.top_k = 8, m.shared = 1, m.expert_hidden = 2048;
  m.gate_bias = true;
  m.published_total = 671, m.published_active = 37;
  return m;
}

ModelConfig mixtral() {
  ModelConfig m{.name = "mixtral-8x7b",
                .source = "its published configuration",
                .layers = 32,
                .d_model = 4096,
                .vocab = 32000};
  m.sequence = 4096;
  m.attention = {.heads = 32, .kv_heads = 8, .head_dim = 128};
  m.routed = 8, m.top_k = 2, m.expert_hidden = 14336;
  m.published_total = 46.7, m.published_active = 12.9;
  return m;
}

// ---- files ----

void check_model(const std::string& path, const ModelConfig& m) {
  const auto positive = [&](const char* key, int64_t v) {
    if (v < 1) JsonPlace{path, key}.fail(str(v), ">= 1");
  };
  positive("layers", m.layers), positive("d_model", m.d_model), positive("vocab", m.vocab);
  positive("sequence", m.sequence), positive("attention.heads", m.attention.heads);
  positive("attention.head_dim", m.attention.head_dim);
  if (m.dense_layers > m.layers)
    JsonPlace{path, "dense_layers"}.fail(str(m.dense_layers), str("at most ", m.layers, " layers"));
  if (m.dense_layers > 0) positive("dense_hidden", m.dense_hidden);
  if (m.dense_layers < m.layers) {
    positive("routed", m.routed), positive("top_k", m.top_k),
        positive("expert_hidden", m.expert_hidden);
    if (m.top_k > m.routed)
      JsonPlace{path, "top_k"}.fail(str(m.top_k), str("at most ", m.routed, " routed experts"));
  }
}

ModelConfig model_from_file(const std::string& path) {
  ModelConfig m;
  m.name = path, m.source = path;
  m.attention.kv_heads = -1;
  read_field({path, ""}, json_of_file(path), m);
  if (m.attention.kv_heads < 0) m.attention.kv_heads = m.attention.heads;
  check_model(path, m);
  return m;
}

}  // namespace

const std::vector<ModelConfig>& model_presets() {
  static const std::vector<ModelConfig> all{
      validation("dense-0.2b", 5120, 0, 0, 0, 0, 2.9),
      validation("gshard-2b", 0, 16, 2, 0, 5120, 4.3),
      validation("deepseekmoe-2b", 0, 63, 7, 1, 1280, 4.3),
      validation("gshard-2b-x1.5", 0, 16, 2, 0, 7680, 5.8),
      validation("dense-x16", 16 * 5120, 0, 0, 0, 0, 24.6),
      dense("deepseek-7b", 30, 4096, 11008, 102400, 183.5),
      dense("llama2-7b", 32, 4096, 11008, 32000, 187.9),
      deepseek_16b(),
      [] {
        ModelConfig m = large("gshard-137b", 16, 2, 0, 10944, 572.7);
        m.nominal_ffn = 16;
        return m;
      }(),
      large("deepseekmoe-145b", 128, 12, 4, 1408, 585.6),
      large("deepseekmoe-142b-half", 128, 6, 2, 1408, 374.6),
      [] {
        ModelConfig m = dense("deepseek-67b", 95, 8192, 22016, 102400, 2057.5);
        m.attention.kv_heads = 8;
        return m;
      }(),
      deepseek_v2(),
      deepseek_v3(),
      mixtral(),
  };
  return all;
}

ModelConfig model_from(const std::string& name) {
  if (name.ends_with(".json")) return model_from_file(name);
  std::string known;
  for (const ModelConfig& m : model_presets()) {
    if (m.name == name) return m;
    known += (known.empty() ? "" : ", ") + m.name;
  }
  throw value_error(
      str("model: found '", name, "', expected one of ", known, ", or a file that ends in .json"));
}

}  // namespace wattle::moe
