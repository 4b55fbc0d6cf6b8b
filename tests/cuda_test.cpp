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
#include "core/codec.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "green/trainer.h"
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
    const MatmulAttr wide{.transpose_b = true, .out = DType::f32};
    const Tensor sums = matmul(ad, cast(w.to(d), t), wide);
    EXPECT_EQ(sums.dtype(), DType::f32);
    EXPECT_LT(checks::relative_error(sums.to(cpu), cast(matmul(a, cast(w, t), wide), DType::f64)),
              1e-5)
        << name(t);
  }
}

// What a format's edges are made of, and numbers between them; NaN for formats that have it.
Tensor numbers_for(DType t, DType as) {
  manual_seed(11);
  Tensor x = cast(scale(normal({37, 70}), t == DType::spike ? 1 : 40), as);
  std::vector<double> edges = {0,     -0.0, 0.5,  1,     -1,      448, 449, 464,
                               65504, 1e-3, 1e-8, -1e30, 0x1p-24, 6,   5,   3.5};
  if (t != DType::spike) edges.insert(edges.end(), {INFINITY, -INFINITY, NAN});
  for (size_t i = 0; i < edges.size(); ++i) {
    const auto at = static_cast<int64_t>(i) * 71 % x.numel();
    if (as == DType::f64) x.data<double>()[at] = edges[i];
    else x.data<float>()[at] = static_cast<float>(edges[i]);
  }
  return x;
}
// Empty, or where numbers differ; all NaN are one, zeros have signs. Codes by their values.
std::string difference(const Tensor& there, const Tensor& here) {
  const auto numbers = [](const Tensor& t) { return cast(t.to(cpu), DType::f64).values<double>(); };
  const std::vector<double> a = numbers(there), b = numbers(here);
  if (there.dtype() != here.dtype() || a.size() != b.size()) return str(there, " and ", here);
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::isnan(a[i]) && std::isnan(b[i])) &&
        (a[i] != b[i] || std::signbit(a[i]) != std::signbit(b[i])))
      return str("number ", i, ": ", a[i], ", on the host ", b[i]);
  return {};
}
std::vector<DType> coded_types() {
  std::vector<DType> all;
  for (int i = 0; i <= static_cast<int>(DType::spike); ++i)
    if (is_coded(static_cast<DType>(i))) all.push_back(static_cast<DType>(i));
  return all;
}

// The codes of the host to and from f32 and f64, with every way to round that it
// has.
TEST(Cuda, CodesAreTheHosts) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  const std::set<DType> to_host_only = {DType::fp6_e3m2, DType::fp6_e2m3, DType::fp4_e2m1,
                                        DType::int4};
  for (const DType t : coded_types())
    for (const DType as : {DType::f32, DType::f64}) {
      if (to_host_only.count(t)) {
        EXPECT_THROW(cast(Tensor::zeros({4}, as, d), t), device_error) << name(t);
        const Tensor codes = cast(uniform({5, 37}, -6, 6), t);
        EXPECT_EQ(difference(cast(codes.to(d), as), cast(codes, as)), "") << name(t);
        continue;
      }
      const Tensor x = numbers_for(t, as);
      std::vector<CastAttr> ways = {{.to = t}};
      if (codec(t).may_overflow) ways.push_back({.to = t, .saturate = false});
      for (const char* rule : {"ceil", "even"})
        if (codec(t).has_scale_rule) ways.push_back({.to = t, .scale_rule = rule});
      for (const CastAttr& way : ways) {
        const Tensor here = cast(x, way), there = cast(x.to(d), way);
        EXPECT_EQ(difference(there, here), "") << name(t) << " from " << name(as);
        for (const DType back : {DType::f32, DType::f64})
          EXPECT_EQ(difference(cast(there, back), cast(here, back)), "") << name(t);
      }
      EXPECT_EQ(
          difference(cast(cast(x.to(d), t), DType::posit32), cast(cast(x, t), DType::posit32)), "")
          << name(t);
    }
}

