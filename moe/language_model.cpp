#include "moe/language_model.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "moe/exchange.h"

namespace wattle::moe {

Block::Block(const LmConfig& c) {
  norm1_ = register_module("norm1", std::make_shared<nn::RMSNorm>(c.d_model));
  attention_ =
      register_module("attention", std::make_shared<nn::CausalSelfAttention>(c.d_model, c.heads));
  norm2_ = register_module("norm2", std::make_shared<nn::RMSNorm>(c.d_model));
  if (c.moe) ffn_ = register_module("moe", std::make_shared<MoE>(*c.moe));
  else ffn_ = register_module("ffn", std::make_shared<nn::FeedForward>(c.d_model, c.dense_hidden));
}

Tensor Block::forward(const Tensor& x) {
  const Tensor h = add(x, (*attention_)((*norm1_)(x)));
  return add(h, (*ffn_)((*norm2_)(h)));
}

LanguageModel::LanguageModel(const LmConfig& c) : c_(c) {
  if (c.vocab < 2 || c.layers < 1 || c.context < 1)
    throw value_error(str("language model: found vocab ", c.vocab, ", layers ", c.layers,
                          ", context ", c.context, ", expected at least 2, 1 and 1"));
  if (c.moe && c.moe->d_model != c.d_model)
    throw value_error(
        str("language model: found moe.d_model ", c.moe->d_model, ", expected ", c.d_model));
  tokens_ = register_module("tokens", std::make_shared<nn::Embedding>(c.vocab, c.d_model));
  positions_ = register_module("positions", std::make_shared<nn::Embedding>(c.context, c.d_model));
  for (int64_t i = 0; i < c.layers; ++i)
    blocks_.push_back(register_module("block" + std::to_string(i + 1), std::make_shared<Block>(c)));
  norm_ = register_module("norm", std::make_shared<nn::RMSNorm>(c.d_model));
  head_ = register_module("head", std::make_shared<nn::Linear>(c.d_model, c.vocab, false));
  const double std = 0.6 / std::sqrt(static_cast<double>(c.d_model));
  for (const nn::Named& p : named_parameters()) {
    if (p.tensor.rank() < 2 || p.tensor.is_meta()) continue;
    // All experts are drawn, whoever holds them, so that any number of ranks starts from the same.
    Shape all = p.tensor.shape();
    const bool shared_out = is_of_experts(p.name);
    if (shared_out) all[0] = c.moe->routed();
    const Tensor drawn = normal(all, 0, std);
    const int64_t before = shared_out ? first_expert(all[0], world().rank()) : 0;
    const float* const own = drawn.data<float>() + before * (drawn.numel() / all[0]);
    std::copy_n(own, p.tensor.numel(), p.tensor.data<float>());
  }
}

Tensor LanguageModel::forward(const Tensor& tokens) {
  if (tokens.rank() != 2 || tokens.size(1) > c_.context)
    throw shape_error(
        str("language model: tokens ", tokens, ", expected [B, T] with T up to ", c_.context));
  const int64_t length = tokens.size(1);
  for (MoE* layer : moe_layers(*this)) layer->set_tokens(tokens);
  const Tensor at = slice(positions_->weight, 0, 0, length);
  Tensor x = add((*tokens_)(tokens), at);
  for (const auto& block : blocks_) x = (*block)(x);
  return (*head_)((*norm_)(x));
}

Tensor next_token_loss(const Tensor& logits, const Tensor& targets) {
  const int64_t n = targets.numel();
  return cross_entropy(reshape(logits, {n, logits.size(-1)}), reshape(targets, {n}));
}

std::string generate(LanguageModel& model, const std::string& prompt, int64_t count,
                     double temperature, uint64_t seed) {
  if (prompt.empty())
    throw value_error("generate: the prompt is empty, expected at least one byte");
  if (!(temperature >= 0))
    throw value_error(str("generate: temperature: found ", temperature, ", expected >= 0"));
  const NoRecord off;
  const bool training = model.training();
  model.eval();
  std::string text = prompt;
  const Device where = model.named_parameters().front().tensor.device();
  const int64_t vocab = model.config().vocab, context = model.config().context;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t length = std::min<int64_t>(context, static_cast<int64_t>(text.size()));
    const Tensor tokens = Tensor::empty({1, length}, DType::i64);
    for (int64_t t = 0; t < length; ++t) {
      const int64_t byte =
          static_cast<unsigned char>(text[text.size() - static_cast<size_t>(length - t)]);
      if (byte >= vocab)
        throw value_error(str("generate: found byte ", byte, ", expected below ", vocab));
      tokens.data<int64_t>()[t] = byte;
    }
    const std::vector<double> all = model(tokens.to(where)).values<double>();
    const double* const logits = all.data() + (length - 1) * vocab;
    const double top = *std::max_element(logits, logits + vocab);
    int64_t next = std::max_element(logits, logits + vocab) - logits;
    if (temperature > 0) {
      std::vector<double> sums(static_cast<size_t>(vocab));
      double total = 0;
      for (int64_t v = 0; v < vocab; ++v)
        sums[static_cast<size_t>(v)] = total += std::exp((logits[v] - top) / temperature);
      const double draw = uniform_at(seed, static_cast<uint64_t>(i)) * total;
      next = std::upper_bound(sums.begin(), sums.end() - 1, draw) - sums.begin();
    }
    text.push_back(static_cast<char>(next));
  }
  model.train(training);
  return text.substr(prompt.size());
}

}  // namespace wattle::moe
