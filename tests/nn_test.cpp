// Layers, initialisation, state, optimisers and schedules against closed forms.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/tape.h"
#include "core/rng.h"
#include "data/safetensors.h"
#include "green/nets.h"
#include "nn/optim.h"
#include "tests/data_files.h"

namespace wattle::nn {
namespace {

using testing::expect_error;
using testing::Folder;

Tensor random(const Shape& shape, uint64_t seed, double low = -1, double high = 1) {
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<float>()[i] =
        static_cast<float>(low + (high - low) * uniform_at(seed, static_cast<uint64_t>(i)));
  return t;
}

void expect_near(const Tensor& got, const std::vector<double>& expected, double tolerance = 1e-6) {
  const auto v = got.values<double>();
  ASSERT_EQ(v.size(), expected.size());
  for (size_t i = 0; i < v.size(); ++i) EXPECT_NEAR(v[i], expected[i], tolerance) << i;
}

void set(const Tensor& t, const std::vector<float>& values) {
  ASSERT_EQ(static_cast<size_t>(t.numel()), values.size());
  std::copy(values.begin(), values.end(), t.data<float>());
}

// ---- Layers -------------------------------------------------------------------------------------
TEST(Layers, LinearIsXTimesWeightTransposedPlusBias) {
  Linear l(2, 3);
  set(l.weight, {1, 2, 3, 4, 5, 6});
  set(l.bias, {10, 20, 30});
  expect_near(l(Tensor::from<float>({1, -1, 2, 0}, {2, 2})), {9, 19, 29, 12, 26, 40});
  Linear bare(2, 3, false);
  EXPECT_EQ(bare.parameter_count(), 6);
  expect_error<value_error>([] { Linear(0, 3); }, {"Linear", "0 -> 3"});
}

TEST(Layers, ConvolutionOfOnesCountsTheTapsInside) {
  Conv2d c(1, 1, {.kernel = 3, .padding = 1});
  set(c.weight, std::vector<float>(9, 1));
  set(c.bias, {0.5f});
  expect_near(c(Tensor::ones({1, 1, 3, 3})), {4.5, 6.5, 4.5, 6.5, 9.5, 6.5, 4.5, 6.5, 4.5});
  Conv2d grouped(4, 6, {.kernel = {1, 2}, .stride = 2, .groups = 2, .bias = false});
  EXPECT_EQ(grouped.weight.shape(), (Shape{6, 2, 1, 2}));
  EXPECT_EQ(grouped(Tensor::ones({2, 4, 5, 6})).shape(), (Shape{2, 6, 3, 3}));
  expect_error<value_error>([] { Conv2d(4, 6, {.groups = 4}); }, {"Conv2d", "4 -> 6", "4 groups"});
}

TEST(Layers, BatchNormByBatchThenByRunningStatistics) {
  BatchNorm2d b(1);
  set(b.weight, {2});
  set(b.bias, {1});
  const Tensor x = Tensor::from<float>({1, 2, 3, 4}, {2, 1, 1, 2});
  const double mean = 2.5, biased = 1.25, unbiased = 5.0 / 3;
  std::vector<double> train, eval;
  const double m = 0.1 * mean, v = 0.9 + 0.1 * unbiased;
  for (int i = 1; i <= 4; ++i) {
    train.push_back(2 * (i - mean) / std::sqrt(biased + 1e-5) + 1);
    eval.push_back(2 * (i - m) / std::sqrt(v + 1e-5) + 1);
  }
  expect_near(b(x), train, 1e-5);
  expect_near(b.running_mean, {m});
  expect_near(b.running_var, {v});
  b.eval();
  expect_near(b(x), eval, 1e-5);
  expect_near(b.running_mean, {m});
  expect_error<shape_error>([&] { b(Tensor::ones({2, 3})); }, {"BatchNorm2d", "[N,C,H,W]"});
}

TEST(Layers, PoolsFlattenReluEmbedding) {
  const Tensor x = Tensor::from<float>({1, -2, 3, 4, 5, -6, 7, 8, 9}, {1, 1, 3, 3});
  expect_near(MaxPool2d(2)(x), {5});  // floor: the last row and column are left out
  expect_near(MaxPool2d(2, 1)(x), {5, 5, 8, 9});
  expect_near(AvgPool2d(2)(x), {2});
  EXPECT_EQ(Flatten()(Tensor::ones({2, 3, 4})).shape(), (Shape{2, 12}));
  expect_near(ReLU()(Tensor::from<float>({-1, 0, 2}, {3})), {0, 0, 2});
  Embedding e(5, 2);
  set(e.weight, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  expect_near(e(Tensor::from<int64_t>({4, 0, 4}, {3})), {8, 9, 0, 1, 8, 9});
  expect_error<error>([&] { e(Tensor::from<int64_t>({5}, {1})); }, {"embedding", "5"});
}

TEST(Layers, LayerNormOverTheLastDims) {
  LayerNorm l({3});
  set(l.bias, {0, 0, 1});
  const double s = std::sqrt(2.0 / 3 + 1e-5);
  expect_near(l(Tensor::from<float>({1, 2, 3, 5, 5, 5}, {2, 3})), {-1 / s, 0, 1 / s + 1, 0, 0, 1},
              1e-5);
}

TEST(Layers, DropoutKeepsTheMeanAndIsOffInEval) {
  manual_seed(4);
  Dropout d(0.25);
  const Tensor x = Tensor::ones({100, 100});
  int kept = 0;
  for (float v : d(x).values<float>()) {
    EXPECT_TRUE(v == 0 || std::fabs(v - 1 / 0.75f) < 1e-6f);
    kept += v != 0;
  }
  EXPECT_NEAR(kept, 7500, 5 * std::sqrt(10000 * 0.25 * 0.75));
  d.eval();
  EXPECT_EQ(d(x).values<float>(), x.values<float>());
}

TEST(Layers, TrainAndEvalReachEveryChild) {
  Sequential net;
  auto inner = std::make_shared<Sequential>();
  auto drop = std::make_shared<Dropout>();
  inner->add(drop);
  net.add("block", inner);
  net.eval();
  EXPECT_FALSE(drop->training());
  net.train();
  EXPECT_TRUE(drop->training());
  expect_error<value_error>([&] { net.add("block", std::make_shared<ReLU>()); }, {"'block'"});
}

// Batch normalisation in eval mode: what an image is taken for does not depend on its neighbours.
TEST(Layers, BatchOfOnePredictsWhatABatchOfHundredDoes) {
  manual_seed(1);
  auto net = green::make_net({}, green::image_spec("fashion-mnist"));
  const Tensor x = random({100, 1, 28, 28}, 8, 0, 1);
  for (int i = 0; i < 3; ++i) (*net)(random({32, 1, 28, 28}, 20 + uint64_t(i), 0, 1));
  const auto logits_of = [&](int64_t i) { return (*net)(slice(x, 0, i, i + 1)).values<double>(); };
  net->eval();
  const auto all = (*net)(x).values<double>();
  for (int64_t i = 0; i < 100; ++i) {
    const auto one = logits_of(i);
    double distance = 0, size = 0;
    for (size_t c = 0; c < 10; ++c) {
      const double expected = all[static_cast<size_t>(i) * 10 + c];
      distance += std::pow(one[c] - expected, 2), size += expected * expected;
    }
    EXPECT_LE(std::sqrt(distance / size), 1e-5) << i;
  }
  net->train();  // the check can fail: with batch statistics the neighbours matter
  EXPECT_GT(std::fabs(logits_of(5)[0] - all[50]), 1e-3);
}

// ---- Initialisation -----------------------------------------------------------------------------
void expect_uniform(const Tensor& t, double bound) {
  double largest = 0, sum = 0, squares = 0;
  const auto v = t.values<double>();
  const double n = static_cast<double>(v.size());
  for (double x : v) largest = std::max(largest, std::fabs(x)), sum += x, squares += x * x;
  EXPECT_LE(largest, bound * (1 + 1e-6));
  EXPECT_GE(largest, bound * std::pow(1e-4, 1 / n)) << "all of " << n << " lie far inside";
  if (n < 1000) return;
  EXPECT_NEAR(sum / n, 0, 5 * bound / std::sqrt(3 * n));
  EXPECT_NEAR(squares / n, bound * bound / 3, 5 * bound * bound * std::sqrt(4 / (45 * n)));
}

TEST(Init, PyTorchsBounds) {
  manual_seed(2);
  const Linear l(300, 200);  // kaiming_uniform(a = sqrt(5)): 1 / sqrt(fan_in), bias too
  expect_uniform(l.weight, 1 / std::sqrt(300.0));
  expect_uniform(l.bias, 1 / std::sqrt(300.0));
  const Conv2d c(8, 64, {.kernel = {3, 5}, .groups = 2});
  expect_uniform(c.weight, 1 / std::sqrt(4 * 15.0));
  expect_uniform(c.bias, 1 / std::sqrt(4 * 15.0));
  expect_uniform(init::kaiming_uniform({100, 50}, 50, 0), std::sqrt(6.0 / 50));
  double squares = 0;
  const Embedding e(100, 100);
  for (double x : e.weight.values<double>()) squares += x * x;
  EXPECT_NEAR(squares / 1e4, 1, 5 * std::sqrt(2e-4));
  const BatchNorm2d b(3);
  expect_near(b.weight, {1, 1, 1});
  expect_near(b.bias, {0, 0, 0});
  expect_near(b.running_mean, {0, 0, 0});
  expect_near(b.running_var, {1, 1, 1});
}

TEST(Init, TheSeedDecides) {
  auto weights = [](uint64_t seed) {
    manual_seed(seed);
    return Linear(7, 5).weight.values<float>();
  };
  EXPECT_EQ(weights(1), weights(1));
  EXPECT_NE(weights(1), weights(2));
}

// ---- State --------------------------------------------------------------------------------------
std::shared_ptr<Sequential> small_net() {
  auto net = std::make_shared<Sequential>();
  net->add("conv1", std::make_shared<Conv2d>(1, 2, Conv2dOptions{}));
  net->add("bn1", std::make_shared<BatchNorm2d>(2));
  return net;
}

StateDict copy_of(const StateDict& s) {
  StateDict c;
  for (const Named& n : s)
    c.push_back({n.name, Tensor::from(n.tensor.values<float>(), n.tensor.shape())});
  return c;
}

void expect_same(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_EQ(a[i].tensor.values<float>(), b[i].tensor.values<float>()) << a[i].name;
  }
}

TEST(State, NamesArePyTorchs) {
  std::set<std::string> names;
  const auto net = green::make_net({}, green::image_spec("fashion-mnist"));
  for (const Named& n : net->state_dict()) names.insert(n.name);
  // list(net.state_dict()) of the same net in PyTorch, without bn1.num_batches_tracked
  EXPECT_EQ(names, (std::set<std::string>{"conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias",
                                          "bn1.running_mean", "bn1.running_var", "linear1.weight",
                                          "linear1.bias", "linear2.weight", "linear2.bias",
                                          "linear3.weight", "linear3.bias"}));
  Sequential plain;
  plain.add(std::make_shared<Linear>(2, 3)).add(std::make_shared<ReLU>());
  plain.add(std::make_shared<Linear>(3, 1));
  EXPECT_EQ(plain.state_dict()[2].name, "2.weight");
}

TEST(State, LoadCopiesAndKeepsNothingElse) {
  const auto from = small_net(), to = small_net();
  StateDict state = copy_of(from->state_dict());
  state.push_back({"bn1.num_batches_tracked", Tensor::full({}, 7, DType::i64)});
  to->load_state_dict(state);
  expect_same(to->state_dict(), from->state_dict());
  state[0].tensor.data<float>()[0] += 1;
  expect_same(to->state_dict(), from->state_dict());
}

TEST(State, LoadErrorsNameEveryEntryAndChangeNothing) {
  const auto net = small_net();
  const StateDict before = copy_of(net->state_dict());
  StateDict state = copy_of(before);
  for (const Named& n : state) n.tensor.data<float>()[0] += 1;
  state[1] = {"conv1.bias", Tensor::ones({3})};     // shape
  state[2].tensor = Tensor::ones({2}, DType::f64);  // dtype of bn1.weight
  state[3].name = "bn1.offset";                     // bn1.bias is missing
  expect_error<value_error>(
      [&] { net->load_state_dict(state); },
      {"conv1.bias: found f32 [3], expected f32 [2]", "bn1.weight: found f64 [2], expected f32 [2]",
       "bn1.bias (f32 [2]) is missing", "bn1.offset (f32 [2]) is not part of the model"});
  expect_same(net->state_dict(), before);
}

TEST(State, SafetensorsRoundTrip) {
  const Folder dir;
  manual_seed(3);
  const auto net = small_net();
  io::SafetensorsFile file;
  for (const Named& n : net->state_dict()) file.add(n.name, n.tensor);
  io::write_safetensors(dir / "w.safetensors", file);
  const auto other = small_net();
  StateDict read;
  for (const auto& [name, t] : io::read_safetensors(dir / "w.safetensors").tensors)
    read.push_back({name, t});
  other->load_state_dict(read);
  expect_same(other->state_dict(), net->state_dict());
}

// ---- Optimisers ---------------------------------------------------------------------------------
// Steps on gradients -1, 2, 0.5 from w = 1 against `next`, the formula in double precision.
template <class Next>
void check_steps(const std::string& kind, double lr, Next next) {
  Tensor w = Tensor::from<float>({1, 1}, {2}).set_requires_grad();
  const auto opt = make_optimizer(kind, {{"layer.w", w}}, lr);
  EXPECT_EQ(opt->kind(), kind == "momentum" ? "sgd" : kind);
  double expected = 1;
  int64_t t = 0;
  for (double g : {-1.0, 2.0, 0.5}) {
    w.set_grad(Tensor::full({2}, g));
    opt->step();
    expected = next(expected, g, ++t);
    expect_near(w, {expected, expected}, 2e-6);
  }
  EXPECT_EQ(opt->steps(), 3);
  opt->zero_grad();
  opt->step();  // nothing has a gradient
  expect_near(w, {expected, expected}, 2e-6);
}

TEST(Optimizers, StepsByTheirFormulas) {
  check_steps("sgd", 0.1, [](double w, double g, int64_t) { return w - 0.1 * g; });
  double buffer = 0;
  check_steps("momentum", 0.1, [&](double w, double g, int64_t t) {
    buffer = t == 1 ? g : 0.9 * buffer + g;
    return w - 0.1 * buffer;
  });
  for (const double decay : {0.0, 0.01}) {
    double m = 0, v = 0;
    check_steps(decay == 0 ? "adam" : "adamw", 0.05, [&](double w, double g, int64_t t) {
      m = 0.9 * m + 0.1 * g, v = 0.999 * v + 0.001 * g * g;
      const double n = static_cast<double>(t);
      const double mh = m / (1 - std::pow(0.9, n)), vh = v / (1 - std::pow(0.999, n));
      return w * (1 - 0.05 * decay) - 0.05 * mh / (std::sqrt(vh) + 1e-8);
    });
  }
  expect_error<value_error>([] { make_optimizer("lion", {}, 0.1); }, {"'lion'", "adamw"});
}

TEST(Optimizers, WorkIsCreditedToTheLayer) {
  counters() = Counters();
  Tensor w = Tensor::ones({4}).set_requires_grad();
  const auto opt = make_optimizer("adam", {{"block.conv1.weight", w}}, 0.1);
  w.set_grad(Tensor::ones({4}));
  opt->step();
  ASSERT_EQ(counters().rows().size(), 1u);
  EXPECT_EQ(counters().path(counters().rows()[0].key.scope), "block.conv1");
  EXPECT_EQ(counters().rows()[0].key.phase, Phase::optimizer);
}

TEST(Optimizers, StateGoesOnAndBadStateChangesNothing) {
  Tensor a = Tensor::ones({3}).set_requires_grad(), b = Tensor::ones({3}).set_requires_grad();
  const auto one = make_optimizer("adam", {{"w", a}}, 0.1),
             two = make_optimizer("adam", {{"w", b}}, 0.1);
  auto step = [](Tensor& w, Optimizer& o) {
    w.set_grad(random({3}, static_cast<uint64_t>(o.steps())));
    o.step();
  };
  for (int i = 0; i < 3; ++i) step(a, *one);
  std::copy_n(a.data<float>(), 3, b.data<float>());
  EXPECT_EQ(one->state_dict()[0].name, "w.exp_avg");
  const StateDict state = copy_of(one->state_dict());
  two->load_state_dict(state, one->steps());
  step(a, *one);
  step(b, *two);
  EXPECT_EQ(a.values<float>(), b.values<float>());

  const StateDict before = copy_of(two->state_dict());
  StateDict bad = copy_of(state);
  for (const Named& n : bad) n.tensor.data<float>()[0] += 1;
  bad[1].tensor = Tensor::ones({3}, DType::f64);
  expect_error<value_error>([&] { two->load_state_dict(bad, 9); }, {"adam", "w.exp_avg_sq", "f64"});
  bad.pop_back();
  expect_error<value_error>([&] { two->load_state_dict(bad, 9); }, {"w.exp_avg_sq", "missing"});
  expect_same(two->state_dict(), before);
  EXPECT_EQ(two->steps(), 4);
}

TEST(Schedules, ClosedForms) {
  EXPECT_DOUBLE_EQ(cosine_schedule(0, 10), 1);
  EXPECT_NEAR(cosine_schedule(5, 10), 0.5, 1e-15);
  EXPECT_NEAR(cosine_schedule(10, 10, 0.1), 0.1, 1e-15);
  EXPECT_NEAR(cosine_schedule(99, 10), 0, 1e-15);
  EXPECT_DOUBLE_EQ(step_schedule(29, 30), 1);
  EXPECT_NEAR(step_schedule(60, 30), 0.01, 1e-17);
  EXPECT_DOUBLE_EQ(step_schedule(3, 2, 0.5), 0.5);
  EXPECT_DOUBLE_EQ(warmup_schedule(0, 4), 0.25);
  EXPECT_DOUBLE_EQ(warmup_schedule(3, 4), 1);
  EXPECT_DOUBLE_EQ(warmup_schedule(100, 4), 1);
  EXPECT_DOUBLE_EQ(warmup_schedule(0, 0), 1);
}

}  // namespace
}  // namespace wattle::nn
