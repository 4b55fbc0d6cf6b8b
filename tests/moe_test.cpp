// The routed layer: gate and losses against worked numbers, identities, gradients.
#include <set>

#include "autograd/tape.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "tests/moe_cases.h"

namespace wattle::moe {
namespace {

// ---- the worked example: N = 4, K = 2, T = 3 ----

const std::vector<double> kLogits{2, 1, 0, -1, 0, .5, 1, .25, 1, -1, 2, 0};

TEST(MoEVector, GateScoresExpertsAndWeights) {
  const Tensors r = topk_gate(numbers({3, 4}, kLogits), {}, {}, {.k = 2});
  expect_near(r[2], {.643914, .236883, .087144, .032059, .150353, .247890, .408701, .193057,
                     .236883, .032059, .643914, .087144});
  EXPECT_EQ(r[1].values<int64_t>(), (std::vector<int64_t>{0, 1, 2, 1, 2, 0}));
  expect_near(r[0], {.643914, .236883, .408701, .247890, .643914, .236883});
}

TEST(MoEVector, BalanceLossAndItsGradient) {
  const Tensor logits = numbers({3, 4}, kLogits);
  Tape tape;
  tape.watch(logits);
  const Tensors r = topk_gate(logits, {}, {}, {.k = 2});
  const Tensor loss = balance_loss(r[2], r[1]);
  expect_near(loss, {1.194551});
  expect_near(tape.gradient(loss, {logits})[0],
              {.009175, .003375, .001242, -.013791, .012901, .021270, .035068, -.069238, .009175,
               .001242, .024939, -.035356});
  expect_near(balance_loss(r[2], r[1], {2}), {1.010662});
}

TEST(MoEVector, MaxVioAndMeanScores) {
  MoE layer({.d_model = 4, .d_ff = 8, .experts = 4, .top_k = 2});
  for (int64_t i = 0; i < 16; ++i) layer.gate.data<float>()[i] = i % 5 == 0;  // logits = x
  layer(numbers({3, 4}, kLogits, DType::f32));
  const RouterStats s = layer.stats();
  EXPECT_EQ(s.load, (std::vector<int64_t>{2, 2, 2, 0}));
  EXPECT_NEAR(s.max_vio(), 1.0 / 3, 1e-12);
  EXPECT_EQ(s.distinct, 3);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(s.mean_score[i], (std::vector<double>{.343717, .172277, .379920, .104087})[i],
                1e-6);
}

// ---- losses ----

TEST(MoELoss, BalancedIsExactlyOne) {
  // f = 1 for every expert: the loss is the sum of P, which is 1 whatever the scores.
  const Tensor score = softmax(normal({8, 4}), 1);
  const Tensor expert =
      numbers({8, 2}, {0, 1, 2, 3, 1, 0, 3, 2, 0, 2, 1, 3, 2, 0, 3, 1}, DType::i64);
  expect_near(balance_loss(score, expert), {1});
  expect_near(balance_loss(Tensor::full({8, 4}, 0.25), expert), {1}, 0);
  expect_near(balance_loss(score, expert, {2}), {1});
}

TEST(MoELoss, CollapseCostsNOverK) {
  const Tensor score = numbers({2, 4}, {.5, .5, 0, 0, .5, .5, 0, 0});
  const Tensor expert = numbers({2, 2}, {0, 1, 1, 0}, DType::i64);
  expect_near(balance_loss(score, expert), {2});  // N' / K'
}

TEST(MoELoss, OppositeImbalancesOfTwoLayersDoNotCancel) {
  const Tensor left = numbers({2, 2}, {.9, .1, .9, .1}), right = numbers({2, 2}, {.1, .9, .1, .9});
  const Tensor zeros = numbers({2, 1}, {0, 0}, DType::i64),
               ones = numbers({2, 1}, {1, 1}, DType::i64);
  expect_near(add(balance_loss(left, zeros), balance_loss(right, ones)), {3.6});
  // Pooled over layers, as some do it, the same routing looks balanced.
  expect_near(balance_loss(concat({left, right}), concat({zeros, ones})), {1});
  // Two layers of one module tree, which aux_loss adds up.
  nn::Sequential net;
  MoEConfig c{.d_model = 2, .d_ff = 2, .experts = 2, .top_k = 1, .aux_alpha = 0.5};
  auto a = std::make_shared<MoE>(c), b = std::make_shared<MoE>(c);
  a->freeze(zeros), b->freeze(ones);
  net.add(a).add(b);
  net(normal({2, 2}));
  expect_near(aux_loss(net), {a->aux_loss().item() + b->aux_loss().item()});
}

TEST(MoELoss, SequenceWiseIsTheMeanOfTheSequences) {
  const Tensor score = softmax(normal({6, 4}), 1);
  const Tensor expert = numbers({6, 1}, {0, 1, 2, 3, 3, 3}, DType::i64);
  const double first = balance_loss(slice(score, 0, 0, 3), slice(expert, 0, 0, 3)).item();
  const double second = balance_loss(slice(score, 0, 3, 6), slice(expert, 0, 3, 6)).item();
  expect_near(balance_loss(score, expert, {0, 2}), {(first + second) / 2});
}

TEST(MoELoss, GradientReachesTheGateThroughWeightsAndLosses) {
  for (const bool losses : {false, true}) {
    MoEConfig c = small();
    if (losses) c.aux_alpha = 0.1, c.device_alpha = 0.1, c.device_groups = 4, c.z_loss = 0.1;
    MoE layer(c);
    Tape tape;
    tape.watch(layer.gate);
    const Tensor y = layer(normal({9, 24}));
    EXPECT_EQ(layer.aux_loss().defined(), losses);
    const Tensor loss = losses ? layer.aux_loss() : sum(mul(y, y));
    double norm = 0;
    for (double v : tape.gradient(loss, {layer.gate})[0].values<double>()) norm += v * v;
    EXPECT_GT(norm, 0) << losses;
  }
}

TEST(MoELoss, EvaluationHasNone) {
  MoEConfig c = small();
  c.aux_alpha = 0.1;
  MoE layer(c);
  layer.eval();
  layer(normal({9, 24}));
  EXPECT_FALSE(layer.aux_loss().defined());
}

// ---- identities ----

TEST(MoEIdentity, OneExpertIsTheDenseLayerBitForBit) {
  MoE layer({.d_model = 64, .d_ff = 256, .experts = 1, .top_k = 1});
  const Tensor x = normal({130, 64});
  const Tensor dense = dense_ffn(x, reshape(layer.up, {64, 256}), reshape(layer.down, {256, 64}));
  EXPECT_TRUE(same_bits(layer(x), dense));
}

TEST(MoEIdentity, ADenseLayerSplitIntoExpertsWithWeightOne) {
  const int64_t d = 24, h = 40, m = 5;
  const Tensor up = normal({d, h}), down = normal({h, d}), x = normal({17, d});
  const Tensor parts = contiguous(permute(reshape(up, {d, m, h / m}), {1, 0, 2}));
  Tensor all = Tensor::empty({17, m}, DType::i64);
  for (int64_t i = 0; i < all.numel(); ++i) all.data<int64_t>()[i] = i % m;
  const Tensors s = counting_sort(all, {m});
  const Tensor y = combine(grouped_gemm(relu(grouped_gemm(x, parts, s[2], s[0], s[1])),
                                        reshape(down, {m, h / m, d}), s[2]),
                           {}, s[1], s[0]);
  EXPECT_LT(worst(y, dense_ffn(x, up, down)), 1e-5);
}

TEST(MoEIdentity, SharedExpertsAreADenseLayer) {
  MoEConfig c = small();
  c.shared = 1;
  MoE layer(c);
  const Tensor x = normal({9, 24});
  const Tensor with = layer(x);
  layer.set_probe({.shared_off = true, .active = c.active() - c.shared});
  EXPECT_LT(worst(sub(with, layer(x)), dense_ffn(x, layer.shared_up, layer.shared_down)), 1e-4);
}

TEST(MoEIdentity, RelabelledExpertsGiveTheSameSum) {
  MoE a(small()), b(small());
  const int64_t n = a.config().routed();
  Tensor shuffle = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i) shuffle.data<int64_t>()[i] = (i * 3 + 1) % n;
  const auto copy = [&](const Tensor& from, const Tensor& to) {
    const Tensor picked = index_select(from, 0, shuffle);
    std::copy_n(picked.data<float>(), picked.numel(), to.data<float>());
  };
  copy(a.gate, b.gate), copy(a.up, b.up), copy(a.down, b.down);
  const Tensor x = normal({33, 24});
  EXPECT_LT(worst(b(x), a(x)), 1e-5);
}

TEST(MoEIdentity, EqualExpertsWithNormalisedWeightsAreOneExpert) {
  MoEConfig c = small();
  c.norm_topk = true;
  MoE layer(c);
  const int64_t one = 24 * 16;
  for (int64_t e = 1; e < c.routed(); ++e) {
    std::copy_n(layer.up.data<float>(), one, layer.up.data<float>() + e * one);
    std::copy_n(layer.down.data<float>(), one, layer.down.data<float>() + e * one);
  }
  const Tensor x = normal({21, 24});
  EXPECT_LT(worst(layer(x), dense_ffn(x, reshape(slice(layer.up, 0, 0, 1), {24, 16}),
                                      reshape(slice(layer.down, 0, 0, 1), {16, 24}))),
            1e-5);
}

// ---- gradients with the routing held still ----

double loss_of(MoE& layer, const Tensor& x, const Tensor& upstream) {
  const double y = sum(mul(layer(x), upstream)).item();  // before its aux_loss is asked for
  return y + layer.aux_loss().item();
}

void check_gradients(MoEConfig c) {
  c.aux_alpha = 0.3, c.z_loss = 0.01;
  MoE layer(c);
  layer.to(DType::f64);
  const Tensor x = cast(normal({7, c.d_model}), DType::f64);
  const Tensor upstream = cast(normal({7, c.d_model}), DType::f64);
  layer(x);
  layer.freeze(layer.experts_of_tokens());
  std::vector<Tensor> at{x};
  for (const nn::Named& p : layer.named_parameters()) at.push_back(p.tensor);
  Tape tape;
  for (const Tensor& t : at) tape.watch(t);
  const Tensor y = sum(mul(layer(x), upstream));
  const Tensor loss = add(y, layer.aux_loss());
  const Tensors grads = tape.gradient(loss, at);
  for (size_t i = 0; i < at.size(); ++i) {
    double diff = 0, size = 0;
    const auto g = grads[i].values<double>();
    for (int64_t e = 0; e < at[i].numel(); e += std::max<int64_t>(1, at[i].numel() / 40)) {
      double& v = at[i].data<double>()[e];
      const double old = v, h = 1e-5;
      v = old + h;
      const double high = loss_of(layer, x, upstream);
      v = old - h;
      const double low = loss_of(layer, x, upstream);
      v = old;
      diff = std::max(diff, std::fabs((high - low) / (2 * h) - g[static_cast<size_t>(e)]));
      size = std::max(size, std::fabs(g[static_cast<size_t>(e)]));
    }
    EXPECT_LE(diff, 1e-6 * size) << c.score << " " << c.activation << ", tensor " << i;
  }
}

TEST(MoEGradient, FrozenRoutingEveryGateAndActivation) {
  for (const char* score : {"softmax", "sigmoid"})
    for (const bool norm : {false, true}) {
      MoEConfig c = small();
      c.score = score, c.norm_topk = norm, c.shared = 1, c.activation = norm ? "swiglu" : "gelu";
      c.route_scale = norm ? 2.5 : 1;
      check_gradients(c);
    }
}

TEST(MoEGradient, ExpertsWithoutRowsGetZero) {
  MoE layer(small());
  layer.freeze(numbers({2, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, DType::i64));
  Tape tape;
  tape.watch(layer.up);
  const Tensor g = tape.gradient(sum(layer(normal({2, 24}))), {layer.up})[0];
  const auto v = g.values<double>();
  double used = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    if (i < v.size() / 2) used += std::fabs(v[i]);
    else EXPECT_EQ(v[i], 0);
  }
  EXPECT_GT(used, 0);
}

// ---- threads ----

TEST(MoEThreads, TheSameBitsForAnyNumber) {
  const int before = num_threads();
  std::vector<Tensor> results;
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    manual_seed(5);
    MoEConfig c{.d_model = 64, .d_ff = 128, .experts = 8, .top_k = 2, .segments = 2, .shared = 1};
    c.aux_alpha = 0.1;
    MoE layer(c);
    const Tensor x = normal({257, 64});
    Tape tape;
    std::vector<Tensor> at{x};
    for (const nn::Named& p : layer.named_parameters()) at.push_back(p.tensor);
    for (const Tensor& t : at) tape.watch(t);
    const Tensor y = layer(x);
    Tensors all = tape.gradient(add(sum(mul(y, y)), layer.aux_loss()), at);
    all.push_back(y);
    if (results.empty()) results = all;
    for (size_t i = 0; i < all.size(); ++i)
      EXPECT_TRUE(same_bits(all[i], results[i])) << threads << " " << i;
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace wattle::moe
