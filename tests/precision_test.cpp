// Training in low precision: gradients and weights have the dtypes that a precision says, steps
// that overflow are left out, saturation moves the scale, and emulation is priced as what it is.
#include "green/precision.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "energy/format_hardware.h"
#include "green/nets.h"
#include "green/row_joules.h"
#include "green/trainer.h"

namespace wattle::green {
namespace {

struct Step {
  std::shared_ptr<nn::Sequential> net;
  std::unique_ptr<nn::Optimizer> optimizer;
  Precision precision;
  Tensor images, labels;
  explicit Step(const std::string& name, const std::string& kind = "cnn")
      : precision(precision_from(name)) {
    manual_seed(7);
    net = make_net({.net = kind}, image_spec("fashion-mnist"));
    precision.loss_gradient = apply_precision(*net, precision);
    optimizer = nn::make_optimizer("adam", net->named_parameters(), 1e-3);
    images = cast(uniform({16, 1, 28, 28}, 0, 255), DType::u8);
    labels = cast(uniform({16}, 0, 9.99), DType::i64);
  }
  double run(LossScaler& scaler) {
    return train_step(*net, *optimizer, images, labels, precision, scaler).item();
  }
};

// Dtypes of the rows of an op in a phase.
std::vector<DType> dtypes_of(const std::string& op, Phase phase) {
  std::vector<DType> out;
  for (const Row& r : counters().rows())
    if (r.key.op->name == op && r.key.phase == phase) out.push_back(r.key.dtype);
  return out;
}

TEST(Precision, EveryLayerComputesInWhatItSays) {
  for (const Precision& p : precisions()) {
    if (p.name == "f32" || p.int8_qat) continue;
    Step s(p.name);
    LossScaler scaler(s.precision);
    counters().clear();
    s.run(scaler);
    for (DType t : dtypes_of("conv2d", Phase::forward)) EXPECT_EQ(t, p.layer.activation) << p.name;
    for (DType t : dtypes_of("linear", Phase::forward)) EXPECT_EQ(t, p.layer.activation) << p.name;
    for (DType t : dtypes_of("conv2d_grad_weight", Phase::backward))
      EXPECT_EQ(t, p.layer.gradient) << p.name;
    for (DType t : dtypes_of("relu_grad", Phase::backward))
      EXPECT_EQ(t, p.layer.gradient) << p.name;
    for (DType t : dtypes_of("batch_norm", Phase::forward)) EXPECT_EQ(t, p.master) << p.name;
    for (DType t : dtypes_of("cross_entropy", Phase::forward)) EXPECT_EQ(t, p.loss) << p.name;
    for (DType t : dtypes_of("adam_step", Phase::optimizer)) EXPECT_EQ(t, p.master) << p.name;
    for (const nn::Named& n : s.net->named_parameters()) {
      EXPECT_EQ(n.tensor.dtype(), p.master) << p.name;
      EXPECT_EQ(n.tensor.grad().dtype(), p.master) << p.name << " " << n.name;
    }
  }
}

// The gradient of a layer is what it sums for its bias.
TEST(Precision, GradientsHaveTheTypeOfTheLayerTheyFlowThrough) {
  const auto gradients = [](const std::string& file) {
    const std::string path = testing::TempDir() + "gradients.json";
    io::write_file(path, file);
    Step s(path);
    LossScaler scaler(s.precision);
    counters().clear();
    s.run(scaler);
    std::map<std::string, std::string> by_layer;  // of the gradient that is summed for the bias
    for (const Row& r : counters().rows())
      if (r.key.phase == Phase::backward && std::string_view(r.key.op->name) == "sum")
        by_layer[counters().path(r.key.scope)] = name(r.key.dtype);
    return by_layer;
  };
  using Map = std::map<std::string, std::string>;
  const std::string e5m2 = "fp8_e5m2";
  EXPECT_EQ(gradients("{\"preset\": \"fp8\"}"),
            (Map{{"conv1", e5m2}, {"linear1", e5m2}, {"linear2", e5m2}, {"linear3", "bf16"}}));
  EXPECT_EQ(gradients("{\"preset\": \"fp8\", \"layers\": {\"linear2\": {\"gradient\": "
                      "\"posit16\"}, \"linear3\": {\"gradient\": \"fp8_e5m2\"}}}"),
            (Map{{"conv1", e5m2}, {"linear1", e5m2}, {"linear2", "posit16"}, {"linear3", e5m2}}));
  EXPECT_EQ(gradients("{\"preset\": \"fp8\", \"layers\": {\"linear2\": {\"activation\": "
                      "\"f32\"}}}"),
            (Map{{"conv1", e5m2}, {"linear1", e5m2}, {"linear2", "f32"}, {"linear3", "bf16"}}));
  EXPECT_EQ(gradients("{\"preset\": \"f32\", \"layers\": {\"linear2\": {\"activation\": "
                      "\"bf16\"}}}"),
            (Map{{"conv1", "f32"}, {"linear1", "f32"}, {"linear2", "bf16"}, {"linear3", "f32"}}));
}

TEST(Precision, LossFallsInEveryPrecision) {
  for (const Precision& p : precisions()) {
    if (p.name == "f32" || p.int8_qat || p.name == "posit8") continue;
    Step s(p.name, "lenet5");
    LossScaler scaler(s.precision);
    const double first = s.run(scaler);
    double last = first;
    for (int i = 0; i < 60; ++i) last = s.run(scaler);
    RecordProperty(p.name, std::to_string(last / first));
    EXPECT_LT(last, first * 0.9) << p.name;
  }
}

TEST(Precision, ConfigFileNamesSingleLayers) {
  const std::string path = testing::TempDir() + "precision.json";
  io::write_file(path,
                 "{\"preset\": \"posit8_mixed\", \"loss_scale\": 64, \"layers\": {\"linear3\": "
                 "{\"activation\": \"posit16\", \"gradient\": \"posit16\"}}}");
  Step s(path);
  EXPECT_EQ(s.precision.loss_scale, 64);
  LossScaler scaler(s.precision);
  counters().clear();
  s.run(scaler);
  int wide = 0;
  for (DType t : dtypes_of("linear", Phase::forward)) wide += t == DType::posit16;
  EXPECT_EQ(wide, 1);
  const auto refuse = [&](const std::string& text, const std::string& part) {
    io::write_file(path, text);
    try {
      Step bad(path);
      ADD_FAILURE() << text;
    } catch (const error& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  refuse("{\"preset\": \"posit9\"}", "posit9");
  refuse("{\"layers\": {}}", "preset");
  refuse("{\"preset\": \"bf16\", \"layers\": {\"conv7\": {}}}", "conv7");
  refuse("{\"preset\": \"bf16\", \"layers\": {\"conv1\": {\"activation\": \"mxfp4\"}}}", "mxfp4");
  refuse("{\"preset\": \"bf16\", \"layers\": {\"conv1\": {\"gradient\": \"f32\"}}}",
         "gradient f32");
  refuse("{\"preset\": \"bf16\", \"speed\": 2}", "speed");
  refuse("nonsense", "JSON");
  EXPECT_THROW(precision_from("half"), value_error);
}

TEST(Precision, AStepThatOverflowsIsLeftOut) {
  Step s("fp16");
  s.precision.loss_scale = 0x1p40;  // beyond fp16: every gradient is infinite
  LossScaler scaler(s.precision);
  const auto before = s.net->named_parameters()[0].tensor.values<float>();
  s.run(scaler);
  EXPECT_EQ(s.net->named_parameters()[0].tensor.values<float>(), before);
  EXPECT_EQ(scaler.skipped(), 1);
  EXPECT_EQ(scaler.scale(), 0x1p39);
}

// Posits do not overflow, so nothing would ever tell a scaler that waits for infinity.
TEST(Precision, SaturationMovesTheScaleOfPosits) {
  Precision p = precision_from("posit8_mixed");
  LossScaler scaler(p);
  CastStats s{.n = 100000};
  s.to_max = 50;
  scaler.unscale({}, s);
  EXPECT_EQ(scaler.scale(), p.loss_scale / 2);
  s.to_max = 0;
  s.to_min = 5000;
  for (int i = 0; i < 100; ++i) scaler.unscale({}, s);
  EXPECT_EQ(scaler.scale(), p.loss_scale);
  s.to_min = 10;
  for (int i = 0; i < 300; ++i) scaler.unscale({}, s);
  EXPECT_EQ(scaler.scale(), p.loss_scale);
}

// Emulated arithmetic never looks cheaper than what it is emulated with: the same product in
// posit16 executes all of f32's operations and the codecs' on top.
TEST(Precision, EmulationIsPricedAsWhatRan) {
  manual_seed(1);
  const Tensor a = normal({64, 64}), b = normal({64, 64});
  const auto spent = [&](const Tensor& x, const Tensor& y) {
    counters().clear();
    matmul(x, y);
    Row row = counters().rows()[0];
    row.cost.read = row.cost.written = 0;  // bytes are where formats save
    return row_energy(row, energy::horowitz45());
  };
  const auto f32 = spent(a, b);
  for (DType t : {DType::posit16, DType::posit8, DType::bf16, DType::fp8_e4m3, DType::fp16}) {
    const auto coded = spent(cast(a, t), cast(b, t));
    ASSERT_TRUE(coded.available) << name(t);
    EXPECT_GT(coded.fj, f32.fj) << name(t);
  }
}

TEST(Precision, HardwareFiguresAreRangesWithASource) {
  const Cost work{.mac = 1'000'000'000, .read = 1000, .written = 1000};
  const auto p16 = energy::hardware_range(work, DType::posit16, energy::horowitz45());
  const auto h = energy::hardware_range(work, DType::fp16, energy::horowitz45());
  ASSERT_TRUE(p16.available && h.available);
  EXPECT_LT(p16.lo, h.lo);
  EXPECT_GT(p16.hi, h.hi);
  EXPECT_NE(energy::format_hardware(DType::posit16).source.find("Johnson"), std::string::npos);
  EXPECT_FALSE(energy::hardware_range(work, DType::nvfp4, energy::horowitz45()).available);
}

}  // namespace
}  // namespace wattle::green
