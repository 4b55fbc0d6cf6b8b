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
#include "core/recorder.h"
#include "core/rng.h"
#include "ops/ops.h"
#include "tests/cuda_cases.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

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

// What the comparison with the host rests on: memory that no kernel wrote does not pass for a
// result.
TEST(Cuda, WhatAKernelLeavesOutIsFound) {
  NEEDS_DEVICE();
  if (!std::getenv("WATTLE_CUDA_POISON")) GTEST_SKIP() << "WATTLE_CUDA_POISON is not set";
  const Tensor zeros = Tensor::zeros({8});
  for (DType t : {DType::f32, DType::f64}) {
    const Tensor left = Tensor::empty({8}, t, cuda::device());
    EXPECT_FALSE(checks::relative_error(left.to(cpu), zeros) <= 1) << name(t);
  }
  // Nor does a wrong number in a right place.
  const Tensor y = scale(Tensor::ones({8}, DType::f32, cuda::device()), 1.0001);
  EXPECT_FALSE(checks::relative_error(y.to(cpu), Tensor::ones({8})) <= 1e-5);
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
