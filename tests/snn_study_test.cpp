// Spiking nets against nets of numbers: counts by brute force, what may be compared, files, a small
// study from end to end.
#include "green/snn_study.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "data_files.h"
#include "energy/table_model.h"
#include "green/neurobench.h"

namespace wattle::green {
namespace {

const ImageSpec tiny{"tiny", 1, 8, 3};
const SnnShape small{2, 3, 5};

TEST(SnnAccount, BufferPricesAreContinuousAndThoseOfTheTable) {
  for (const auto& [bytes, pj] : {std::pair{0.0, 0.0},
                                  {4096, 5},
                                  {8192, 10},
                                  {16384, 13.3333},
                                  {32768, 20},
                                  {262144, 38.0645},
                                  {1048576, 100},
                                  {2097152, 100}})
    EXPECT_NEAR(sram_access_pj(bytes), pj, 1e-3) << bytes;
  for (double b = 0; b < 2e6; b += 1000) EXPECT_GE(sram_access_pj(b + 1000), sram_access_pj(b));
  EXPECT_NEAR(sram_access_pj(8193), 10, 0.01);  // no step where another line begins
}

TEST(SnnNets, BitsThatHoldAsManyValuesAsSteps) {
  for (const auto& [steps, bits] : {std::pair{1, 1}, {2, 2}, {3, 2}, {4, 3}, {7, 3}, {8, 4}})
    EXPECT_EQ(bits_of_steps(steps), bits) << steps;
  EXPECT_THROW(SnnNet(small, {.steps = 0}, tiny), value_error);
  EXPECT_THROW(SnnNet(small, {}, {"odd", 1, 10, 3}), value_error);
}

// Weights that meet an input which is on, counted tap by tap.
double brute_conv(const Tensor& x, int64_t out) {
  const int64_t h = x.size(-2), w = x.size(-1), planes = x.numel() / (h * w);
  const std::vector<float> v = cast(x, DType::f32).values<float>();
  int64_t n = 0;
  for (int64_t p = 0; p < planes; ++p)
    for (int64_t i = 0; i < h; ++i)
      for (int64_t j = 0; j < w; ++j)
        for (int64_t r = -1; r <= 1; ++r)
          for (int64_t s = -1; s <= 1; ++s)
            if (i + r >= 0 && i + r < h && j + s >= 0 && j + s < w)
              n += v[static_cast<size_t>((p * h + i + r) * w + j + s)] > 0;
  return static_cast<double>(n * out);
}
double brute_linear(const Tensor& x, int64_t out) {
  int64_t n = 0;
  for (const float v : cast(x, DType::f32).values<float>()) n += v > 0;
  return static_cast<double>(n * out);
}

void counts_equal_brute_force(const SnnActivation& a) {
  manual_seed(5);
  const NoRecord off;
  SnnNet net(small, a, tiny);
  constexpr int64_t n = 6;
  const Tensor images = relu(uniform({n, 1, 8, 8}, -1, 3));
  std::vector<SnnTrace> trace;
  net.trace = &trace;
  net(images);
  net.trace = nullptr;
  const std::vector<SnnLayer> l = snn_layers(net, images);
  ASSERT_EQ(l.size(), 4u);
  EXPECT_EQ(l[0].ops, brute_conv(trace[0].in, 2) / n);
  EXPECT_EQ(l[1].ops, brute_conv(trace[1].in, 3) / n);
  EXPECT_EQ(l[2].ops, brute_linear(trace[2].in, 5) / n);
  EXPECT_EQ(l[3].ops, brute_linear(trace[3].in, 3) / n);
  EXPECT_EQ(l[0].dense_ops,
            22 * 22 * 2);  // 3 x 3 taps at 8 x 8 places, those in the padding left out
  EXPECT_EQ(l[2].dense_ops, 3 * 2 * 2 * 5);
  const bool spikes = a.kind == SnnActivation::spikes;
  EXPECT_FALSE(l[0].of_spikes);  // an image is numbers, and its current is computed once
  EXPECT_EQ(l[0].steps, 1);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(l[i].of_spikes, spikes);
    EXPECT_EQ(l[i].steps, spikes ? a.steps : 1);
    EXPECT_GE(l[i].any, l[i].rate - 1e-6);
  }
  EXPECT_GT(l[0].neuron_cmp, 0);
}

TEST(SnnAccount, CountsEqualBruteForce) {
  counts_equal_brute_force({});
  counts_equal_brute_force({.kind = SnnActivation::quantized, .bits = 2});
  for (const int64_t steps : {1, 3, 4})
    counts_equal_brute_force({.kind = SnnActivation::spikes, .steps = steps});
}

// The example of its paper: 4 of 9 products meet.
// A chain with spikes, flattened ones, their average and a potential, against loops over neurons.
TEST(NeuroBench, AChainByBruteForce) {
  manual_seed(6);
  NirNet net;
  const auto conv =
      std::make_shared<nn::Conv2d>(1, 2, nn::Conv2dOptions{.kernel = 3, .padding = 1});
  const auto linear = std::make_shared<nn::Linear>(32, 3);
  linear->weight.data<float>()[5] = 0;
  NeuronAttr a;
  a.strict = true;
  net.add("conv", conv).add("n", std::make_shared<snn::Neuron>(a));
  net.add("flat", std::make_shared<nn::Flatten>()).add("linear", linear);
  net.add("last", std::make_shared<LeakyIntegrator>(a));
  const int64_t steps = 4, n = 5;
  const Tensor x = cast(gt(uniform({steps, n, 1, 4, 4}, 0, 3), Tensor::full({1}, 1)), DType::f32);
  const NeuroBench b = neurobench_of(net, x, true);
  const Tensor current = (*conv)(reshape(x, {steps * n, 1, 4, 4}));
  const Tensors fired = neuron(reshape(current, {steps, n, 2, 4, 4}), {}, {}, a);
  const std::vector<float> s = fired[0].values<float>(), h = fired[2].values<float>();
  double adds = 0, updates = 0, spikes = 0;
  for (int64_t i = 0; i < steps * n; ++i)
    for (int64_t y = 0; y < 4; ++y)
      for (int64_t c = 0; c < 4; ++c)
        for (int64_t dy = -1; dy < 2; ++dy)
          for (int64_t dc = -1; dc < 2; ++dc)
            if (y + dy >= 0 && y + dy < 4 && c + dc >= 0 && c + dc < 4)
              adds += 2 * x.data<float>()[(i * 4 + y + dy) * 4 + c + dc];
  for (size_t i = 0; i < s.size(); ++i) {
    const size_t plane = static_cast<size_t>(n * 32);
    spikes += s[i];
    adds += s[i] * (i % 32 == 5 ? 2 : 3);  // one weight is 0
    updates += i < plane || h[i] != h[i - plane];
  }
  EXPECT_EQ(b.effective_macs, 0);
  EXPECT_NEAR(b.effective_acs, adds / n, 1e-9 * adds);
  EXPECT_NEAR(b.connection_sparsity, 1.0 / (18 + 96), 1e-12);
  EXPECT_NEAR(b.activation_sparsity, 1 - spikes / static_cast<double>(s.size()), 1e-12);
  EXPECT_EQ(b.membrane_updates, updates / n + steps * 3);  // the integrator's always move
  EXPECT_EQ(b.parameter_count, 18 + 2 + 96 + 3);
  // The same numbers, not said to be spikes, are multiplied with; what they cause are spikes.
  const NeuroBench plain = neurobench_of(net, x, false);
  EXPECT_GT(plain.effective_macs, 0);
  EXPECT_NEAR(plain.effective_macs + plain.effective_acs, adds / n, 1e-9 * adds);
  EXPECT_THROW(neurobench_of(net, scale(x, .5), true), value_error);
}

TEST(NeuroBench, ItsExampleAndBruteForce) {
  nn::Linear l(3, 3);
  l.weight.set_data(Tensor::from<float>({1.3F, 0, -3.2F, 0, 1.2F, -5.1F, -1.1F, 2.7F, 0}, {3, 3}));
  const SynapticOperations s = synaptic_operations(l, Tensor::from<float>({0, 1.3F, -1}, {1, 3}));
  EXPECT_EQ(s.effective, 4);
  EXPECT_EQ(s.dense, 9);
  EXPECT_THROW(synaptic_operations(nn::ReLU(), Tensor::zeros({1, 3})), value_error);
  manual_seed(5);
  const Tensor images = relu(uniform({6, 1, 8, 8}, -1, 3));
  for (const auto kind : {SnnActivation::relu, SnnActivation::spikes}) {
    SnnNet net(small, {.kind = kind, .steps = 3}, tiny);
    const NeuroBench b = neurobench_of(net, images);
    const std::vector<SnnLayer> layers = snn_layers(net, images);
    double ops = 0, dense = 0;  // no weight is 0 here, so the account has the same
    for (const SnnLayer& x : layers)
      ops += x.ops, dense += x.dense_ops * static_cast<double>(x.steps);
    EXPECT_NEAR(b.effective_macs + b.effective_acs, ops, 1e-6 * ops);
    EXPECT_NEAR(b.dense_operations, dense, 1e-6 * dense);
    EXPECT_EQ(b.effective_acs > 0, kind == SnnActivation::spikes);
    if (kind == SnnActivation::spikes) { EXPECT_NEAR(b.effective_macs, layers[0].ops, 1e-6 * ops); }
    EXPECT_EQ(b.footprint_bytes, 4 * net.parameter_count());
    EXPECT_EQ(b.connection_sparsity, 0);
    EXPECT_GT(b.activation_sparsity, 0);
    EXPECT_LT(b.activation_sparsity, 1);
  }
}

// Outputs of a relu that are 0 and 1 by chance are numbers all the same.
TEST(SnnAccount, TypesDecideNotValues) {
  SnnLayer l;
  l.ops = 100, l.inputs = 10, l.outputs = 10, l.weights = 100;
  const double products = snn_layer_pj(l, {}, SnnTier::compute, 1);
  l.of_spikes = true;
  const double sums = snn_layer_pj(l, {}, SnnTier::compute, 1);
  EXPECT_NEAR(products, 460, 1e-9);
  EXPECT_NEAR(sums, 90, 1e-9);
  EXPECT_NEAR(snn_layer_pj(l, {.weight_bits = 8}, SnnTier::compute, 1), 10, 1e-9);
  l.of_spikes = false;
  EXPECT_NEAR(snn_layer_pj(l, {.weight_bits = 8}, SnnTier::compute, 1), 30, 1e-9);
}

TEST(SnnAccount, SpikesAreBitsAndRowsAreReadOnce) {
  SnnLayer l;
  l.name = "fc1", l.of_spikes = l.fires = true;
  l.inputs = 1000, l.outputs = l.neurons = 100, l.weights = 100000;
  l.steps = l.neuron_steps = 4, l.rate = 0.1, l.any = 0.3, l.ops = 4 * 0.1 * 1000 * 100;
  const SnnBytes one = snn_bytes(l, {}, 1);
  EXPECT_NEAR(one.weights, 0.3 * 400000, 1e-6);  // not once for every spike
  EXPECT_NEAR(one.in, 4 * 1000 / 8.0, 1e-9);
  EXPECT_NEAR(one.out, 4 * 100 / 8.0, 1e-9);
  EXPECT_NEAR(one.state, 2 * 4 * 4 * 100, 1e-9);
  EXPECT_LT(snn_bytes(l, {}, 64).weights, 400000 / 63.9);
  l.is_conv = true;
  EXPECT_NEAR(snn_bytes(l, {}, 1).weights, 400000, 1e-6);
}

TEST(SnnAccount, AtTheBreakEvenRateBothCostTheSame) {
  SnnLayer s, n;
  s.name = n.name = "fc1";
  s.inputs = n.inputs = 1000, s.outputs = n.outputs = 100, s.weights = n.weights = 100000;
  s.of_spikes = s.fires = true, s.steps = s.neuron_steps = 4, s.neurons = 100;
  s.rate = 0.05, s.any = 0.15, s.ops = 4 * 0.05 * 100000;
  n.rate = n.any = 0.5, n.ops = 50000;
  for (const SnnTier t : snn_tiers) {
    const auto rate = break_even_rate(s, {}, n, {}, t, 1);
    ASSERT_TRUE(rate.has_value());
    SnnLayer at = s;
    const double f = *rate / s.rate;
    at.ops *= f, at.any = std::min(1.0, at.any * f);
    EXPECT_NEAR(snn_layer_pj(at, {}, t, 1) / snn_layer_pj(n, {}, t, 1), 1, 1e-6) << name(t);
  }
  // Operations alone: T s < share of numbers x 4.6 / 0.9.
  EXPECT_NEAR(*break_even_rate(s, {}, n, {}, SnnTier::compute, 1), 0.5 * 4.6 / 0.9 / 4, 1e-9);
  s.neuron_mul = 1e9;
  EXPECT_FALSE(break_even_rate(s, {}, n, {}, SnnTier::compute, 1).has_value());
}

SnnRun run(const std::string& point, int64_t seed, double test, bool spikes, double ops) {
  SnnRun r;
  r.point = point, r.seed = seed, r.test = test, r.test_passes = 1, r.epoch = 1, r.lr = 0.01;
  r.validation = {test};
  r.train_joules = {1000, 10, JouleKind::modelled_table, "horowitz45"};
  SnnLayer l;
  l.name = "fc1", l.inputs = l.outputs = 10, l.weights = 100, l.ops = ops;
  l.of_spikes = l.fires = spikes;
  l.rate = l.any = 0.5;
  r.layers = {l};
  return r;
}

SnnStudy study(double ann, double snn) {
  SnnStudy s;
  s.options.steps = {4}, s.options.rate_weight = 0, s.options.seeds = 2;
  for (int64_t seed = 1; seed <= 2; ++seed) {
    const double d = 0.001 * static_cast<double>(seed);
    s.runs.push_back(run("ann", seed, ann + d, false, 100));
    s.runs.push_back(run("qnn 3 bits", seed, ann + d, false, 100));
    s.runs.push_back(run("snn T=4", seed, snn + d, true, 300));
    s.runs.push_back(run("snn T=4, int8", seed, snn + d, true, 300));
  }
  return s;
}

TEST(SnnVerdict, ARatioNeedsEqualArms) {
  const auto equal = verdicts_of(study(0.88, 0.878));
  ASSERT_EQ(equal.size(), 12u);  // two pairs of arms, three tiers, batches of 1 and 64
  for (const SnnVerdict& v : equal) EXPECT_TRUE(v.equal) << sentence(v);
  EXPECT_NEAR(checked_ratio(equal[0]), 300 * 0.9 / (100 * 4.6), 1e-9);
  EXPECT_NE(sentence(equal[0]).find("0.59 times the joules of ann (modelled); spikes win"),
            std::string::npos)
      << sentence(equal[0]);
  // 300 additions at twice the price cost more than 100 products.
  EXPECT_NE(sentence(equal[0]).find("but not with products x0.5, additions x2"), std::string::npos)
      << sentence(equal[0]);
  const auto apart = verdicts_of(study(0.90, 0.87));
  for (const SnnVerdict& v : apart) {
    EXPECT_FALSE(v.equal);
    EXPECT_THROW(checked_ratio(v), value_error);
    EXPECT_NE(sentence(v).find("no ratio: no equal-accuracy point"), std::string::npos);
    EXPECT_EQ(sentence(v).find("times the joules"), std::string::npos);
  }
  EXPECT_EQ(verdict_sentences(study(0.90, 0.87)).size() < 12, true);
}

TEST(SnnVerdict, OtherWeightsOrNoArmAreNamed) {
  SnnStudy s = study(0.88, 0.88);
  for (SnnRun& r : s.runs)
    if (r.point == "snn T=4") r.layers[0].weights = 50;
  EXPECT_NE(sentence(verdicts_of(s)[0]).find("fc1 has 100 and 50 weights"), std::string::npos);
  std::erase_if(s.runs, [](const SnnRun& r) { return r.point == "ann"; });
  EXPECT_NE(sentence(verdicts_of(s)[0]).find("one of the two arms was not run"), std::string::npos);
}

TEST(SnnStudy, FilesComeBackAsTheyWere) {
  SnnStudy s = study(0.88, 0.878);
  s.runs[2].raster = {{"0110", "0000"}};
  s.cpu = "a cpu", s.isa = "avx2", s.energy = "none", s.first_validation_row = 48;
  const std::string text = snn_study_json(s);
  EXPECT_EQ(snn_study_json(snn_study_from_json(text, "study.json")), text);
  testing::expect_error<io_error>([] { snn_study_from_json("{", "a.json"); }, {"a.json"});
  testing::expect_error<io_error>([] { snn_study_from_json(R"({"format": "x"})", "a.json"); },
                                  {"a.json", "found format", "wattle snn study 1"});
  const std::string csv = snn_runs_csv(s);
  EXPECT_NE(csv.find("train_uj,train_uj_kind\n"), std::string::npos);
  EXPECT_NE(csv.find("\"snn T=4, int8\",2"), std::string::npos);
  EXPECT_NE(snn_layers_csv(s).find("dense_ops_per_step,ops_per_image"), std::string::npos);
  const std::string html = snn_study_html(s);
  for (const char* part :
       {"Verdict", "break-even s", "Spikes of one image", "passes over the test set", "modelled"})
    EXPECT_NE(html.find(part), std::string::npos) << part;
}

// Ten classes of 28 x 28 images that a net learns at once: a bright row each.
void write_images(const testing::Folder& f, const std::string& name, int64_t rows) {
  std::string x, y;
  for (int64_t i = 0; i < rows; ++i) {
    const int label = static_cast<int>(i * 7 % 10);
    for (int r = 0; r < 28; ++r)
      x.append(28, static_cast<char>(r / 2 == label + 2 ? 250 : (i * 31 + r * 17) % 40));
    y += static_cast<char>(label);
  }
  const auto n = static_cast<uint32_t>(rows);
  f.file(name + "-images-idx3-ubyte",
         testing::be32(0x803) + testing::be32(n) + testing::be32(28) + testing::be32(28) + x);
  f.file(name + "-labels-idx1-ubyte", testing::be32(0x801) + testing::be32(n) + y);
}

TEST(SnnStudy, ASmallOneFromEndToEnd) {
  const testing::Folder f;
  write_images(f, "train", 600), write_images(f, "t10k", 100);
  SnnStudyOptions o;
  o.data_dir = f.path(), o.out = f / "out", o.steps = {2}, o.seeds = 2, o.epochs = 2;
  o.rows = 480, o.batch = 16, o.sample = 20, o.lrs = {1e-3, 1e-2}, o.rate_weight = 0.01;
  const std::atomic<bool> go{false};
  const SnnStudy s = run_snn_study(o, go, {});
  ASSERT_EQ(s.runs.size(), 2u * 6);  // ann, qnn, two spiking nets in f32 and int8
  EXPECT_EQ(s.first_validation_row, 480);
  for (const SnnRun& r : s.runs) {
    EXPECT_EQ(r.test_passes, 1) << r.point;
    EXPECT_EQ(r.validation.size(), 2u);
    EXPECT_GT(r.test, 0.8) << r.point << " " << r.seed;
    EXPECT_EQ(r.train_joules.kind, JouleKind::modelled_table);
    const bool spikes = r.point.starts_with("snn");
    // What a spiking net knows goes through its spikes: without them it guesses.
    if (spikes) { EXPECT_LT(r.silenced, 0.2) << r.point; }
    EXPECT_EQ(r.raster.empty(), !spikes || r.seed != 1);
  }
  // Run again: nothing is trained twice; modelled joules do not depend on the run.
  const SnnStudy again = run_snn_study(o, go, {});
  ASSERT_EQ(again.runs.size(), s.runs.size());
  for (size_t i = 0; i < s.runs.size(); ++i)
    EXPECT_EQ(again.runs[i].train_joules.uj, s.runs[i].train_joules.uj);
  o.epochs = 3;
  testing::expect_error<value_error>([&] { run_snn_study(o, go, {}); },
                                     {"study.json", "belongs to another study", "3 epochs"});
  o.out = f / "other", o.rows = 481;
  testing::expect_error<value_error>([&] { run_snn_study(o, go, {}); },
                                     {"--rows: found 481", "480"});
}

}  // namespace
}  // namespace wattle::green
