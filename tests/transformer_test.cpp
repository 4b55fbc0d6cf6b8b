// Attention, normalisation, gradient clipping and the small language model.
#include "nn/transformer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/tape.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "green/lm_trainer.h"
#include "nn/optim.h"

namespace wattle {
namespace {

using moe::LanguageModel;
using moe::LmConfig;

// Attention written out over indices, from the module's own weights.
std::vector<double> attention_by_hand(nn::CausalSelfAttention& a, const Tensor& x, int64_t heads) {
  const auto parameters = a.named_parameters();
  const auto qkv = parameters[0].tensor.values<double>(),
             out = parameters[1].tensor.values<double>();
  const int64_t b = x.size(0), t = x.size(1), d = x.size(2), w = d / heads;
  const auto xs = x.values<double>();
  std::vector<double> y(xs.size());
  const auto project = [&](int64_t part, int64_t n, int64_t pos, int64_t j) {
    double s = 0;
    for (int64_t i = 0; i < d; ++i)
      s += xs[static_cast<size_t>((n * t + pos) * d + i)] *
           qkv[static_cast<size_t>((part * d + j) * d + i)];
    return s;
  };
  for (int64_t n = 0; n < b; ++n)
    for (int64_t pos = 0; pos < t; ++pos) {
      std::vector<double> mixed(static_cast<size_t>(d));
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<double> p;
        double total = 0;
        for (int64_t s = 0; s <= pos; ++s) {
          double dot = 0;
          for (int64_t j = h * w; j < (h + 1) * w; ++j)
            dot += project(0, n, pos, j) * project(1, n, s, j);
          p.push_back(std::exp(dot / std::sqrt(double(w))));
          total += p.back();
        }
        for (int64_t j = h * w; j < (h + 1) * w; ++j)
          for (int64_t s = 0; s <= pos; ++s)
            mixed[static_cast<size_t>(j)] +=
                p[static_cast<size_t>(s)] / total * project(2, n, s, j);
      }
      for (int64_t j = 0; j < d; ++j)
        for (int64_t i = 0; i < d; ++i)
          y[static_cast<size_t>((n * t + pos) * d + j)] +=
              mixed[static_cast<size_t>(i)] * out[static_cast<size_t>(j * d + i)];
    }
  return y;
}

TEST(Attention, IsTheSumOverEarlierPositions) {
  nn::CausalSelfAttention a(12, 3);
  const Tensor x = normal({2, 5, 12});
  const auto expected = attention_by_hand(a, x, 3), got = a(x).values<double>();
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-5) << i;
  EXPECT_THROW(nn::CausalSelfAttention(12, 5), value_error);
  EXPECT_THROW(a(normal({5, 12})), shape_error);
}

TEST(Attention, LaterTokensChangeNothingBefore) {
  LanguageModel m(LmConfig{
      .vocab = 11, .layers = 2, .d_model = 16, .heads = 2, .context = 8, .dense_hidden = 8});
  Tensor tokens = cast(uniform({1, 8}, 0, 10.99), DType::i64);
  const auto before = m(tokens).values<double>();
  tokens.data<int64_t>()[5] = (tokens.data<int64_t>()[5] + 1) % 11;
  const auto after = m(tokens).values<double>();
  for (size_t i = 0; i < 5 * 11; ++i) EXPECT_EQ(before[i], after[i]);
  double change = 0;
  for (size_t i = 5 * 11; i < before.size(); ++i) change += std::fabs(before[i] - after[i]);
  EXPECT_GT(change, 0);
  EXPECT_THROW(m(Tensor::zeros({1, 9}, DType::i64)), shape_error);
}

