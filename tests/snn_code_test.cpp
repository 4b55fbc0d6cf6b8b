// Encoders and losses of spiking nets.
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "snn/encode.h"
#include "snn/loss.h"
#include "snn/spike.h"

namespace wattle {
namespace {

using namespace snn;

std::vector<float> floats(const Tensor& s) { return cast(s, DType::f32).values<float>(); }

TEST(Encode, RateIsItsProbabilityAndIndependentOverTime) {
  const int64_t steps = 4000, n = 25;
  std::vector<float> p(static_cast<size_t>(n));
  for (size_t i = 0; i < p.size(); ++i) p[i] = static_cast<float>(i) / static_cast<float>(n - 1);
  const Tensor x = Tensor::from<float>(p, {n});
  const Tensor s = encode_rate(x, steps, 7);
  const std::vector<float> v = floats(s);
  double chi = 0;
  int freedom = 0;
  for (int64_t i = 0; i < n; ++i) {
    double count = 0, both = 0;
    for (int64_t t = 0; t < steps; ++t) {
      count += v[static_cast<size_t>(t * n + i)];
      if (t > 0)
        both += v[static_cast<size_t>(t * n + i)] * v[static_cast<size_t>((t - 1) * n + i)];
    }
    const double q = p[static_cast<size_t>(i)], mean = q * steps, variance = mean * (1 - q);
    if (variance == 0) {
      EXPECT_EQ(count, mean);
      continue;
    }
    chi += (count - mean) * (count - mean) / variance, ++freedom;
    const double r = count / steps;  // correlation of neighbouring steps
    EXPECT_LT(std::fabs(both / (steps - 1) - r * r) / (r * (1 - r)), 4 / std::sqrt(steps));
  }
  EXPECT_NEAR(chi, freedom, 4 * std::sqrt(2. * freedom));
  // The same seed gives the same bits for any number of threads, another seed others.
  const int before = num_threads();
  set_num_threads(1);
  EXPECT_EQ(floats(encode_rate(x, steps, 7)), v);
  set_num_threads(before);
  EXPECT_NE(floats(encode_rate(x, steps, 8)), v);
}

TEST(Encode, LatencyTimes) {
  const Tensor x = Tensor::from<float>({.02f, .5f, 1}, {3});
  const std::vector<float> log = latency_times(x, 5, {true, true}).values<float>();
  const std::vector<float> line = latency_times(x, 5).values<float>();
  const float expected[2][3] = {{4.0f, .1166f, .0580f}, {3.92f, 2, 0}};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(log[i], expected[0][i], 1e-4);
    EXPECT_NEAR(line[i], expected[1][i], 1e-4);
  }
  const Tensor s = encode_latency(x, 5);
  EXPECT_EQ(s.shape(), (Shape{5, 3}));
  EXPECT_EQ(floats(s), (std::vector<float>{0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0}));
}

TEST(Encode, DeltaAndPhase) {
  const Tensor x = Tensor::from<float>({1, 2, 2.9f, 3, 3.9f}, {5, 1});
  EXPECT_EQ(floats(encode_delta(x, 1)), (std::vector<float>{1, 1, 0, 0, 0}));
  // 0.625 = 1/2 + 1/8, then again
  EXPECT_EQ(floats(encode_phase(Tensor::from<float>({.625f, 1}, {2}), 4, 3)),
            (std::vector<float>{1, 1, 0, 1, 1, 1, 1, 1}));
}

TEST(Encode, BadInputIsNamed) {
  EXPECT_THROW(encode_rate(Tensor::ones({3}), 0, 1), value_error);
  EXPECT_THROW(encode_rate(Tensor::full({3}, std::nan("")), 2, 1), value_error);
  EXPECT_THROW(encode_phase(Tensor::ones({3}), 2, 0), value_error);
  EXPECT_THROW(encode_delta(Tensor::ones({3})), shape_error);
  EXPECT_THROW(encode_rate(Tensor::ones({3}, DType::f64), 2, 1), dtype_error);
}

// One batch of two samples, three classes, two steps.
TEST(SnnLoss, EqualTheirDefinitions) {
  const std::vector<float> v{1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1};
  const Tensor s = Tensor::from<float>(v, {2, 2, 3});
  const Tensor y = Tensor::from<int64_t>({0, 2}, {2});
  const auto ce = [](double a, double b, double c, int k) {
    const double z[] = {a, b, c};
    return std::log(std::exp(a) + std::exp(b) + std::exp(c)) - z[k];
  };
  const double steps = (ce(1, 0, 1, 0) + ce(0, 1, 0, 2) + ce(1, 1, 0, 0) + ce(0, 0, 1, 2)) / 4;
  EXPECT_NEAR(ce_rate(s, y).item(), steps, 1e-6);
  EXPECT_NEAR(ce_sum(s, y).item(), 2 * steps, 1e-6);
  EXPECT_NEAR(ce_count(s, y).item(), (ce(2, 1, 1, 0) + ce(0, 1, 1, 2)) / 2, 1e-6);
  EXPECT_NEAR(ce_max_membrane(s, y).item(), (ce(1, 1, 1, 0) + ce(0, 1, 1, 2)) / 2, 1e-6);
  // rates 1 .5 .5 against 1 0 0; 0 .5 .5 against 0 0 1
  EXPECT_NEAR(mse_rate(s, y).item(), (.25 + .25 + .25 + .25) / 6, 1e-6);
  // counts 2 1 1 against 2 0 0; 0 1 1 against 0 0 2; over T
  EXPECT_NEAR(mse_count(s, y).item(), (1 + 1 + 1 + 1) / 6. / 2, 1e-6);
  EXPECT_NEAR(mse_count(s, y, .5, .5).item(), (1. + 1) / 6 / 2, 1e-6);
  EXPECT_NEAR(l1_rate(s, .3).item(), .3 * 6 / 12, 1e-6);
  EXPECT_EQ(most_spikes(s).values<int64_t>(), (std::vector<int64_t>{0, 1}));
  // Bits count as the numbers do.
  const Tensor bits = cast(s, DType::spike);
  EXPECT_EQ(ce_count(bits, y).item(), ce_count(s, y).item());
  EXPECT_EQ(ce_rate(bits, y).item(), ce_rate(s, y).item());
  EXPECT_EQ(mse_rate(bits, y).item(), mse_rate(s, y).item());
  EXPECT_THROW(ce_count(s, Tensor::from<int64_t>({0}, {1})), shape_error);
}

}  // namespace
}  // namespace wattle
