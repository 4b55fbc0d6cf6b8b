// What only a GPU can show: captured steps, strict products, kernels for large shapes.
#include <gtest/gtest.h>

#include <cmath>

#include "core/counters.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "green/captured_step.h"
#include "green/trainer.h"
#include "nn/layers.h"
#include "ops/ops.h"
#include "tests/cuda_cases.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

#define NEEDS_A_REAL_DEVICE() \
  NEEDS_DEVICE();             \
  if (cuda::status().emulated) GTEST_SKIP() << "device code is emulated on the host";

std::shared_ptr<nn::Sequential> small_net(Device d) {
  manual_seed(3);
  auto net = std::make_shared<nn::Sequential>();
  net->add(std::make_shared<nn::Conv2d>(1, 4, nn::Conv2dOptions{.kernel = 3, .padding = 1}));
  net->add(std::make_shared<nn::BatchNorm2d>(4));
  net->add(std::make_shared<nn::ReLU>());
  net->add(std::make_shared<nn::MaxPool2d>(2));
  net->add(std::make_shared<nn::Flatten>());
  net->add(std::make_shared<nn::Dropout>(0.25));
  net->add(std::make_shared<nn::Linear>(4 * 7 * 7, 10));
  net->to(d);
  return net;
}

// Parameters and buffers after `steps` steps with a falling rate; from the second step on replayed.
std::vector<std::vector<float>> trained(int steps, bool replay, bool keep_rate = false) {
  const Device d = cuda::device();
  const auto net = small_net(d);
  const auto optimizer = nn::make_optimizer("adam", net->named_parameters(), 1e-2);
  manual_seed(5);
  std::unique_ptr<green::CapturedStep> captured;
  for (int i = 0; i < steps; ++i) {
    optimizer->lr = keep_rate ? 1e-2 : 1e-2 / (i + 1);
    Tensor x = Tensor::empty({16, 1, 14, 14}, DType::u8), y = Tensor::empty({16}, DType::i64);
    for (int64_t k = 0; k < x.numel(); ++k)
      x.data<uint8_t>()[k] = static_cast<uint8_t>((k * 37 + i * 11) % 251);
    for (int64_t k = 0; k < 16; ++k) y.data<int64_t>()[k] = (k + i) % 10;
    const auto step = [&](const Tensor& a, const Tensor& b) {
      return green::train_step(*net, *optimizer, a, b);
    };
    if (!replay || i == 0) {
      step(x.to(d), y.to(d));
      continue;
    }
    if (!captured) captured = std::make_unique<green::CapturedStep>(d, *optimizer, x, y, step);
    captured->run(x, y);
  }
  EXPECT_EQ(optimizer->steps(), steps);
  std::vector<std::vector<float>> out;
  for (const nn::Named& n : net->state_dict()) out.push_back(n.tensor.values<float>());
  return out;
}

TEST(Cuda, ReplaysGiveTheBitsOfStepsOpByOp) {
  NEEDS_A_REAL_DEVICE();
  const auto eager = trained(6, false);
  EXPECT_EQ(eager, trained(6, false)) << "two eager runs differ";
  EXPECT_EQ(eager, trained(6, true));
  // The rate is seen by the replays: another one gives other weights.
  EXPECT_NE(eager, trained(6, true, true));
}

TEST(Cuda, AReplayAllocatesNothing) {
  NEEDS_A_REAL_DEVICE();
  const Device d = cuda::device();
  const auto net = small_net(d);
  const auto optimizer = nn::make_optimizer("adam", net->named_parameters(), 1e-2);
  const Tensor x = Tensor::zeros({16, 1, 14, 14}, DType::u8, d);
  const Tensor y = Tensor::zeros({16}, DType::i64, d);
  const auto step = [&](const Tensor& a, const Tensor& b) {
    return green::train_step(*net, *optimizer, a, b);
  };
  step(x, y);
  green::CapturedStep captured(d, *optimizer, x, y, step);
  captured.run(x, y);
  const MemoryStats before = memory_stats(d);
  for (int i = 0; i < 1000; ++i) captured.run_again();
  cuda::synchronize();
  EXPECT_EQ(memory_stats(d).allocations, before.allocations);
  EXPECT_GT(captured.nodes(), 10);
}

