// Every sample of every op on `cuda` against the reference in f64 on the host. Without a GPU they
// are skipped and say why; under WATTLE_CUDA_EMULATE=1 the device code runs on the host, so that
// its arithmetic and indexing are checked on any machine. WATTLE_REQUIRE_GPU=1 makes a skip a
// failure.
#include "core/cuda.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "green/captured_step.h"
#include "green/trainer.h"
#include "nn/layers.h"
#include "ops/ops.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

bool required() {
  const char* const v = std::getenv("WATTLE_REQUIRE_GPU");
  return v && *v == '1';
}
// Empty when there is a device.
std::string why_not() {
  const cuda::Status& s = cuda::status();
  return s.available ? "" : s.reason + ": " + s.message;
}
#define NEEDS_DEVICE()                                                             \
  if (const std::string why = why_not(); !why.empty()) {                           \
    if (required()) FAIL() << "a GPU is required (WATTLE_REQUIRE_GPU=1): " << why; \
    GTEST_SKIP() << why;                                                           \
  }

Tensors on(Device d, const Tensors& in) {
  Tensors out;
  for (const Tensor& t : in) out.push_back(t ? t.to(d) : Tensor{});
  return out;
}
Tensors run(const OpBase& op, const Tensors& in, const void* attr) {
  Tensors out = apply(op, in, attr);
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] && op.writes.has(static_cast<int>(i))) out.push_back(in[i]);
  return out;
}
Tensors copies(const Tensors& in) {
  Tensors out;
  for (const Tensor& t : in) out.push_back(checks::deep_copy(t));
  return out;
}

// Products and convolutions in the mode that is on; everything else as on the host.
double bound(DType t, cuda::Math m) {
  if (t == DType::f64) return 1e-11;
  return m == cuda::Math::f32 ? 1e-5 : m == cuda::Math::tf32 ? 1e-3 : 1e-2;
}

std::string agrees(const OpBase& op, int sample, DType dtype, uint64_t seed) {
  const void* attr = op.sample_attr(sample);
  const Tensors truth = run(op, copies(checks::sample_inputs(op, sample, DType::f64, seed)), attr);
  const Tensors in = on(cuda::device(), checks::sample_inputs(op, sample, dtype, seed));
  const DefaultDevice here(cuda::device());
  const Tensors got = run(op, in, attr);
  if (got.size() != truth.size()) return "another number of results";
  for (size_t o = 0; o < truth.size(); ++o) {
    if (!truth[o]) continue;
    if (got[o].device().kind != DeviceKind::cuda) return str("result ", o, " is on the host");
    if (got[o].shape() != truth[o].shape()) return str("result ", o, " is ", got[o]);
    const double e = checks::relative_error(got[o].to(cpu), truth[o]);
    const double limit = is_floating(got[o].dtype()) ? bound(got[o].dtype(), cuda::math()) : 0;
    if (!(e <= limit)) return str("result ", o, " ", got[o], ": relative error ", e);
  }
  return {};
}

class OpOnCuda : public testing::Test {
 public:
  explicit OpOnCuda(const OpBase* op) : op_(op) {}
  void TestBody() override {
    NEEDS_DEVICE();
    for (int s = 0; s < op_->sample_count(); ++s)
      for (DType t : {DType::f32, DType::f64})
        for (uint64_t seed : {7u, 1007u}) {
          std::string wrong;
          try {
            wrong = agrees(*op_, s, t, seed);
          } catch (const std::exception& e) { wrong = str("throws: ", e.what()); }
          EXPECT_EQ(wrong, "") << op_->name << ", sample " << s << ", " << name(t) << ", seed "
                               << seed;
        }
  }

 private:
  const OpBase* op_;
};

// Ops that work between processes run on the host's memory (moe/exchange.h).
const std::set<std::string> host_only = {"all_to_all_rows"};

TEST(Cuda, EveryOpHasDeviceCode) {
  const std::vector<std::string> list = cuda::device_ops();
  if (list.empty() && !required()) GTEST_SKIP() << why_not();
  const std::set<std::string> there(list.begin(), list.end());
  EXPECT_EQ(there.size(), list.size()) << "an op is defined twice";
  std::string holes, unknown;
  std::set<std::string> known;
  for (const OpBase* op : all_ops()) {
    known.insert(op->name);
    if (!op->is_view && !there.count(op->name) && !host_only.count(op->name))
      holes += std::string(" ") + op->name;
  }
  for (const std::string& n : list)
    if (!known.count(n)) unknown += " " + n;
  EXPECT_EQ(holes, "") << "ops without device code";
  EXPECT_EQ(unknown, "") << "device code of ops that do not exist";
}

TEST(Cuda, StatusSaysWhyThereIsNone) {
  const cuda::Status& s = cuda::status();
  EXPECT_FALSE(s.reason.empty());
  EXPECT_FALSE(s.message.empty());
  EXPECT_EQ(s.available, s.reason == "ready");
  if (!s.available) { EXPECT_THROW(cuda::device(), device_error); }
}

TEST(Cuda, CopiesThereAndBack) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor t = transpose(x, 0, 1).to(d);
  EXPECT_EQ(t.device().kind, DeviceKind::cuda);
  EXPECT_EQ(t.values<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_THROW(t.data<float>(), device_error);
  EXPECT_THROW(add(x, x.to(d)), device_error);
  Tensor y = Tensor::zeros({2, 3}, DType::f32, d);
  y.copy_from(x);
  EXPECT_EQ(y.values<float>(), x.values<float>());
  EXPECT_EQ(Tensor::full({3}, 2.5, DType::f64, d).values<double>(), (std::vector<double>(3, 2.5)));
}

