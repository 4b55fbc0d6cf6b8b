// What spiking nets learn with: first spike times, normalisation over time, STDP.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/tape.h"
#include "core/error.h"
#include "core/rng.h"
#include "snn/loss.h"
#include "snn/norm.h"
#include "snn/ops.h"
#include "snn/stdp.h"

namespace wattle::snn {
namespace {

Tensor spikes_of(const std::vector<float>& v, const Shape& s) { return Tensor::from<float>(v, s); }

TEST(FirstSpikes, NoSpikeIsLaterThanTheLastStep) {
  // Three neurons over four steps: at 1, at 3, never.
  const Tensor s = spikes_of({0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0}, {4, 1, 3});
  EXPECT_EQ(first_spike_times(s).values<float>(), (std::vector<float>{1, 3, 4}));
  EXPECT_EQ(first_spike_times(cast(s, DType::spike)).values<float>(),
            (std::vector<float>{1, 3, 4}));
  Tape tape;
  tape.watch(s);
  const Tensor g = tape.gradient(sum(first_spike_times(s)), {s})[0];
  EXPECT_EQ(g.values<float>(), (std::vector<float>{0, 0, 0, -1, 0, 0, 0, 0, 0, 0, -1, 0}));
  const Tensor target = Tensor::from<int64_t>({0}, {1});
  const double e1 = std::exp(-1), e3 = std::exp(-3), e4 = std::exp(-4);
  EXPECT_NEAR(ce_ttfs(s, target).item(), -std::log(e1 / (e1 + e3 + e4)), 1e-6);
  EXPECT_NEAR(mse_ttfs(s, target).item(), (1 / 16. + 1 / 16. + 0) / 3, 1e-6);
  EXPECT_THROW(first_spike_times(Tensor::zeros({3, 4})), shape_error);
  EXPECT_THROW(ce_ttfs(s, Tensor::from<int64_t>({0, 1}, {2})), shape_error);
}

// Means and variances over steps and images of [T,N,C,H,W], by hand.
TEST(NormsOverTime, StatisticsOfStepsTogetherAndApart) {
  manual_seed(4);
  const Tensor x = uniform({3, 4, 2, 5, 5}, -1, 2);
  const std::vector<float> v = x.values<float>();
  const auto moments = [&](const std::vector<float>& y, int64_t t0, int64_t t1, int64_t c) {
    double sum = 0, squares = 0, n = 0;
    for (int64_t t = t0; t < t1; ++t)
      for (int64_t i = 0; i < 4; ++i)
        for (int64_t p = 0; p < 25; ++p) {
          const double a = y[static_cast<size_t>(((t * 4 + i) * 2 + c) * 25 + p)];
          sum += a, squares += a * a, n += 1;
        }
    return std::pair{sum / n, squares / n - sum / n * (sum / n)};
  };
  const auto td = td_batch_norm(2, 0.5, 2);
  EXPECT_EQ(td->weight.values<float>(), (std::vector<float>{1, 1}));
  const std::vector<float> a = (*td)(reshape(x, {12, 2, 5, 5})).values<float>();
  TemporalEffectiveBatchNorm te(2, 3);
  te.factor.set_data(Tensor::from<float>({1, 2, 3}, {3}));
  const std::vector<float> b = te(x).values<float>();
  BatchNormThroughTime tt(2, 3);
  const std::vector<float> c = tt(x).values<float>();
  for (int64_t ch = 0; ch < 2; ++ch) {
    EXPECT_NEAR(moments(a, 0, 3, ch).first, 0, 1e-5);
    EXPECT_NEAR(moments(a, 0, 3, ch).second, 1, 1e-3);
    for (int64_t t = 0; t < 3; ++t) {
      EXPECT_NEAR(moments(b, t, t + 1, ch).second,
                  static_cast<double>((t + 1) * (t + 1)) * moments(a, t, t + 1, ch).second, 1e-3);
      EXPECT_NEAR(moments(c, t, t + 1, ch).first, 0, 1e-5);
      EXPECT_NEAR(moments(c, t, t + 1, ch).second, 1, 1e-3);
      EXPECT_NEAR(tt.running_mean[static_cast<size_t>(t)].values<float>()[static_cast<size_t>(ch)],
                  0.1 * moments(v, t, t + 1, ch).first, 1e-5);
    }
  }
  EXPECT_EQ(tt.named_parameters().size(), 1u);  // a factor, no shift
  EXPECT_THROW(tt(uniform({2, 4, 2, 5, 5})), shape_error);
  EXPECT_THROW(te(x.defined() ? reshape(x, {12, 2, 5, 5}) : x), shape_error);
}

TEST(NormsOverTime, FoldedIntoTheConvolution) {
  manual_seed(4);
  nn::Conv2d conv(2, 3, nn::Conv2dOptions{.padding = 1, .bias = false});
  const auto norm = td_batch_norm(3, 0.7);
  const Tensor x = uniform({4, 2, 6, 6}, -1, 1);
  (*norm)(conv(x));  // statistics
  norm->eval();
  const std::vector<float> apart = scale((*norm)(conv(x)), 0.5).values<float>();
  const std::vector<float> one = (*fold(conv, *norm, 0.5))(x).values<float>();
  for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(one[i], apart[i], 1e-5);
  EXPECT_THROW(fold(conv, *td_batch_norm(4)), shape_error);
}

// The rule in loops, coincident spikes included.
TEST(Stdp, IsTheRuleOfTraces) {
  manual_seed(6);
  constexpr int64_t steps = 12, n = 2, in = 3, out = 4;
  const StdpAttr a{.tau_pre = 3, .tau_post = 5, .a_pre = 0.4, .a_post = 0.7, .mu = 0.5};
  Stdp rule(a);
  std::vector<double> pre(n * in), post(n * out);
  const Tensor w = uniform({out, in}, 0, 1);
  for (int64_t t = 0; t < steps; ++t) {
    const Tensor p = fire(uniform({n, in}, -1, 1), {}), q = fire(uniform({n, out}, -1, 1), {});
    const std::vector<float> dw =
        rule.step(t % 2 ? p : cast(p, DType::spike), q, w).values<float>();
    const std::vector<float> sp = p.values<float>(), sq = q.values<float>(), wv = w.values<float>();
    for (size_t i = 0; i < pre.size(); ++i) pre[i] = pre[i] * (1 - 1 / a.tau_pre) + sp[i];
    for (size_t i = 0; i < post.size(); ++i) post[i] = post[i] * (1 - 1 / a.tau_post) + sq[i];
    for (size_t o = 0; o < out; ++o)
      for (size_t i = 0; i < in; ++i) {
        double expected = 0;
        for (size_t b = 0; b < n; ++b)
          expected += a.a_post * std::sqrt(1 - wv[o * in + i]) * sq[b * out + o] * pre[b * in + i] -
                      a.a_pre * std::sqrt(wv[o * in + i]) * post[b * out + o] * sp[b * in + i];
        ASSERT_NEAR(dw[o * in + i], expected, 1e-5) << t;
      }
  }
  // Before, then after: the weight grows; the other way round it shrinks.
  const Tensor on = Tensor::ones({1, 1}), none = Tensor::zeros({1, 1}),
               half = Tensor::full({1, 1}, 0.5);
  Stdp one({});
  one.step(on, none, half);
  EXPECT_GT(one.step(none, on, half).item(), 0);
  one.reset();
  one.step(none, on, half);
  EXPECT_LT(one.step(on, none, half).item(), 0);
  EXPECT_THROW(Stdp({.tau_pre = 0.5}), value_error);
  EXPECT_THROW(one.step(on, none, Tensor::zeros({2, 1})), shape_error);
}

}  // namespace
}  // namespace wattle::snn