// The counters of a replay are those of a step op by op.
TEST(Cuda, ReplaysAreCounted) {
  NEEDS_A_REAL_DEVICE();
  counters().clear();
  trained(4, false);
  const Row eager = counters().total();
  counters().clear();
  trained(4, true);
  const Row replayed = counters().total();
  EXPECT_EQ(eager.calls, replayed.calls);
  EXPECT_EQ(eager.cost, replayed.cost);
}

// Sizes at which the device code takes other ways than for the samples: several blocks a row,
// warps, runs that are merged, cuDNN's kernels for many channels.
struct Large {
  const char* op;
  std::vector<SampleIn> in;
  std::vector<std::pair<const char*, const char*>> attr;
  double limit = 1e-5;
};

std::string large_agrees(const Large& c) {
  const OpBase& op = find_op(c.op);
  const std::shared_ptr<void> attr = op.make_attr();
  for (const auto& [name, text] : c.attr) op.set_attr(attr.get(), name, text);
  Tensors in32, in64;
  uint64_t seed = 11;
  for (const SampleIn& s : c.in) {
    if (s.fill == SampleIn::absent) {
      in32.push_back({}), in64.push_back({});
      continue;
    }
    Tensor x = Tensor::empty(s.shape, s.fill == SampleIn::integers ? DType::i64 : DType::f32);
    ++seed;
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double u = uniform_at(seed, static_cast<uint64_t>(i));
      if (s.fill == SampleIn::integers) x.data<int64_t>()[i] = static_cast<int64_t>(u * s.hi);
      else x.data<float>()[i] = static_cast<float>(s.lo + (s.hi - s.lo) * u);
    }
    in32.push_back(x);
    in64.push_back(s.fill == SampleIn::integers ? x : cast(x, DType::f64));
  }
  const Tensors truth = apply(op, in64, attr.get());
  const Tensors got = apply(op, on(cuda::device(), in32), attr.get());
  for (size_t o = 0; o < truth.size(); ++o) {
    const double e = checks::relative_error(got[o].to(cpu), truth[o]);
    if (!(e <= (is_floating(got[o].dtype()) ? c.limit : 0)))
      return str("result ", o, ": relative error ", e);
  }
  return {};
}