TEST(Attention, GradientsOfTheWholeModel) {
  moe::MoEConfig c{.d_model = 8,
                   .d_ff = 8,
                   .experts = 4,
                   .top_k = 2,
                   .segments = 2,
                   .shared = 1,
                   .activation = "gelu"};
  LmConfig l{.vocab = 7, .layers = 1, .d_model = 8, .heads = 2, .context = 4};
  l.moe = c;
  LanguageModel m(l);
  m.to(DType::f64);
  const Tensor tokens = cast(uniform({2, 4}, 0, 6.99), DType::i64),
               targets = cast(uniform({2, 4}, 0, 6.99), DType::i64);
  m(tokens);
  for (moe::MoE* layer : moe::moe_layers(m)) layer->freeze(layer->experts_of_tokens());
  std::vector<Tensor> at;
  for (const nn::Named& p : m.named_parameters()) at.push_back(p.tensor);
  Tape tape;
  for (const Tensor& t : at) tape.watch(t);
  const Tensors g = tape.gradient(moe::next_token_loss(m(tokens), targets), at);
  for (size_t i = 0; i < at.size(); ++i) {
    double worst = 0, largest = 0;
    const auto analytic = g[i].values<double>();
    for (int64_t e = 0; e < at[i].numel(); e += std::max<int64_t>(1, at[i].numel() / 12)) {
      double& v = at[i].data<double>()[e];
      const double old = v;
      v = old + 1e-5;
      const double high = moe::next_token_loss(m(tokens), targets).item();
      v = old - 1e-5;
      const double low = moe::next_token_loss(m(tokens), targets).item();
      v = old;
      worst = std::max(worst, std::fabs((high - low) / 2e-5 - analytic[static_cast<size_t>(e)]));
    }
    for (double v : analytic) largest = std::max(largest, std::fabs(v));
    EXPECT_LE(worst, 1e-6 * std::max(largest, 1e-3)) << m.named_parameters()[i].name;
  }
}

TEST(ClipGradNorm, ScalesToTheNormAndNoFurther) {
  Tensor a = Tensor::zeros({2}), b = Tensor::zeros({1});
  a.set_grad(Tensor::full({2}, 2)), b.set_grad(Tensor::full({1}, 1));
  const std::vector<nn::Named> p{{"a", a}, {"b", b}, {"none", Tensor::zeros({3})}};
  EXPECT_NEAR(nn::clip_grad_norm(p, 5), 3, 1e-6);
  EXPECT_EQ(a.grad().values<double>()[0], 2);
  EXPECT_NEAR(nn::clip_grad_norm(p, 1.5), 3, 1e-6);
  EXPECT_NEAR(a.grad().values<double>()[0], 1, 1e-6);
  EXPECT_NEAR(b.grad().values<double>()[0], 0.5, 1e-6);
  EXPECT_THROW(nn::clip_grad_norm(p, 0), value_error);
}

// ---- text ----

std::string text_file(int64_t bytes, uint64_t seed) {
  const std::string path = testing::TempDir() + str("text", static_cast<int64_t>(seed), ".txt");
  std::string s;
  // A word is followed by one of two others: a model that looks back beats letter frequencies.
  const char* const words[] = {"alpha ", "beta ", "gamma ", "delta "};
  size_t at = 0;
  for (uint64_t i = 0; static_cast<int64_t>(s.size()) < bytes; ++i) {
    s += words[at];
    at = (at + 1 + static_cast<size_t>(below_at(seed, i, 2))) % 4;
  }
  io::write_file(path, s);
  return path;
}

TEST(TextStream, EveryTwentiethBlockIsHeldOut) {
  const std::string path = text_file(100 * 4096, 1);
  const green::TextStream s = green::make_text_stream({path});
  EXPECT_EQ(s.train.size() + s.validation.size(), static_cast<size_t>(s.domains[0].bytes));
  EXPECT_EQ(s.validation.size(), 5u * 4096);
  EXPECT_EQ(s.sha256, green::make_text_stream({path}).sha256);
  EXPECT_NE(s.sha256, green::make_text_stream({text_file(100 * 4096, 2)}).sha256);
  EXPECT_THROW(green::make_text_stream({text_file(4096, 3)}), value_error);
  EXPECT_THROW(green::make_text_stream({"/does/not/exist"}), io_error);
}

