// Spikes as a dtype, and the surrogates.
#include "snn/spike.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/rng.h"
#include "snn/ops.h"
#include "snn/surrogate.h"
#include "tests/spike_cases.h"

namespace wattle {
namespace {

TEST(Spike, TakesABitAndComesBack) {
  manual_seed(1);
  for (const Shape& shape : {Shape{1}, Shape{3, 8}, Shape{5, 13}, Shape{2, 3, 65}, Shape{0, 4}}) {
    const Tensor x = floats(random_spikes(shape, .4)), s = cast(x, DType::spike);
    EXPECT_EQ(s.nbytes(),
              x.numel() / std::max<int64_t>(1, shape.back()) * ((shape.back() + 7) / 8));
    EXPECT_EQ(floats(s).values<float>(), x.values<float>());
    EXPECT_EQ(static_cast<double>(snn::count_spikes(s)), x.numel() ? sum(x).item() : 0);
    EXPECT_EQ(sum(s).dtype(), DType::f32);
  }
  const Tensor other = cast(Tensor::from<float>({.2f, .5f, .7f, 3, -1}, {5}), DType::spike);
  EXPECT_EQ(floats(other).values<float>(), (std::vector<float>{0, 0, 1, 1, 0}));
  EXPECT_THROW(cast(Tensor::full({2}, std::nan("")), DType::spike), value_error);
}

TEST(Spike, OpsThatDoNotKnowSpikesRefuseThem) {
  const Tensor s = random_spikes({2, 9}, .5);
  for (const auto& call :
       {+[](const Tensor& t) { return add(t, t); }, +[](const Tensor& t) { return relu(t); },
        +[](const Tensor& t) { return softmax(t, 1); },
        +[](const Tensor& t) { return linear(floats(t), t); }}) {
    try {
      call(s);
      ADD_FAILURE();
    } catch (const dtype_error& e) {
      EXPECT_NE(std::string(e.what()).find("holds spikes"), std::string::npos) << e.what();
    }
  }
}

// Contractions give what floats of 0 and 1 give, in numbers, and are additions by their type.
TEST(Spike, ContractionsTakeThem) {
  manual_seed(2);
  const Tensor s = random_spikes({6, 37}, .3), w = normal({19, 37}), b = normal({19});
  counters().clear();
  const Tensor y = linear(s, w, b);
  const Row& row = counters().rows().at(0);
  EXPECT_EQ(row.cost.mac, 0);
  EXPECT_EQ(row.cost.add, 6 * 19 * 37 + 6 * 19);
  EXPECT_EQ(row.key.dtype, DType::spike);
  EXPECT_EQ(y.dtype(), DType::f32);
  EXPECT_EQ(y.values<float>(), linear(floats(s), w, b).values<float>());
  const Tensor image = random_spikes({2, 4, 9, 11}, .3), k = normal({6, 4, 3, 3});
  EXPECT_EQ(conv2d(image, k, {}, 1, 1).values<float>(),
            conv2d(floats(image), k, {}, 1, 1).values<float>());
  const Tensor pooled = max_pool2d(image, 2);
  EXPECT_EQ(pooled.dtype(), DType::spike);
  EXPECT_EQ(floats(pooled).values<float>(), max_pool2d(floats(image), 2).values<float>());
  const Tensor mean_of = avg_pool2d(image, 2);
  EXPECT_EQ(mean_of.dtype(), DType::f32);
  EXPECT_EQ(mean_of.values<float>(), avg_pool2d(floats(image), 2).values<float>());
  EXPECT_EQ(mean(s, {0}).values<float>(), mean(floats(s), {0}).values<float>());
  // A net of numbers that happen to be 0 and 1 is charged as numbers.
  const Tensor numbers = floats(s);
  counters().clear();
  linear(numbers, w, b);
  EXPECT_EQ(counters().rows().at(0).cost.mac, 6 * 19 * 37);
}

// A gradient of 0.3 is no spike: it stays a number where spikes become numbers.
TEST(Spike, TheirCastPassesGradientsAsNumbers) {
  const Tensor x = Tensor::from(std::vector<float>{2, -1, 3}, {1, 3});
  NeuronAttr a;
  a.out = DType::spike;
  Tape tape;
  tape.watch(x);
  const Tensor y = cast(neuron(x, {}, {}, a)[0], DType::f32);
  const Tensor packed = tape.gradient(y, {x}, Tensor::full({1, 3}, 0.3))[0];
  Tape plain;
  plain.watch(x);
  const Tensor z = neuron(x, {}, {}, {})[0];
  EXPECT_EQ(packed.values<float>(),
            plain.gradient(z, {x}, Tensor::full({1, 3}, 0.3))[0].values<float>());
}

TEST(Spike, GradientsFlowThroughThem) {
  manual_seed(3);
  const Tensor x = uniform({4, 2, 16}, -1, 3), w = normal({5, 16}), k = normal({3, 2, 3, 3});
  const auto grads = [&](DType out) {
    Tape tape;
    tape.watch(x), tape.watch(w), tape.watch(k);
    NeuronAttr a;
    a.out = out;
    const Tensor s = neuron(x, {}, {}, a)[0];
    const Tensor y = linear(reshape(s, {8, 16}), w);
    const Tensor z = conv2d(reshape(s, {1, 2, 4, 16}), k, {}, 1, 1);
    const Tensor p = max_pool2d(reshape(s, {1, 2, 4, 16}), 2);
    const Tensor loss = add(add(sum(mul(y, y)), sum(mul(z, z))), sum(p));
    Tensors g = tape.gradient(loss, {x, w, k});
    std::vector<std::vector<float>> out_values;
    for (const Tensor& t : g) out_values.push_back(t.values<float>());
    return out_values;
  };
  EXPECT_EQ(grads(DType::spike), grads(DType::f32));
}

// ---- surrogates ----

using snn::Surrogate;
using snn::SurrogateKind;

struct Published {
  Surrogate s;
  double below, at, above;  // u = -0.5, 0, 0.25
  bool smooth;
};
const Published published[] = {
    {{SurrogateKind::atan, 2}, .288400, 1, .618486, true},
    {{SurrogateKind::sigmoid, 4}, .419974, 1, .786448, true},
    {{SurrogateKind::sigmoid, 25}, 9.3e-5, 6.25, .048076, true},
    {{SurrogateKind::fast_sigmoid, 25}, .005487, 1, .019025, true},
    {{SurrogateKind::fast_sigmoid, 100}, 3.84e-4, 1, 1.479e-3, true},
    {{SurrogateKind::super_spike, 1}, .4444, 1, .64, true},
    {{SurrogateKind::soft_sign, 2}, .25, 1, .4444, true},
    {{SurrogateKind::triangle, .3}, .15, .3, .225, true},
    {{SurrogateKind::quadratic, 1}, .5, 1, .75, true},
    {{SurrogateKind::rectangle, 1}, 0, 1, 1, false},
    {{SurrogateKind::exponential, 1}, .3033, .5, .3894, true},
};

double at(const Surrogate& s, double u) { return snn::surrogate_value<double>(s, u); }

TEST(Surrogates, HaveTheirPublishedValues) {
  for (const Published& p : published) {
    const auto near = [](double x, double y) { EXPECT_NEAR(x, y, 1e-4 * std::max(y, .5)); };
    near(at(p.s, -.5), p.below), near(at(p.s, 0), p.at), near(at(p.s, .25), p.above);
  }
}

TEST(Surrogates, AreEvenPositiveAndFinite) {
  manual_seed(4);
  const std::vector<double> us = cast(normal({500}), DType::f64).values<double>();
  for (const Published& p : published) {
    double sum = 0;
    for (double u : us) {
      EXPECT_GE(at(p.s, u), 0);
      EXPECT_EQ(at(p.s, u), at(p.s, -u));
      sum += at(p.s, u);
    }
    EXPECT_GT(at(p.s, 0), 0);
    EXPECT_GT(sum, 0);
    for (double u : {-1e4, -50., 50., 1e4}) {
      EXPECT_TRUE(std::isfinite(at(p.s, u)));
      EXPECT_TRUE(std::isfinite(snn::surrogate_value<float>(p.s, static_cast<float>(u))));
    }
  }
}

// What each is the derivative of.
double primitive(const Surrogate& s, double u) {
  const double a = s.a, m = std::fabs(u), sign = u < 0 ? -1 : 1;
  switch (s.kind) {
    case SurrogateKind::atan: return std::atan(M_PI / 2 * a * u) / M_PI;
    case SurrogateKind::sigmoid: return 1 / (1 + std::exp(-a * u));
    case SurrogateKind::fast_sigmoid: return u / (1 + a * m);
    case SurrogateKind::super_spike: return a * u / (1 + m);
    case SurrogateKind::soft_sign: return u / (2 * (1 / a + m));
    case SurrogateKind::triangle: return sign * a * (m < 1 ? m - m * m / 2 : .5);
    case SurrogateKind::quadratic: return sign * (m < 1 / a ? a * m - a * a * m * m / 2 : .5);
    case SurrogateKind::exponential: return sign * (1 - std::exp(-m / a)) / 2;
    default: return 0;
  }
}

TEST(Surrogates, AreDerivativesOfTheirPrimitives) {
  for (const Published& p : published) {
    if (!p.smooth) continue;
    for (double u = -1.97; u < 2; u += .1) {
      const double e = 1e-5, fd = (primitive(p.s, u + e) - primitive(p.s, u - e)) / (2 * e);
      EXPECT_NEAR(at(p.s, u), fd, 1e-6 * std::max(1., std::fabs(fd)))
          << static_cast<int>(p.s.kind) << " at " << u;
    }
  }
}

}  // namespace
}  // namespace wattle