TEST(Cuda, LargeShapesAgree) {
  NEEDS_A_REAL_DEVICE();
  using S = SampleIn;
  const auto ints = [](Shape s, double n) { return S{s, 0, n, S::integers}; };
  const S none{{}, 0, 0, S::absent};
  const std::vector<Large> cases = {
      {"sum", {{{3000001}, 0, 1}}, {}},
      {"sum", {{{5000, 301}, 0, 1}}, {{"dim", "0"}}},
      {"sum", {{{64, 17, 33, 31}, 0, 1}}, {{"dim", "0,2,3"}}},
      {"mean", {{{300, 70000}, 0, 1}}, {{"dim", "1"}}},
      {"var", {{{7, 200003}, 5, 6}}, {{"dim", "1"}}},
      {"max", {{{2000003}}}, {}},
      {"max", {{{40, 3001}}}, {{"dim", "1"}}},
      {"argmax", {{{900, 77}}}, {{"dim", "1"}}},
      {"batch_norm",
       {{{64, 16, 32, 32}, 3, 4}, {{16}}, {{16}, 0.5, 1}, {{16}}, {{16}}},
       {{"training", "true"}}},
      {"batch_norm_grad",
       {{{64, 16, 32, 32}}, {{64, 16, 32, 32}}, {{16}}, {{16}, 0.5, 1}, {{16}}},
       {{"training", "true"}}},
      {"layer_norm", {{{600, 1000}}, {{1000}}, {{1000}}}, {{"normalized_shape", "1000"}}},
      {"layer_norm_grad", {{{600, 1000}}, {{600, 1000}}, {{1000}}}, {{"normalized_shape", "1000"}}},
      {"softmax", {{{700, 1500}, -5, 5}}, {}},
      {"log_softmax_grad", {{{700, 1500}}, {{700, 1500}, -9, -5}}, {}},
      {"cross_entropy", {{{5000, 1000}, -5, 5}, ints({5000}, 1000)}, {}},
      {"cross_entropy", {{{300, 10}, -5, 5}, ints({300}, 10)}, {}},
      {"cross_entropy_grad", {{{}, 1, 2}, {{5000, 100}, 0, 1}, ints({5000}, 100)}, {}},
      {"sort", {{{3, 5003}}}, {}},
      {"topk", {{{5, 4001}}}, {{"k", "9"}}},
      {"embedding_grad", {{{3000, 65}}, ints({3000}, 50)}, {{"num_embeddings", "50"}}},
      {"conv2d", {{{32, 256, 8, 8}}, {{256, 256, 3, 3}}, {{256}}}, {{"padding", "1"}}},
      {"conv2d_grad_input",
       {{{32, 256, 8, 8}}, {{256, 256, 3, 3}}},
       {{"padding", "1"}, {"size", "8"}}},
      {"conv2d_grad_weight",
       {{{32, 256, 8, 8}}, {{32, 256, 8, 8}}},
       {{"padding", "1"}, {"size", "3"}}},
      {"linear", {{{513, 1025}}, {{769, 1025}}, {{769}}}, {}},
      {"matmul", {{{6, 130, 257}}, {{6, 257, 99}}}, {}},
      {"matmul", {{{6, 257, 130}}, {{257, 99}}}, {{"transpose_a", "true"}}},
      {"max_pool2d", {{{16, 33, 30, 31}}}, {{"kernel_size", "3"}, {"stride", "2"}}},
      {"avg_pool2d", {{{16, 33, 30, 31}}}, {{"kernel_size", "3"}, {"stride", "2"}}},
      {"router_z_loss", {{{5000, 64}}}, {}},
      {"balance_loss", {{{5000, 64}, 0, 1}, ints({5000, 4}, 64)}, {}},
      {"counting_sort", {ints({5000, 4}, 64)}, {{"experts", "64"}}},
      {"counting_sort", {ints({5000, 4}, 64)}, {{"experts", "64"}, {"capacity", "300"}}},
  };
  for (const Large& c : cases) {
    std::string wrong;
    try {
      wrong = large_agrees(c);
    } catch (const std::exception& e) { wrong = str("throws: ", e.what()); }
    EXPECT_EQ(wrong, "") << c.op << " " << c.in[0].shape.str();
  }
  // What is measured to be fastest has to be as exact.
  cuda::set_deterministic(false);
  for (const Large& c : cases)
    if (std::string(c.op).starts_with("conv2d")) {
      EXPECT_EQ(large_agrees(c), "") << c.op << ", fastest kernel";
    }
  cuda::set_deterministic(true);
}

// |x - y| / |y| of a product of n^3 against the same in f64.
double product_error(int64_t n, cuda::Math m) {
  const DefaultDevice here(cuda::device());
  const cuda::Math saved = cuda::math();
  cuda::set_math(m);
  const Tensor a = normal({n, n}), b = normal({n, n}), c = matmul(a, b);
  cuda::set_math(saved);
  const Tensor exact = matmul(cast(a, DType::f64), cast(b, DType::f64));
  const Tensor d = sub(cast(c, DType::f64), exact);
  return std::sqrt(sum(mul(d, d)).item() / sum(mul(exact, exact)).item());
}

TEST(Cuda, StrictProductsAreStrict) {
  NEEDS_A_REAL_DEVICE();
  const double limit = 1e-6 * std::sqrt(4096.0);
  EXPECT_LT(product_error(4096, cuda::Math::f32), limit);
  EXPECT_GT(product_error(4096, cuda::Math::tf32), limit) << "TF32 would pass for strict";
  EXPECT_LT(product_error(4096, cuda::Math::tf32), 1e-3);
  EXPECT_LT(product_error(4096, cuda::Math::bf16), 1e-2);
}

}  // namespace
}  // namespace wattle
