// Where the rows of a routed layer go, what they touch, and what odd inputs do.
#include <limits>
#include <optional>
#include <set>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "tests/moe_cases.h"

namespace wattle::moe {
namespace {

// ---- what is touched ----

// Bytes that the experts' products of one call read, beside rows and indices.
int64_t weight_bytes(MoE& layer, const Tensor& x) {
  counters().clear();
  layer(x);
  const MoEConfig& c = layer.config();
  int64_t read = 0;
  for (const Row& r : counters().rows())
    if (std::string(r.key.op->name).starts_with("grouped_gemm")) read += r.executed.read;
  const RouterStats s = layer.stats();
  const int64_t rows = s.tokens * s.active, offsets = 8 * (c.routed() + 1);
  // up: each token once, order; down: each row once.
  return read - (s.tokens * c.d_model * 4 + 8 * rows + offsets) -
         (rows * c.d_expert() * 4 + offsets);
}

TEST(MoEBytes, OneTokenTouchesItsExpertsAndNoOther) {
  MoEConfig c = small();
  c.shared = 1;
  MoE layer(c);
  const int64_t one = c.expert_parameters() * 4;
  EXPECT_EQ(weight_bytes(layer, normal({1, 24})), c.active() * one);
  counters().clear();
  layer(normal({1, 24}));
  int64_t shared = 0;
  for (const Row& r : counters().rows())
    if (counters().path(r.key.scope).ends_with("shared") && std::string(r.key.op->name) == "matmul")
      shared += r.executed.read;
  EXPECT_EQ(shared - 4 * (24 + c.shared * c.d_expert()), c.shared * one);
}

TEST(MoEBytes, TheCounterIsABruteForceCountOfDistinctExperts) {
  for (uint64_t batch = 0; batch < 100; ++batch) {
    manual_seed(batch);
    MoEConfig c = small();
    c.experts = 1 + static_cast<int64_t>(below_at(batch, 0, 12)),
    c.top_k = std::min<int64_t>(c.experts, 2);
    MoE layer(c);
    const int64_t tokens = static_cast<int64_t>(below_at(batch, 1, 20));
    const int64_t bytes = weight_bytes(layer, normal({tokens, 24}));
    std::set<int64_t> distinct;
    for (int64_t e : layer.experts_of_tokens().values<int64_t>()) distinct.insert(e);
    EXPECT_EQ(bytes, static_cast<int64_t>(distinct.size()) * c.expert_parameters() * 4) << batch;
    EXPECT_EQ(layer.stats().distinct, static_cast<int64_t>(distinct.size()));
  }
}

TEST(MoEBytes, FlopsAreThoseOfTheActiveExperts) {
  for (const int64_t experts : {8, 16}) {
    MoEConfig c{.d_model = 16, .d_ff = 32, .experts = experts, .top_k = 2, .segments = 2};
    MoE layer(c);
    counters().clear();
    layer(normal({40, 16}));
    int64_t macs = 0;
    for (const Row& r : counters().rows())
      if (std::string(r.key.op->name).starts_with("grouped_gemm")) macs += r.executed.mac;
    EXPECT_EQ(macs, 40 * c.active() * c.expert_parameters());
  }
}

TEST(MoEBytes, PoisonedExpertsThatNobodyChoseLeaveNoTrace) {
  MoE layer(small());
  layer.freeze(numbers({3, 4}, {0, 1, 2, 5, 0, 1, 2, 5, 5, 2, 1, 0}, DType::i64));
  const Tensor x = normal({3, 24}), clean = layer(x);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int64_t e : {3, 4, 6, 7})
    for (const Tensor& w : {layer.up, layer.down})
      std::fill_n(w.data<float>() + e * 24 * 16, 24 * 16, nan);
  EXPECT_TRUE(same_bits(layer(x), clean));
}

// ---- odd inputs ----

TEST(MoEOdd, TiesGoToTheLowerNumber) {
  for (const char* kernel : {"ref", ""}) {
    const std::optional<ForceKernel> force =
        *kernel ? std::optional<ForceKernel>(std::in_place, "topk_gate", kernel) : std::nullopt;
    const Tensors r = topk_gate(Tensor::zeros({2, 37}), {}, {}, {.k = 3});
    EXPECT_EQ(r[1].values<int64_t>(), (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
  }
}

TEST(MoEOdd, NotANumberIsTheLargestAndStaysVisible) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor logits = numbers({2, 3}, {0, nan, 1, 3, 2, 1}, DType::f32);
  for (const char* kernel : {"ref", "portable"}) {
    const ForceKernel force("topk_gate", kernel);
    const Tensors soft = topk_gate(logits, {}, {}, {.k = 2});
    EXPECT_EQ(soft[1].values<int64_t>(),
              (std::vector<int64_t>{0, 1, 0, 1}));  // all of row 0 is NaN
    EXPECT_TRUE(std::isnan(soft[0].values<double>()[0]));
    EXPECT_FALSE(std::isnan(soft[0].values<double>()[2]));
    const Tensors sigmoid = topk_gate(logits, {}, {}, {.k = 2, .score = "sigmoid"});
    EXPECT_EQ(sigmoid[1].values<int64_t>(), (std::vector<int64_t>{1, 2, 0, 1}));
  }
}

TEST(MoEOdd, NoTokens) {
  MoEConfig c = small();
  c.aux_alpha = 0.1, c.z_loss = 0.1, c.shared = 1;
  MoE layer(c);
  Tape tape;
  tape.watch(layer.up);
  const Tensor y = layer(Tensor::empty({0, 24}));
  EXPECT_EQ(y.shape(), (Shape{0, 24}));
  EXPECT_EQ(layer.aux_loss().item(), 0);
  EXPECT_EQ(layer.stats().max_vio(), 0);
  for (double g : tape.gradient(sum(y), {layer.up})[0].values<double>()) EXPECT_EQ(g, 0);
}

TEST(MoEOdd, TheSameExpertTwiceCountsTwice) {
  MoE layer(small());
  const Tensor x = normal({1, 24});
  layer.freeze(numbers({1, 4}, {3, 3, 3, 3}, DType::i64));
  const Tensor four = layer(x);
  layer.set_probe({.active = 1});
  layer.freeze(numbers({1, 1}, {3}, DType::i64));
  EXPECT_LT(worst(four, scale(layer(x), 4)), 1e-6);
}

TEST(MoEOdd, AllExpertsActive) {
  MoEConfig c = small();
  c.top_k = c.experts;
  MoE layer(c);
  layer(normal({5, 24}));
  EXPECT_EQ(layer.stats().load, std::vector<int64_t>(8, 5));
}

TEST(MoEOdd, WrongConfigurationsAreNamed) {
  const auto refused = [](MoEConfig c, const std::string& part) {
    try {
      check(c);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const value_error& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  MoEConfig c = small();
  c.top_k = 5, refused(c, "top_k: found 5, expected 1 to 4 experts");
  c = small(), c.segments = 3, refused(c, "segments: found 3, expected a divisor of d_ff 32");
  c = small(), c.shared = 4, refused(c, "top_k: found 2");
  c = small(), c.shared = 8, refused(c, "shared");
  c = small(), c.groups = 3, refused(c, "groups");
  c = small(), c.score = "tanh", refused(c, "softmax, sigmoid or hash");
  c = small(), c.score = "hash", c.aux_alpha = 1, refused(c, "a hash has no gate");
  c = small(), c.activation = "step", refused(c, "relu, gelu or swiglu");
  EXPECT_THROW(topk_gate(Tensor::zeros({2, 4}), {}, {}, {.k = 5}), value_error);
  MoE hash({.d_model = 4, .d_ff = 4, .experts = 2, .top_k = 1, .score = "hash"});
  EXPECT_THROW(hash(Tensor::zeros({3, 4})), value_error);
}

// ---- capacity, groups, hash ----

TEST(MoERouting, CapacityDropsSecondChoicesFirst) {
  // Everybody wants expert 0 first and expert 1 second; expert 1 takes first choices before.
  const Tensor expert = numbers({3, 2}, {0, 1, 1, 0, 0, 1}, DType::i64);
  const Tensors by_choice = counting_sort(expert, {2, 2});
  EXPECT_EQ(by_choice[1].values<int64_t>(), (std::vector<int64_t>{0, 2, 3, -1, 1, -1}));
  EXPECT_EQ(by_choice[0].values<int64_t>(), (std::vector<int64_t>{0, 4, 1, 2, -1, -1}));
  EXPECT_EQ(by_choice[2].values<int64_t>(), (std::vector<int64_t>{0, 2, 4}));
  const Tensors by_token = counting_sort(expert, {2, 2, "token"});
  EXPECT_EQ(by_token[1].values<int64_t>(), (std::vector<int64_t>{0, 2, 3, 1, -1, -1}));
  MoEConfig c = small();
  c.capacity_factor = 0.5;
  MoE layer(c);
  layer(normal({16, 24}));
  const RouterStats s = layer.stats();
  int64_t rows = 0;
  for (int64_t n : s.load) {
    EXPECT_LE(n, 16 * 4 / 8 / 2);
    rows += n;
  }
  EXPECT_EQ(rows + s.dropped, 16 * 4);
  EXPECT_GT(s.dropped, 0);
}

TEST(MoERouting, OnlyTheBestGroupsAreEligible) {
  const Tensor logits =
      numbers({1, 6}, {5, -9, 3, 3, 4, 1}, DType::f32);  // groups {0,1} {2,3} {4,5}
  EXPECT_EQ(topk_gate(logits, {}, {}, {.k = 2, .groups = 3, .topk_groups = 1})[1].values<int64_t>(),
            (std::vector<int64_t>{0, 1}));  // by the best score
  const Tensor bias = Tensor::zeros({6});
  TopkGateAttr a{.k = 2, .score = "sigmoid", .groups = 3, .topk_groups = 1};
  EXPECT_EQ(topk_gate(logits, bias, {}, a)[1].values<int64_t>(),
            (std::vector<int64_t>{2, 3}));  // by the two best
}

TEST(MoERouting, AHashIsFixedByTheTokensNumber) {
  MoE layer({.d_model = 4, .d_ff = 8, .experts = 8, .top_k = 2, .score = "hash"});
  layer.set_tokens(numbers({5}, {65, 66, 65, 200, 66}, DType::i64));
  layer(normal({5, 4}));
  const auto e = layer.experts_of_tokens().values<int64_t>();
  EXPECT_EQ(std::vector<int64_t>(e.begin(), e.begin() + 2),
            std::vector<int64_t>(e.begin() + 4, e.begin() + 6));
  for (size_t t = 0; t < 5; ++t) EXPECT_NE(e[2 * t], e[2 * t + 1]);
  EXPECT_EQ(layer.named_parameters().size(), 2u);  // no gate
}

// ---- the bias ----

TEST(MoEBias, SteersTheChoiceAndNothingElse) {
  MoEConfig c = small();
  c.score = "sigmoid", c.bias_update_rate = 0.001;
  MoE layer(c);
  const Tensor x = normal({19, 24}), before = layer(x);
  const auto chosen = layer.experts_of_tokens().values<int64_t>();
  for (int64_t e = 0; e < 8; ++e) layer.bias.data<float>()[e] = 0.25f;  // the same for all
  EXPECT_TRUE(same_bits(layer(x), before));
  layer.bias.data<float>()[3] = 10;
  layer(x);
  EXPECT_EQ(layer.stats().load[3], 19);
  for (const nn::Named& p : layer.named_parameters()) EXPECT_NE(p.name, "bias");
  bool saved = false;
  for (const nn::Named& p : layer.state_dict()) saved = saved || p.name == "bias";
  EXPECT_TRUE(saved);
}

TEST(MoEBias, MovesAgainstTheLoadWhileTrainingOnly) {
  MoEConfig c = small();
  c.bias_update_rate = 0.5;
  MoE layer(c);
  layer.eval();
  layer(normal({30, 24}));
  layer.update_bias();
  expect_near(layer.bias, std::vector<double>(8, 0), 0);
  layer.train();
  const Tensor x = normal({30, 24});
  layer(x);
  const RouterStats s = layer.stats();
  layer.update_bias();
  for (size_t e = 0; e < 8; ++e) {
    const double sign = s.load[e] * 8 < 30 * 4 ? 1 : s.load[e] * 8 > 30 * 4 ? -1 : 0;
    EXPECT_EQ(layer.bias.values<double>()[e], 0.5 * sign) << e;
  }
}

// ---- probes ----

TEST(MoEProbe, NothingDisabledChangesNoBit) {
  MoEConfig c = small();
  c.shared = 1;
  MoE layer(c);
  const Tensor x = normal({11, 24}), plain = layer(x);
  layer.set_probe({.disable_top = 0, .active = c.active()});
  EXPECT_TRUE(same_bits(layer(x), plain));
}

TEST(MoEProbe, DisablesTheBestExpertsOfEachToken) {
  MoE layer(small());
  const Tensor x = normal({11, 24});
  layer(x);
  const auto before = layer.experts_of_tokens().values<int64_t>();
  layer.set_probe({.disable_top = 0.25});  // two of eight
  layer(x);
  const auto after = layer.experts_of_tokens().values<int64_t>();
  for (size_t t = 0; t < 11; ++t)
    for (size_t k = 0; k < 2; ++k) EXPECT_EQ(after[4 * t + k], before[4 * t + 2 + k]) << t;
  EXPECT_THROW(layer.set_probe({.disable_top = 1}), value_error);
  layer.set_probe({.disable_top = 0.9});  // leaves fewer than K
  EXPECT_THROW(layer(x), value_error);
}

TEST(MoEProbe, SharedOffAddsAsManyRoutedOnes) {
  MoEConfig c = small();
  c.shared = 1;
  MoE layer(c);
  layer.set_probe({.shared_off = true});
  counters().clear();
  layer(normal({11, 24}));
  EXPECT_EQ(layer.stats().active, c.active() + 1);
  for (const Row& r : counters().rows())
    EXPECT_FALSE(counters().path(r.key.scope).ends_with("shared"));
}

TEST(MoEStats, OfSeveralBatchesTogether) {
  MoE layer(small());
  layer(normal({5, 24}));
  const RouterStats a = layer.stats();
  layer(normal({7, 24}));
  const RouterStats b = layer.stats(), both = a + b;
  EXPECT_EQ(both.tokens, 12);
  for (size_t e = 0; e < 8; ++e) EXPECT_EQ(both.load[e], a.load[e] + b.load[e]);
  EXPECT_LE(both.entropy(), std::log(8.0) + 1e-12);
  MoE fresh(small());
  EXPECT_THROW(fresh.stats(), value_error);
}

}  // namespace
}  // namespace wattle::moe
