// From trained nets to spiking ones.
#include "snn/convert.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "nn/transformer.h"
#include "snn/layers.h"

namespace wattle {
namespace {

using snn::convert;

TEST(Convert, PercentilesAreLinearBetweenNeighbours) {
  std::vector<float> v(10000);
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>((i * 7919) % v.size());
  EXPECT_NEAR(snn::percentile(v, 99.9), 9989.001, 1e-9);
  EXPECT_EQ(snn::percentile({3}, 50), 3);
  EXPECT_EQ(snn::percentile({1, 2}, 100), 2);
  EXPECT_THROW(snn::percentile({}, 50), value_error);
  EXPECT_THROW(snn::percentile({1}, 101), value_error);
}

TEST(Convert, ARateIsTheInputCutOffAtOne) {
  manual_seed(1);
  const int64_t n = 1000, steps = 32;
  const Tensor a = uniform({1, n}, -.5, 1.5);
  NeuronAttr attr = snn::preset::spikingjelly_if({});
  attr.steps = steps;
  for (const double start : {0., .5}) {
    const Tensor s = neuron(a, Tensor::full({n}, start), {}, attr)[0];
    const std::vector<float> rate = mean(s, {0}).values<float>(), x = a.values<float>();
    for (size_t i = 0; i < rate.size(); ++i)
      EXPECT_LE(std::fabs(rate[i] - std::clamp(x[i], 0.f, 1.f)), 1. / steps + 1e-6) << x[i];
  }
  // A hard reset forgets what is above the threshold, and rates with it.
  NeuronAttr hard = snn::preset::spikingjelly_if();
  hard.steps = steps;
  const std::vector<float> rate =
      mean(neuron(Tensor::full({1, 1}, .7), {}, {}, hard)[0], {0}).values<float>();
  EXPECT_GT(std::fabs(rate[0] - .7), 1. / steps);
}

std::shared_ptr<nn::Sequential> small_net() {
  auto net = std::make_shared<nn::Sequential>();
  const auto conv = [](int64_t in, int64_t out) {
    return std::make_shared<nn::Conv2d>(in, out, nn::Conv2dOptions{.padding = 1});
  };
  const auto bn = std::make_shared<nn::BatchNorm2d>(5);
  net->add("conv1", conv(1, 5)).add("bn1", bn).add("relu1", std::make_shared<nn::ReLU>());
  net->add("pool1", std::make_shared<nn::AvgPool2d>(2)).add("conv2", conv(5, 6));
  net->add("relu2", std::make_shared<nn::ReLU>()).add("flatten", std::make_shared<nn::Flatten>());
  net->add("drop", std::make_shared<nn::Dropout>(.5));
  net->add("linear1", std::make_shared<nn::Linear>(6 * 4 * 4, 20));
  net->add("relu3", std::make_shared<nn::ReLU>());
  net->add("linear2", std::make_shared<nn::Linear>(20, 4));
  // Statistics that are not those of an untrained layer.
  for (int64_t i = 0; i < 5; ++i) {
    bn->running_mean.data<float>()[i] = .1f * static_cast<float>(i) - .2f;
    bn->running_var.data<float>()[i] = .5f + static_cast<float>(i);
    bn->weight.data<float>()[i] = 1 + .2f * static_cast<float>(i);
    bn->bias.data<float>()[i] = .3f;
  }
  net->eval();
  return net;
}

double distance(const Tensor& a, const Tensor& b) {
  const Tensor d = sub(a, b);
  return std::sqrt(sum(mul(d, d)).item() / sum(mul(b, b)).item());
}

TEST(Convert, LogitsApproachThoseOfTheNet) {
  manual_seed(2);
  const auto net = small_net();
  const Tensor x = uniform({16, 1, 8, 8});
  const Tensor expected = (*net)(x);
  const auto before = net->state_dict()[0].tensor.values<float>();
  double last = 1e9;
  for (const int64_t steps : {8, 32, 128, 512}) {
    const auto spiking = convert(*net, x, {.steps = steps, .percentile = 100});
    const double d = distance((*spiking)(x), expected);
    EXPECT_LT(d, last) << steps;
    last = d;
    ASSERT_EQ(spiking->rates().size(), 3u);
    for (double r : spiking->rates()) EXPECT_TRUE(r > 0 && r < 1);
  }
  EXPECT_LT(last, .02);
  EXPECT_EQ(net->state_dict()[0].tensor.values<float>(), before);
  // Starting halfway up centres the error.
  const auto from_0 = convert(*net, x, {.steps = 32, .percentile = 100, .half_threshold = false});
  const auto half = convert(*net, x, {.steps = 32, .percentile = 100});
  EXPECT_LT(distance((*half)(x), expected), distance((*from_0)(x), expected));
}

void logits_approach(const nn::Sequential& net, const Tensor& x) {
  const Tensor expected = const_cast<nn::Sequential&>(net)(x);
  double last = 1e9;
  for (const int64_t steps : {16, 128, 1024}) {
    const double d = distance((*convert(net, x, {.steps = steps, .percentile = 100}))(x), expected);
    EXPECT_LT(d, last) << steps;
    last = d;
  }
  EXPECT_LT(last, .02);
}

// The maximum of counts grows by one spike or none, and its rate is the maximum of rates.
TEST(Convert, MaximaOfRatesAndLayersWithoutReLU) {
  manual_seed(2);
  const Tensor x = uniform({16, 1, 8, 8});
  const auto net = small_net();
  net->replace("pool1", std::make_shared<nn::MaxPool2d>(2));
  logits_approach(*net, x);
  const auto other = small_net();
  other->remove("relu3");
  logits_approach(*other, x);
}

TEST(Convert, WhatCannotBeConvertedIsNamed) {
  const Tensor x = uniform({2, 1, 8, 8});
  const auto refused = [&](const nn::Sequential& net, const char* text) {
    try {
      convert(net, x);
      ADD_FAILURE() << text;
    } catch (const value_error& e) {
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
    }
  };
  const auto net = small_net();
  net->replace("relu1", std::make_shared<nn::RMSNorm>(8));
  refused(*net, "layer relu1 (RMSNorm): expected Conv2d");
  const auto other = small_net();  // currents have no maximum over time
  other->remove("relu2");
  other->replace("flatten", std::make_shared<nn::MaxPool2d>(2));
  refused(*other, "layer flatten (MaxPool2d): expected a ReLU before it");
  const auto training = small_net();
  training->train();
  refused(*training, "training mode");
  const auto headless = small_net();
  headless->remove("linear2");
  refused(*headless, "ends without a layer of weights");
  EXPECT_THROW(convert(*small_net(), x, {.steps = 0}), value_error);
}

}  // namespace
}  // namespace wattle
