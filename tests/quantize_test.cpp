// Quantisation: scales, observers, fake quantisation and its gradients, quantised layers.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "core/simd.h"
#include "data/dataset.h"
#include "green/calibration.h"
#include "green/format_advice.h"
#include "green/nets.h"
#include "quant/int_matmul_kernels.h"
#include "quant/quantized_layers.h"

namespace wattle::quant {
namespace {

Tensor numbers(const std::vector<float>& v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}

TEST(Quantize, ScalesAndZeroPointsByTheirDefinition) {
  const QParams a = choose_qparams_affine({-1}, {3}, Mapping::asymmetric, {-1, 0, 255});
  EXPECT_FLOAT_EQ(a.scale.values<float>()[0], 4.0f / 255);
  EXPECT_EQ(a.zero_point.values<float>()[0], 64);  // round(255 / 4)
  // The range is stretched to hold 0.
  const QParams b = choose_qparams_affine({2}, {4}, Mapping::asymmetric, {-1, -128, 127});
  EXPECT_FLOAT_EQ(b.scale.values<float>()[0], 4.0f / 255);
  EXPECT_EQ(b.zero_point.values<float>()[0], -128);
  const QParams s = choose_qparams_affine({-2}, {1}, Mapping::symmetric, {-1, -127, 127});
  EXPECT_FLOAT_EQ(s.scale.values<float>()[0], 2.0f / 127);
  EXPECT_EQ(s.zero_point.values<float>()[0], 0);
  const QParams nothing = choose_qparams_affine({0}, {0}, Mapping::symmetric, {});
  EXPECT_FLOAT_EQ(nothing.scale.values<float>()[0], 1.1920929e-07f);
}

TEST(Quantize, ThereAndBack) {
  const Tensor x = numbers({-1, -0.5f, 0, 0.004f, 1, 2.99f, 3, 7, NAN});
  const QParams q = choose_qparams_affine({-1}, {3}, Mapping::asymmetric, {});
  const Tensor codes = quantize_affine(x, q.scale, q.zero_point, q.attr);
  EXPECT_EQ(codes.dtype(), DType::i8);
  EXPECT_EQ(codes.values<int>(), (std::vector<int>{-128, -96, -64, -64, 0, 127, 127, 127, -64}));
  const std::vector<float> back =
      dequantize_affine(codes, q.scale, q.zero_point, q.attr).values<float>();
  for (size_t i = 0; i < 7; ++i) EXPECT_NEAR(back[i], x.values<float>()[i], 2.0 / 255 + 1e-6);
  const std::vector<float> fake =
      fake_quantize_affine(slice(x, 0, 0, 8), q.scale, q.zero_point, FakeQuantizeAttr{q.attr})
          .values<float>();
  for (size_t i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(fake[i], back[i]);
}

// The straight-through gradient: 1 inside the range, 0 outside, whatever the rounding.
TEST(Quantize, StraightThroughInsideTheRangeOnly) {
  const Tensor x = numbers({-3, -1.01f, -0.99f, 0, 0.5f, 0.99f, 1.01f, 3});
  const Tensor scale = numbers({1.0f / 127}), zero = numbers({0});
  Tape tape;
  tape.watch(x);
  const Tensor y = fake_quantize_affine(x, scale, zero, FakeQuantizeAttr{{-1, -127, 127}});
  const Tensors g = tape.gradient(sum(y), {x});
  EXPECT_EQ(g[0].values<float>(), (std::vector<float>{0, 0, 1, 1, 1, 1, 0, 0}));
}

// Learned step size: between the edges of the bins y is linear in the scale, so finite differences
// of the *rounded integers held fixed* are the derivative; a gradient that leaks through the clip,
// or misses the round(v) - v term, is off by far more.
TEST(Quantize, GradientOfTheScaleAgainstItsDefinition) {
  manual_seed(3);
  const Tensor x = uniform({4000}, -2, 2), scale = numbers({0.11f}), zero = numbers({0});
  const FakeQuantizeAttr attr{{-1, -8, 7}, 0.25};
  Tape tape;
  tape.watch(scale);
  const Tensor weights = uniform({4000}, -1, 1);
  const Tensor loss = sum(mul(fake_quantize_affine(x, scale, zero, attr), weights));
  const double got = tape.gradient(loss, {scale})[0].item();
  double want = 0;
  const auto xs = x.values<double>(), ws = weights.values<double>();
  const double s = static_cast<double>(0.11f);
  for (size_t i = 0; i < xs.size(); ++i) {
    const double v = xs[i] / s;
    want += ws[i] * (v < -8 ? -8 : v > 7 ? 7 : std::nearbyint(v) - v);
  }
  EXPECT_NEAR(got, 0.25 * want, 1e-3 * std::fabs(want) + 1e-3);
  // Away from bin edges the derivative of one clipped element is its bound, exactly.
  Tape again;
  again.watch(scale);
  const Tensor far = numbers({5, -5});
  EXPECT_FLOAT_EQ(
      static_cast<float>(
          again
              .gradient(sum(fake_quantize_affine(far, scale, zero, FakeQuantizeAttr{{-1, -8, 7}})),
                        {scale})[0]
              .item()),
      7 - 8);
  const auto y = [&](float t) {
    return fake_quantize_affine(far, numbers({t}), zero, FakeQuantizeAttr{{-1, -8, 7}})
        .values<double>()[0];
  };
  EXPECT_NEAR((y(0.111f) - y(0.109f)) / 0.002, 7, 0.01);
}

TEST(Quantize, ChannelsHaveTheirOwnScales) {
  const Tensor w = Tensor::from<float>({1, -2, 100, 50}, {2, 2});
  const QParams q = choose_weight_qparams(w, 0);
  EXPECT_FLOAT_EQ(q.scale.values<float>()[0], 2.0f / 127);
  EXPECT_FLOAT_EQ(q.scale.values<float>()[1], 100.0f / 127);
  EXPECT_EQ(quantize_affine(w, q.scale, q.zero_point, q.attr).values<int>(),
            (std::vector<int>{64, -127, 127, 64}));
  EXPECT_THROW(quantize_affine(w, numbers({1, 2, 3}), numbers({0, 0, 0}), q.attr), shape_error);
}

TEST(Quantize, ObserversClipAsTheyShould) {
  manual_seed(5);
  Tensor x = normal({200000});
  const auto clip = [&](const char* name, const Tensor& t) {
    const auto o = make_observer(name);
    o->observe(t);
    return o->qparams(Mapping::symmetric, {-1, -127, 127}).scale.values<double>()[0] * 127;
  };
  double most = 0;
  for (double v : x.values<double>()) most = std::max(most, std::fabs(v));
  EXPECT_NEAR(clip("minmax", x), most, 1e-5);
  EXPECT_NEAR(clip("mse", x), 3.96, 0.12);        // the least squared error of 8 bits for N(0, 1)
  EXPECT_NEAR(clip("percentile", x), 3.89, 0.1);  // 99.99 % of |N(0, 1)|
  EXPECT_LT(clip("entropy", x), most);
  EXPECT_GT(clip("entropy", x), 2.5);
  // One outlier moves the range, not the clip of the others.
  const Tensor out = concat({x, numbers({1000})});
  EXPECT_GT(clip("minmax", out), 999);
  EXPECT_LT(clip("percentile", out), 5);
  EXPECT_THROW(make_observer("minmax")->qparams(Mapping::symmetric, {}), value_error);
  EXPECT_THROW(make_observer("median"), value_error);
  EXPECT_THROW(make_observer("minmax")->observe(numbers({1, NAN})), value_error);
}

// The saturating trap of byte products: 255 * 127 twice is more than 16 bits hold.
TEST(Quantize, IntegerProductsNeverSaturate) {
  const Tensor a = Tensor::full({40, 64}, 255, DType::u8),
               b = Tensor::full({64, 33}, 127, DType::i8);
  const Tensor na = Tensor::full({40, 64}, -128, DType::i8),
               nb = Tensor::full({64, 33}, -128, DType::i8);
  for (const char* kernel : {"amx", "vnni", "avxvnni", "avx2", "ref"}) {
    try {
      const ForceKernel force("int_matmul", kernel);
      for (const int v : int_matmul(a, b).values<int>()) ASSERT_EQ(v, 64 * 255 * 127) << kernel;
      for (const int v : int_matmul(na, nb).values<int>()) ASSERT_EQ(v, 64 * 128 * 128) << kernel;
    } catch (const dtype_error&) {}  // this machine does not have it
  }
  EXPECT_THROW(
      int_matmul(Tensor::zeros({1, 70000}, DType::i8), Tensor::zeros({70000, 1}, DType::i8)),
      shape_error);
}

// Strassen's seven products at any size: odd rows, one column panel, none of k, several row blocks.
TEST(Quantize, SevenProductsEqualTheDefinition) {
  manual_seed(4);
  if (!simd::machine_has(simd::Level::avx2)) GTEST_SKIP() << "needs AVX2";
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1},
                                {3, 0, 5},
                                {40, 48, 32},
                                {67, 70, 37},
                                {130, 200, 16},
                                {133, 513, 65}})
    for (const DType t : {DType::i8, DType::u8}) {
      const auto extremes = [&](const Shape& s, DType as) {  // mostly the ends of the range
        const double low = as == DType::u8 ? 0 : -128, high = as == DType::u8 ? 255 : 127;
        return cast(clamp(uniform(s, 2 * low - 100, 2 * high + 100), low, high), as);
      };
      const Tensor a = extremes({m, k}, t), b = extremes({k, n}, DType::i8);
      const ForceKernel definition("int_matmul", "ref");
      const std::vector<int> wanted = int_matmul(a, b).values<int>();
      const auto bytes = [](const Tensor& x) { return static_cast<const uint8_t*>(x.raw()); };
      std::vector<int> got(wanted.size(), -1);
      quant::int_gemm_strassen(
          {m, n, k, bytes(a), t == DType::u8, b.data<int8_t>(), n, 1, got.data()});
      ASSERT_EQ(got, wanted) << m << " " << k << " " << n;
    }
}