TEST(TextStream, TargetsAreTheNextBytesAndWindowsDependOnSeedAndStepAlone) {
  const green::TextStream s = green::make_text_stream({text_file(100 * 4096, 1)});
  const green::TextBatch a = green::random_windows(s.train, 3, 16, 7, 5),
                         b = green::random_windows(s.train, 3, 16, 7, 5);
  EXPECT_EQ(a.tokens.values<int64_t>(), b.tokens.values<int64_t>());
  EXPECT_NE(a.tokens.values<int64_t>(),
            green::random_windows(s.train, 3, 16, 7, 6).tokens.values<int64_t>());
  const auto t = a.tokens.values<int64_t>(), n = a.targets.values<int64_t>();
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j + 1 < 16; ++j) EXPECT_EQ(n[i * 16 + j], t[i * 16 + j + 1]);
  EXPECT_THROW(green::windows_in_order(s.validation, 1 << 20, 1, 16), value_error);
}

TEST(LanguageModel, TrainingBeatsLetterFrequenciesAndTheFileKeepsTheModel) {
  const auto text =
      std::make_shared<green::TextStream>(green::make_text_stream({text_file(60 * 4096, 1)}));
  green::LmTrainOptions o;
  o.model = {.layers = 1, .d_model = 32, .heads = 2, .context = 32};
  o.model.moe = moe::MoEConfig{.d_model = 32,
                               .d_ff = 32,
                               .experts = 4,
                               .top_k = 2,
                               .segments = 2,
                               .shared = 1,
                               .aux_alpha = 0.01};
  o.steps = 60, o.batch = 16, o.length = 32, o.warmup = 10, o.seed = 3;
  green::LmTrainer trainer(o, text);
  const double first = *trainer.step();
  while (trainer.step()) {}
  EXPECT_FALSE(trainer.step().has_value());
  EXPECT_NEAR(first, std::log(256.0), 1);
  double unigram = 0;
  std::vector<double> count(256);
  for (uint8_t c : text->train) ++count[c];
  for (uint8_t c : text->validation) unigram -= std::log(count[c] / double(text->train.size()));
  const green::LmEvaluation e = green::evaluate_lm(trainer.model(), text->validation, 4096);
  EXPECT_LT(e.loss, unigram / double(text->validation.size()) - 0.5);
  int64_t rows = 0;
  for (int64_t n : e.layers[0].load) rows += n;
  EXPECT_EQ(rows, e.tokens * 3);  // T K'
  const std::string path = testing::TempDir() + "lm.safetensors";
  green::save_lm(path, trainer.model());
  const auto again = green::load_lm(path);
  EXPECT_EQ(green::evaluate_lm(*again, text->validation, 4096).loss, e.loss);
  EXPECT_EQ(moe::generate(*again, "alpha ", 12, 0, 0),
            moe::generate(trainer.model(), "alpha ", 12, 0, 9));
  EXPECT_EQ(moe::generate(*again, "al", 20, 0.8, 1), moe::generate(*again, "al", 20, 0.8, 1));
  EXPECT_THROW(moe::generate(*again, "", 1, 1, 0), value_error);
  EXPECT_THROW(moe::generate(*again, "a", 1, -1, 0), value_error);
}

TEST(LanguageModel, OptionsAreChecked) {
  green::LmTrainOptions o;
  o.length = 65;
  EXPECT_THROW(green::check(o), value_error);
  o.length = 64, o.lr = 0;
  EXPECT_THROW(green::check(o), value_error);
  EXPECT_EQ(green::lm_schedule({}, 0), 1.0 / 200);
  EXPECT_EQ(green::lm_schedule({}, 1000), 1);
  EXPECT_NEAR(green::lm_schedule({}, 3300), 0.316, 1e-12);
  EXPECT_NEAR(green::lm_schedule({}, 3700), 0.099856, 1e-12);
  EXPECT_THROW(LanguageModel({.dense_hidden = 0}), value_error);
}

}  // namespace
}  // namespace wattle
