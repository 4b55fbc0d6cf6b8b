// NIR: files, graphs that become nets and the other way, and what is refused.
#include "data/nir.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "data_files.h"
#include "green/nir_net.h"
#include "nn/layers.h"

namespace wattle::green {
namespace {

using io::NirGraph;
using io::NirNode;
using testing::expect_error;

NeuronAttr exact() {  // as NIR has it: above the threshold, to 0 at once
  NeuronAttr a = snn::preset::snntorch_leaky(0.9, "zero");
  a.delayed = false;
  return a;
}

// Weights large enough for the neurons behind them to fire.
std::shared_ptr<nn::Linear> loud_linear(int64_t in, int64_t out, bool bias) {
  auto m = std::make_shared<nn::Linear>(in, out, bias);
  const NoRecord off;
  m->weight.set_data(scale(m->weight, 6));
  return m;
}

std::shared_ptr<NirNet> dense_net(const NeuronAttr& a) {
  const NoRecord off;
  auto net = std::make_shared<NirNet>();
  net->input = {6};
  net->add("fc1", std::make_shared<nn::Linear>(6, 9));
  net->add("lif1", std::make_shared<snn::Neuron>(a));
  net->add("fc2", loud_linear(9, 4, false));
  net->add("cuba", std::make_shared<snn::SynapticNeuron>([] {
             snn::preset::Synaptic s = snn::preset::snntorch_synaptic(0.5, 0.8, "none");
             s.membrane = exact();
             s.membrane.beta = 0.8;
             return s;
           }()));
  NeuronAttr li = exact();
  li.reset = "none";
  net->add("li", std::make_shared<LeakyIntegrator>(li));
  return net;
}

std::shared_ptr<NirNet> conv_net() {
  auto net = std::make_shared<NirNet>();
  net->input = {2, 8, 8};
  net->add("conv", std::make_shared<nn::Conv2d>(
                       2, 4, nn::Conv2dOptions{.stride = 1, .padding = 1, .groups = 2}));
  NeuronAttr a;
  a.charge = "integrate", a.strict = true;
  net->add("if", std::make_shared<snn::Neuron>(a));
  net->add("pool", std::make_shared<nn::AvgPool2d>(2));
  net->add("gain", std::make_shared<Gain>(4));
  net->add("flatten", std::make_shared<nn::Flatten>());
  net->add("fc", loud_linear(64, 3, true));
  a.charge = "lif", a.tau = 3, a.decay_input = true, a.v_reset = 0;
  net->add("lif", std::make_shared<snn::Neuron>(a));
  return net;
}

void round_trip(const std::shared_ptr<NirNet>& net, const Shape& sample) {
  const NoRecord off;
  const testing::Folder f;
  const std::string path = f / "net.nir";
  io::write_nir(path, nir_from_net(*net));
  const auto back = net_from_nir(io::read_nir(path));
  Shape s{25, 3};
  for (int d = 0; d < sample.rank(); ++d) s.push_back(sample[d]);
  const Tensor x = uniform(s, -2, 12);
  const std::vector<float> a = (*net)(x).values<float>(), b = (*back)(x).values<float>();
  ASSERT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i], b[i], 1e-5) << i;
    sum += a[i] != 0;
  }
  EXPECT_GT(sum, 0);
  net->reset(), back->reset();
  EXPECT_EQ((*net)(x).values<float>(), a);  // reset forgets
}

TEST(Nir, NetsComeBackAndGiveTheSameSpikes) {
  manual_seed(3);
  round_trip(dense_net(exact()), {6});
  round_trip(conv_net(), {2, 8, 8});
}

// What the format cannot say is refused, and named when it is left out on purpose.
TEST(Nir, LossyExportsNeedAFlag) {
  NeuronAttr soft = exact();
  soft.reset = "soft";
  expect_error<value_error>([&] { nir_from_net(*dense_net(soft)); },
                            {"'lif1'", "soft reset, which NIR cannot say"});
  std::vector<std::string> lost;
  const NirGraph g = nir_from_net(*dense_net(soft), 1e-4, true, &lost);
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_NE(lost[0].find("soft reset"), std::string::npos);
  NeuronAttr at = exact();
  at.strict = false;
  expect_error<value_error>([&] { nir_from_net(*dense_net(at)); },
                            {"'lif1'", "firing at the threshold itself"});
  auto net = std::make_shared<NirNet>();
  net->input = {4};
  net->add("relu", std::make_shared<nn::ReLU>());
  expect_error<value_error>([&] { nir_from_net(*net); }, {"'relu'", "found a ReLU"});
  expect_error<value_error>([&] { nir_from_net(NirNet()); }, {"without the shape of its input"});
}

NirNode node(const std::string& name, const std::string& type) { return {name, type, {}, {}}; }

NirGraph lif_graph(NirNode n) {
  NirGraph g;
  g.nodes = {node("in", "Input"), std::move(n), node("out", "Output")};
  for (const size_t i : {0u, 2u}) g.nodes[i].arrays["shape"] = Tensor::from<int64_t>({2}, {1});
  g.edges = {{"in", g.nodes[1].name}, {g.nodes[1].name, "out"}};
  return g;
}

