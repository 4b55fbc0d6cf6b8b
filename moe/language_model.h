// A small decoder-only transformer, to put routed layers in.
#pragma once
#include <optional>

#include "moe/layer.h"
#include "nn/transformer.h"

namespace wattle::moe {

struct LmConfig {
  int64_t vocab = 256;  ///< bytes
  int64_t layers = 2, d_model = 64, heads = 4;
  int64_t context = 64;      ///< positions that it knows
  int64_t dense_hidden = 0;  ///< hidden size of the FFNs where `moe` is not given
  std::optional<MoEConfig> moe = {};
  template <class V>
  void visit(V&& v) {
    v("vocab", vocab), v("layers", layers), v("d_model", d_model), v("heads", heads);
    v("context", context), v("dense_hidden", dense_hidden);
  }
};

/// One layer: x + attention(norm(x)), then x + ffn(norm(x)).
class Block final : public nn::Module {
 public:
  explicit Block(const LmConfig& c);
  Tensor forward(const Tensor& x) override;
  const char* kind() const override { return "Block"; }

 private:
  std::shared_ptr<nn::RMSNorm> norm1_, norm2_;
  std::shared_ptr<nn::CausalSelfAttention> attention_;
  std::shared_ptr<nn::Module> ffn_;
};

/// tokens i64 [B,T], T <= context -> logits [B,T,vocab]. Weights of two and more dims are drawn
/// from N(0, 0.6 / sqrt(d_model)).
class LanguageModel final : public nn::Module {
 public:
  explicit LanguageModel(const LmConfig& c);
  Tensor forward(const Tensor& tokens) override;
  const char* kind() const override { return "LanguageModel"; }
  const LmConfig& config() const { return c_; }

 private:
  LmConfig c_;
  std::shared_ptr<nn::Embedding> tokens_, positions_;
  std::vector<std::shared_ptr<Block>> blocks_;
  std::shared_ptr<nn::RMSNorm> norm_;
  std::shared_ptr<nn::Linear> head_;
};

/// Mean cross entropy of predicting targets [B,T] from logits [B,T,vocab], in nats.
Tensor next_token_loss(const Tensor& logits, const Tensor& targets);

/// Continues `prompt` by `count` bytes, each drawn from softmax(logits / temperature); temperature
/// 0 takes the most likely one. Throws value_error for an empty prompt or a negative temperature.
std::string generate(LanguageModel& model, const std::string& prompt, int64_t count,
                     double temperature, uint64_t seed);

}  // namespace wattle::moe
