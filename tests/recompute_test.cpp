// Recompute: gradients to the bit, with less memory; what runs again is counted where it belongs.
#include <gtest/gtest.h>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/device.h"
#include "core/error.h"
#include "core/rng.h"
#include "nn/layers.h"
#include "snn/layers.h"

namespace wattle {
namespace {

using Values = std::vector<std::vector<float>>;

Values gradients(nn::Module& net, const Tensor& x) {
  Tape tape;
  tape.watch(x);
  Tensors xs{x};
  for (const nn::Named& p : net.named_parameters()) xs.push_back(p.tensor);
  const Tensor y = net(x);
  Values all{y.values<float>()};
  for (const Tensor& g : tape.gradient(sum(mul(y, y)), xs)) all.push_back(g.values<float>());
  return all;
}

std::shared_ptr<nn::Sequential> block() {
  auto net = std::make_shared<nn::Sequential>();
  net->add(std::make_shared<nn::Conv2d>(3, 8, nn::Conv2dOptions{.padding = 1}));
  net->add(std::make_shared<nn::BatchNorm2d>(8));
  net->add(std::make_shared<nn::ReLU>());
  net->add(std::make_shared<nn::Dropout>(0.3));
  return net;
}

std::shared_ptr<nn::Sequential> two_blocks() {
  manual_seed(3);
  auto net = std::make_shared<nn::Sequential>();
  net->add(block());
  auto second = std::make_shared<nn::Sequential>();
  second->add(std::make_shared<nn::Flatten>());
  second->add(std::make_shared<nn::Linear>(8 * 6 * 5, 20));
  second->add(std::make_shared<nn::ReLU>());
  second->add(std::make_shared<nn::Linear>(20, 4));
  net->add(second);
  return net;
}

void recompute_all(nn::Module& net) {
  for (const auto& c : net.children()) c.module->recompute = true;
}

TEST(Recompute, GradientsAndStatisticsAreThoseOfThePlainWay) {
  const auto plain = two_blocks(), less = two_blocks();
  recompute_all(*less);
  for (int step = 0; step < 2; ++step) {  // masks of dropout and running statistics go on
    manual_seed(7 + static_cast<uint64_t>(step));
    const Tensor x = normal({2, 3, 6, 5});
    manual_seed(9);
    const Values a = gradients(*plain, x);
    manual_seed(9);
    EXPECT_EQ(gradients(*less, x), a);
  }
  const nn::StateDict a = plain->state_dict(), b = less->state_dict();
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_EQ(a[i].tensor.values<float>(), b[i].tensor.values<float>()) << a[i].name;
}

TEST(Recompute, ATapeKeepsOnlyWhatComesFromOutside) {
  const Tensor x = Tensor::ones({4}), w = Tensor::ones({4});
  Tape tape;
  tape.watch(x);
  const Tensor y = [&] {
    const Recompute less;
    const Recompute within;  // changes nothing
    return exp(mul(mul(x, w), w));
  }();
  ASSERT_EQ(tape.nodes().size(), 3u);
  const auto saved = [&](size_t node, size_t in) {
    return tape.ins(tape.nodes()[node])[in].saved.defined();
  };
  EXPECT_TRUE(saved(0, 0) && saved(0, 1) && saved(1, 1));
  EXPECT_FALSE(saved(1, 0) || saved(2, 0));
  EXPECT_FALSE(tape.outs(tape.nodes()[2])[0].saved.defined());  // exp keeps its result elsewhere
  const Tensors g = tape.gradient(sum(y), {x}, {}, true);
  EXPECT_EQ(g[0].values<float>(), exp(Tensor::ones({4})).values<float>());
  EXPECT_EQ(tape.gradient(y, {x}, Tensor::ones({4}))[0].values<float>(), g[0].values<float>());
}

TEST(Recompute, WhatRunsAgainIsCreditedToItsLayerOnTheWayBack) {
  const auto net = two_blocks();
  recompute_all(*net);
  const auto calls = [](const char* op, Phase phase) {
    int64_t n = 0;
    for (const Row& r : counters().rows())
      if (std::string(r.key.op->name) == op && r.key.phase == phase) n += r.calls;
    return n;
  };
  counters().clear();
  gradients(*net, Tensor::ones({2, 3, 6, 5}));
  EXPECT_EQ(calls("relu", Phase::forward), 2);
  EXPECT_EQ(calls("relu", Phase::backward), 2);
  EXPECT_EQ(calls("linear", Phase::backward), 2);
  for (const Row& r : counters().rows())
    if (std::string(r.key.op->name) == "batch_norm") {
      EXPECT_EQ(counters().path(r.key.scope), "0.1") << "in " << name(r.key.phase);
    }
}

TEST(Recompute, AnOperandOverwrittenInTheMeantimeIsAnError) {
  const Tensor x = Tensor::ones({4}), w = Tensor::ones({4});
  Tape tape;
  tape.watch(w);
  const Tensor y = [&] {
    const Recompute less;
    return mul(mul(x, w), w);
  }();
  {
    const NoRecord off;
    sgd_step(x, Tensor::ones({4}), {}, {.lr = 0.1});
  }
  EXPECT_THROW(tape.gradient(sum(y), {w}), autograd_error);
}

TEST(Recompute, SecondGradientsPassThroughIt) {
  const Tensor x = Tensor::full({3}, 0.5);
  const auto second = [&](bool less) {
    Tape outer;
    outer.watch(x);
    Tensor g;
    {
      Tape inner;
      inner.watch(x);
      const auto f = [&] { return mul(exp(x), mul(x, x)); };
      const Tensor y = [&] {
        std::optional<Recompute> r;
        if (less) r.emplace();
        return f();
      }();
      g = inner.gradient(sum(y), {x})[0];
    }
    return outer.gradient(sum(g), {x})[0].values<float>();
  };
  EXPECT_EQ(second(true), second(false));
}

// Linear layers and spiking neurons over steps: backward needs every potential, 4 bytes a neuron
// and step. Run again block by block, it needs those of one block, and packed spikes between them.
TEST(Recompute, ASpikingNetNeedsLessThanHalfTheMemory) {
  const auto run = [](bool less, int64_t* peak) {
    manual_seed(5);
    nn::Sequential net;
    for (int i = 0; i < 8; ++i) {
      auto pair = std::make_shared<nn::Sequential>();
      pair->add(std::make_shared<nn::Linear>(256, 256));
      NeuronAttr a = snn::preset::spikingjelly_lif();
      a.out = DType::spike;
      pair->add(std::make_shared<snn::Neuron>(a));
      pair->recompute = less;
      net.add(pair);
    }
    const Tensor x = uniform({16, 64, 256}, 0, 4);
    Tape tape;
    Tensors xs;
    for (const nn::Named& p : net.named_parameters()) xs.push_back(p.tensor);
    reset_peak();
    const int64_t before = memory_stats().live;
    const Tensor y = cast(net(x), DType::f32);
    Values all{y.values<float>()};
    for (const Tensor& g : tape.gradient(sum(y), xs)) all.push_back(g.values<float>());
    *peak = memory_stats().peak - before;
    return all;
  };
  int64_t plain = 0, less = 0;
  const Values a = run(false, &plain), b = run(true, &less);
  EXPECT_EQ(a, b);
  EXPECT_LT(less, plain / 2) << plain;
}

}  // namespace
}  // namespace wattle