// The largest sums of blocks, where products of sums pass 2^31 on the way to an exact result.
TEST(Quantize, SevenProductsWrapAroundWithoutHarm) {
  if (!simd::machine_has(simd::Level::avx2)) GTEST_SKIP() << "needs AVX2";
  const int64_t m = 2, n = 2, k = 65792;
  const Tensor a = Tensor::full({m, k}, 255, DType::u8), b = Tensor::full({k, n}, -128, DType::i8);
  std::vector<int> got(4);
  quant::int_gemm_strassen(
      {m, n, k, static_cast<const uint8_t*>(a.raw()), true, b.data<int8_t>(), n, 1, got.data()});
  for (const int v : got) EXPECT_EQ(v, 65792 * 255 * -128);
}

std::shared_ptr<nn::Sequential> small_net() {
  manual_seed(11);
  return green::make_net({.net = "cnn", .linear = 2, .conv = 1},
                         green::image_spec("fashion-mnist"));
}

Tensor images(int64_t n) { return uniform({n, 1, 28, 28}); }

TEST(Quantize, BatchNormsFoldIntoTheirConvolutions) {
  const auto net = small_net();
  const NoRecord off;
  for (int i = 0; i < 5; ++i) (*net)(images(16));  // moves the running statistics
  net->eval();
  const Tensor x = images(8), before = (*net)(x);
  const size_t layers = net->children().size();
  fold_batch_norm(*net);
  EXPECT_EQ(net->children().size(), layers - 1);
  const auto a = before.values<double>(), b = (*net)(x).values<double>();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4);
}