TEST(Cuda, MemoryIsCountedAndUsedAgain) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  const int64_t before = memory_stats(d).live;
  {
    const Tensor a = Tensor::zeros({1000}, DType::f32, d);
    EXPECT_EQ(memory_stats(d).live, before + 4000);
  }
  EXPECT_EQ(memory_stats(d).live, before);
  EXPECT_GE(memory_stats(d).peak, before + 4000);
}

// A small net's gradients, through a tape, equal those of the host.
TEST(Cuda, GradientsThroughATape) {
  NEEDS_DEVICE();
  const auto gradients = [](Device d) {
    Tensor x = Tensor::full({4, 3}, 0.5), w = Tensor::full({2, 3}, 0.25), b = Tensor::zeros({2});
    for (int i = 0; i < 12; ++i) x.data<float>()[i] = 0.1f * static_cast<float>(i * i % 7 - 3);
    for (int i = 0; i < 6; ++i) w.data<float>()[i] = 0.2f * static_cast<float>(i % 5 - 2);
    w = w.to(d), b = b.to(d);
    w.set_requires_grad(), b.set_requires_grad();
    Tape tape;
    const Tensor loss =
        cross_entropy(relu(linear(x.to(d), w, b)), Tensor::from<int64_t>({0, 1, 1, 0}, {4}).to(d));
    tape.backward(loss);
    return std::pair{w.grad().to(cpu), b.grad().to(cpu)};
  };
  const auto [gw, gb] = gradients(cpu);
  const auto [hw, hb] = gradients(cuda::device());
  EXPECT_LT(checks::relative_error(hw, gw), 1e-6);
  EXPECT_LT(checks::relative_error(hb, gb), 1e-6);
}

// Bad labels cannot stop a device call; they must not pass for good ones either.
TEST(Cuda, AClassThatDoesNotExistGivesNotANumber) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  const Tensor loss =
      cross_entropy(Tensor::zeros({2, 3}, DType::f32, d), Tensor::from<int64_t>({0, 3}, {2}).to(d));
  EXPECT_TRUE(std::isnan(loss.item()));
}

// cuDNN's operation graphs need no device: those of every convolution of the study are accepted in
// all three passes, and one of a wrong height is refused by cuDNN itself.
TEST(Cuda, OperationGraphsOfTheStudy) {
  if (cuda::status().plugin.empty() && !required()) GTEST_SKIP() << why_not();
  void* const plugin = dlopen(cuda::status().plugin.c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto check =
      reinterpret_cast<const char* (*)(const int64_t*)>(dlsym(plugin, "wattle_check_convolution"));
  ASSERT_TRUE(check);
  for (const auto& [channels, size] : {std::pair<int64_t, int64_t>{1, 28}, {3, 32}})
    for (int64_t batch : {32, 512}) {
      int64_t c = channels, h = size, k = channels;
      for (int depth = 1; depth <= 4; ++depth, c = k, h /= 2) {
        k *= 3;
        for (int64_t pass = 0; pass < 3; ++pass) {
          int64_t v[] = {batch, c, h, h, k, 3, 3, h, h, 1, 1, 1, 1, pass};
          const char* const error = check(v);
          EXPECT_EQ(error, nullptr) << (error ? error : "");
          v[7] = h + 1;
          EXPECT_NE(check(v), nullptr) << "a result that is too high was accepted";
        }
      }
    }
}

// bf16 and fp16: the codes of the host's codecs, and products of them within 1e-2.
TEST(Cuda, HalvesAreTheHostsCodes) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  Tensor x = normal({40, 64});
  for (int i = 0; i < 6; ++i)
    x.data<float>()[i] = std::vector<float>{3.4e38f, -3.4e38f, 7e4f, 1e-30f, 0, -0.0f}[size_t(i)];
  const Tensor w = normal({24, 64}), b = normal({24});
  for (DType t : {DType::bf16, DType::fp16}) {
    const Tensor here = cast(x, t), there = cast(x.to(d), t);
    EXPECT_EQ(here.values<float>(), there.values<float>()) << name(t);
    EXPECT_EQ(cast(here, DType::f32).values<float>(), cast(there, DType::f32).values<float>());
    const Tensor a = slice(here, 0, 8, 40), ad = slice(there, 0, 8, 40);
    const Tensor y = linear(a, cast(w, t), cast(b, t));
    const Tensor yd = linear(ad, cast(w.to(d), t), cast(b.to(d), t));
    EXPECT_EQ(yd.dtype(), t);
    EXPECT_LT(checks::relative_error(yd.to(cpu), cast(y, DType::f64)), 1e-2) << name(t);
  }
}

// ---- What only a device can do ----

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

void register_op_tests() {
  for (const OpBase* op : all_ops())
    if (!op->is_view && !host_only.count(op->name))
      testing::RegisterTest("OpOnCuda", op->name, nullptr, nullptr, op->file, op->line,
                            [op]() -> testing::Test* { return new OpOnCuda(op); });
}

}  // namespace
}  // namespace wattle

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  wattle::register_op_tests();
  return RUN_ALL_TESTS();
}