NirNode lif() {
  NirNode n = node("lif", "LIF");
  n.arrays = {{"tau", Tensor::full({2}, 0.01)},
              {"r", Tensor::full({2}, 1)},
              {"v_leak", Tensor::full({2}, 0)},
              {"v_threshold", Tensor::full({2}, 1)},
              {"v_reset", Tensor::full({2}, 0)}};
  return n;
}

// dv/dt = (R I - v) / tau from 0 with R I = 1.5 meets 1 after tau ln 3 = 10.986 ms; Euler with
// 0.1 ms fires in step 110, and the smaller the step the closer it comes.
TEST(Nir, StepsConvergeToContinuousTime) {
  const NoRecord off;
  const auto first = [&](double dt) {
    const auto net = net_from_nir(lif_graph(lif()), dt);
    const int64_t steps = static_cast<int64_t>(0.02 / dt);
    const std::vector<float> s = (*net)(Tensor::full({steps, 1, 2}, 1.5)).values<float>();
    for (size_t t = 0; t < s.size(); t += 2)
      if (s[t] > 0) return static_cast<double>(t / 2 + 1);
    return -1.0;
  };
  EXPECT_EQ(first(1e-4), 110);
  EXPECT_NEAR(first(1e-5) * 1e-5, 0.0109861, 2e-5);
  EXPECT_NEAR(first(1e-6) * 1e-6, 0.0109861, 2e-6);
}

TEST(Nir, GraphsThatAreNoNetsAreRefused) {
  const auto refused = [](const NirGraph& g, const std::vector<std::string>& parts) {
    expect_error<value_error>([&] { net_from_nir(g); }, parts);
  };
  NirNode n = lif();
  n.arrays["tau"] = Tensor::from<float>({0.01F, 0.02F}, {2});
  refused(lif_graph(n), {"node 'lif' (LIF)", "tau: found values from 0.01 to 0.02"});
  n = lif(), n.arrays["tau"] = Tensor::full({2}, 1e-5);
  refused(lif_graph(n), {"tau: found", "expected at least a step"});
  n = lif(), n.arrays["v_leak"] = Tensor::full({2}, 0.5);
  refused(lif_graph(n), {"v_leak: found 0.5, expected 0"});
  n = lif(), n.arrays.erase("r");
  refused(lif_graph(n), {"found no r, expected one"});
  refused(lif_graph(node("d", "Delay")), {"node 'd' (Delay): is not supported"});
  NirGraph g = lif_graph(lif());
  g.edges.emplace_back("lif", "lif");
  refused(g, {"edge lif -> lif", "expected a chain"});
  g = lif_graph(lif()), g.edges.pop_back();
  refused(g, {"node 'lif'", "leads nowhere"});
  g = lif_graph(lif()), g.nodes[0].type = "Output";
  refused(g, {"found no node of type Input"});
  expect_error<value_error>([&] { net_from_nir(lif_graph(lif()), 0); }, {"dt: found 0"});
  NirNode conv = node("c", "Conv2d");
  conv.arrays = {{"weight", Tensor::full({1, 1, 3, 3}, 1)}, {"bias", Tensor::full({2}, 0)}};
  refused(lif_graph(conv), {"node 'c' (Conv2d)", "bias"});
  conv.arrays["bias"] = Tensor::full({1}, 0), conv.text["padding"] = "full";
  refused(lif_graph(conv), {"padding: found 'full'"});
}

TEST(Nir, DamagedFilesGetOneError) {
  const testing::Folder f;
  const std::string path = f / "net.nir";
  io::write_nir(path, lif_graph(lif()));
  const std::string good = testing::slurp(path);
  expect_error<io_error>([&] { io::read_nir(f / "none.nir"); }, {"none.nir"});
  expect_error<io_error>([&] { io::read_nir(f.file("a.nir", "not HDF5")); },
                         {"a.nir: is not an HDF5 file"});
  expect_error<io_error>([&] { io::read_nir(f.file("b.nir", good.substr(0, good.size() / 2))); },
                         {"b.nir"});
  NirGraph g = lif_graph(lif());
  g.edges.emplace_back("lif", "nowhere");
  expect_error<io_error>([&] { io::write_nir(f / "c.nir", g); },
                         {"c.nir", "there is no node 'nowhere'"});
  EXPECT_EQ(f.count(), 3u);  // nothing half-written
  // A byte changed anywhere: the file is read, or one error names it; nothing else happens.
  int refused = 0;
  for (size_t at = 0; at < good.size(); at += 41) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x5a);
    f.file("d.nir", bad);
    try {
      net_from_nir(io::read_nir(f / "d.nir"));
    } catch (const error& e) {
      ++refused;
      EXPECT_FALSE(std::string(e.what()).empty());
    }
  }
  EXPECT_GT(refused, 10);
}

}  // namespace
}  // namespace wattle::green