TEST(Quantize, Int8LayersStayCloseAndAreAQuarterOfTheSize) {
  const auto net = small_net();
  const NoRecord off;
  net->eval();
  const Tensor x = images(32);
  fold_batch_norm(*net);
  const auto before = (*net)(x).values<double>();
  const int64_t bytes = model_bytes(*net);
  InputRanges ranges;
  {
    const Calibrator watch(*net, "minmax");
    (*net)(x);
    ranges = watch.ranges();
  }
  quantize_(*net, {.to = "int8"}, ranges);
  const auto after = (*net)(x).values<double>();
  double signal = 0, noise = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    signal += before[i] * before[i];
    noise += (before[i] - after[i]) * (before[i] - after[i]);
  }
  EXPECT_GT(10 * std::log10(signal / noise), 30);
  EXPECT_LT(model_bytes(*net), bytes * 0.27);
  for (const nn::Named& n : net->named_buffers()) {
    if (!n.name.ends_with("weight")) continue;
    EXPECT_EQ(n.tensor.dtype(), DType::i8) << n.name;
  }
}

TEST(Quantize, EveryFormatStoresWhatItPromises) {
  for (const char* to : {"fp8_e4m3", "posit8", "mxfp4", "nvfp4", "int4", "bf16"}) {
    const auto net = small_net();
    const NoRecord off;
    net->eval();
    quantize_(*net, {.to = to});
    for (const nn::Named& n : net->named_buffers()) {
      if (!n.name.ends_with("weight")) continue;
      EXPECT_EQ(std::string(name(n.tensor.dtype())), to);
      EXPECT_EQ(n.tensor.storage().nbytes, storage_bytes(n.tensor.shape(), n.tensor.dtype()));
    }
    for (double v : (*net)(images(4)).values<double>()) EXPECT_TRUE(std::isfinite(v)) << to;
  }
}

TEST(Quantize, WrongConfigurationsSayWhatIsWrong) {
  const auto net = small_net();
  EXPECT_THROW(quantize_(*net, {.to = "int8"}), value_error);  // no ranges
  EXPECT_THROW(quantize_(*net, {.to = "f64"}), value_error);
  EXPECT_THROW(quantize_(*net, {.to = "int9"}), dtype_error);
  EXPECT_THROW(quantize_(*net, {.to = "f32", .layers = {{"conv9", "posit8"}}}), value_error);
}

TEST(Quantize, NothingIsFittedToATestSet) {
  const auto net = small_net();
  data::Dataset d;
  d.name = "fashion-mnist";
  d.images = Tensor::zeros({10, 1, 28, 28}, DType::u8);
  d.labels = Tensor::zeros({10}, DType::i64);
  d.classes = 10;
  EXPECT_NO_THROW(green::calibrate(*net, d));
  d.evaluation = true;
  EXPECT_THROW(green::calibrate(*net, d), value_error);
  green::EnergySession energy(0);
  EXPECT_THROW(green::advise([&] { return small_net(); }, d, d, 0.5, {"int8"}, energy),
               value_error);
}

}  // namespace
}  // namespace wattle::quant