// Every code of 8 and 16 bits.
TEST(Cuda, EveryCodeHasItsValue) {
  NEEDS_DEVICE();
  for (const DType t : coded_types()) {
    if (info(t).block != 1 || info(t).bytes > 2) continue;
    const int64_t n = int64_t{1} << (8 * info(t).bytes);
    const Tensor codes = Tensor::empty({n}, t);
    for (int64_t i = 0; i < n; ++i)
      if (info(t).bytes == 1) static_cast<uint8_t*>(codes.raw())[i] = static_cast<uint8_t>(i);
      else static_cast<uint16_t*>(codes.raw())[i] = static_cast<uint16_t>(i);
    EXPECT_EQ(difference(cast(codes.to(cuda::device()), DType::f64), cast(codes, DType::f64)), "")
        << name(t);
  }
}

// An op that knows no codes runs on their numbers, and its results are rounded once.
TEST(Cuda, OpsTakeCodes) {
  NEEDS_DEVICE();
  const Device d = cuda::device();
  manual_seed(3);
  const Tensor x = normal({8, 32}), w = normal({16, 32}), b = normal({16});
  const Tensor image = normal({2, 3, 8, 8}), kernel = normal({4, 3, 3, 3});
  for (const DType t :
       {DType::posit16, DType::fp8_e4m3, DType::posit8, DType::mxfp8_e4m3, DType::bf16}) {
    const auto here = [&](const Tensor& y) { return cast(y, t); };
    const auto there = [&](const Tensor& y) { return cast(y, t).to(d); };
    const auto same = [&](const Tensor& on_d, const Tensor& on_cpu, const char* what) {
      EXPECT_EQ(on_d.dtype(), t) << what;
      EXPECT_EQ(on_d.device().kind, DeviceKind::cuda);
      // Sums in another order end on a neighbour now and then.
      EXPECT_LT(checks::relative_error(cast(on_d.to(cpu), DType::f64), cast(on_cpu, DType::f64)),
                info(t).bytes == 2 ? 1e-2 : 0.2)
          << what << " in " << name(t);
    };
    same(relu(there(x)), relu(here(x)), "relu");
    same(add(there(x), there(x)), add(here(x), here(x)), "add");
    same(softmax(there(x), 1), softmax(here(x), 1), "softmax");
    same(linear(there(x), there(w), {}), linear(here(x), here(w), {}), "linear");
    if (info(t).block == 1)
      same(conv2d(there(image), there(kernel), {}, 1, 1),
           conv2d(here(image), here(kernel), {}, 1, 1), "conv2d");
  }
  // Exact sums are not quietly sums of floats.
  const Tensor p = cast(x, DType::posit16).to(d), q = cast(w, DType::posit16).to(d);
  for (const char* exact : {"certified", "quire"})
    EXPECT_THROW(matmul(p, q, MatmulAttr{false, true, exact}), device_error);
  const Tensor s = cast(uniform({6, 40}, 0, 1), DType::spike), v = normal({40, 5});
  EXPECT_LT(checks::relative_error(matmul(s.to(d), v.to(d)).to(cpu), matmul(s, v)), 1e-5);
}

// A training in every precision: the codes of weights, gradients and states are made there.
TEST(Cuda, TrainsInEveryPrecision) {
  NEEDS_DEVICE();
  manual_seed(5);
  Tensor pixels = Tensor::empty({32, 1, 28, 28}, DType::u8),
         labels = Tensor::empty({32}, DType::i64);
  for (int64_t i = 0; i < pixels.numel(); ++i)
    static_cast<uint8_t*>(pixels.raw())[i] = static_cast<uint8_t>(i * i % 251);
  for (int64_t i = 0; i < 32; ++i) labels.data<int64_t>()[i] = i % 10;
  const auto loss = [&](const std::string& precision, const char* device) {
    green::TrainOptions o;
    o.net = {.net = "lenet5"};
    o.batch = 16, o.precision = precision, o.device = device;
    green::Trainer t(o, {"fashion-mnist", pixels, labels, 10});
    double sum = 0;
    while (const std::optional<double> l = t.step()) sum += *l;
    return sum;
  };
  for (const char* p : {"bf16", "fp16", "fp8", "posit16", "posit8_mixed", "posit8", "int8_qat"}) {
    const double here = loss(p, "cpu"), there = loss(p, "cuda");
    ASSERT_GT(here, 1) << p;
    EXPECT_NEAR(there, here, 5e-3 * here) << p;
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
