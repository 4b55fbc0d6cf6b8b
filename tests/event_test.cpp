// Event-driven products: they equal the dense ones, skip what is silent, and count what they do.
#include "snn/event.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "snn/ops.h"
#include "snn/spike.h"
#include "tests/spike_cases.h"

namespace wattle {
namespace {

using snn::Exec;
using snn::ExecScope;

// What a call executed, by the kernel that has to have run.
template <class F>
Cost executed(const char* kernel, F&& f) {
  counters().clear();
  f();
  const Row& r = counters().rows().back();
  EXPECT_STREQ(r.key.kernel, kernel);
  return r.executed;
}

void expect_near(const Tensor& a, const Tensor& b, const std::string& what) {
  const std::vector<float> x = a.values<float>(), y = b.values<float>();
  ASSERT_EQ(x.size(), y.size());
  for (size_t i = 0; i < x.size(); ++i)
    ASSERT_NEAR(x[i], y[i], 2e-5f * (1 + std::fabs(y[i]))) << what;
}

struct Levels {
  Levels() : before(simd::level()) {}
  ~Levels() { simd::set_level(before); }
  template <class F>
  void each(F&& f) {
    for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512})
      if (simd::machine_has(l)) simd::set_level(l), f();
  }
  simd::Level before;
};

TEST(EventMatmul, EqualsTheDenseOne) {
  manual_seed(1);
  const ExecScope way(Exec::event);
  Levels().each([] {
    for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1},
                                  {1, 100, 1000},
                                  {3, 65, 17},
                                  {9, 784, 33},
                                  {40, 9, 300},
                                  {1, 512, 2048}})
      for (double rate : {0., .1, .7, 1.}) {
        const Tensor s = random_spikes({m, k}, rate), w = normal({k, n});
        Tensor y;
        const Cost c = executed("event", [&] { y = matmul(s, w); });
        expect_near(y, matmul(floats(s), w), str(m, " ", k, " ", n));
        const int64_t spikes = snn::count_spikes(s);
        EXPECT_EQ(c.add, spikes * n);
        EXPECT_EQ(c.mac, 0);
        std::set<int64_t> active;
        const std::vector<float> x = floats(s).values<float>();
        for (size_t i = 0; i < x.size(); ++i)
          if (x[i] == 1) active.insert(static_cast<int64_t>(i) % k);
        EXPECT_EQ(c.read, s.nbytes() + static_cast<int64_t>(active.size()) * n * 4);
      }
  });
}

TEST(EventMatmul, SilentInputsAreNotRead) {
  manual_seed(2);
  const Tensor s = random_spikes({1, 300}, .1), w = normal({300, 200});
  const Tensor clean = w, poisoned = mul(w, Tensor::ones({1}));
  const std::vector<float> x = floats(s).values<float>();
  for (int64_t i = 0; i < 300; ++i)
    if (x[static_cast<size_t>(i)] == 0)
      std::fill_n(poisoned.data<float>() + i * 200, 200, std::nanf(""));
  const ExecScope way(Exec::event);
  EXPECT_EQ(matmul(s, poisoned).values<float>(), matmul(s, clean).values<float>());
  // Multiplying by 0 is what this finds.
  const ExecScope dense(Exec::dense);
  EXPECT_TRUE(std::isnan(matmul(s, poisoned).values<float>()[0]));
}

// linear lays its weights [out, in] out by input, and reads and writes all of them for that.
TEST(EventLinear, EqualsTheDenseOne) {
  manual_seed(4);
  const ExecScope way(Exec::event);
  Levels().each([] {
    for (const auto& [steps, n, k, out] : {std::array<int64_t, 4>{1, 1, 1, 1},
                                           {2, 3, 65, 17},
                                           {5, 1, 784, 33},
                                           {1, 40, 9, 300},
                                           {4, 2, 100, 513}})
      for (double rate : {0., .1, 1.}) {
        const Tensor s = random_spikes({steps, n, k}, rate), w = normal({out, k});
        const Tensor bias = n % 2 ? normal({out}) : Tensor{};
        Tensor y;
        const Cost c = executed("event", [&] { y = linear(s, w, bias); });
        expect_near(y, linear(floats(s), w, bias), str(steps, " ", n, " ", k, " ", out));
        EXPECT_EQ(y.shape(), (Shape{steps, n, out}));
        EXPECT_EQ(c.add, snn::count_spikes(s) * out + (bias ? y.numel() : 0));
        EXPECT_EQ(c.mac, 0);
        EXPECT_EQ(c.read, s.nbytes() + 2 * w.nbytes() + (bias ? bias.nbytes() : 0));
        EXPECT_EQ(c.written, y.nbytes() + w.nbytes());
      }
  });
}

TEST(EventLinear, WeightsOfSilentInputsDoNotCount) {
  manual_seed(5);
  const ExecScope way(Exec::event);
  const Tensor s = Tensor::zeros({3, 20}, DType::spike), w = Tensor::full({5, 20}, NAN);
  EXPECT_EQ(linear(s, w, {}).values<float>(), std::vector<float>(15, 0.0f));
}

// gy and spikes as linear's and matmul's backward multiply them.
TEST(EventGradient, EqualsTheDenseOne) {
  manual_seed(6);
  const ExecScope way(Exec::event);
  Levels().each([] {
    for (const auto& [rows, k, n] : {std::array<int64_t, 3>{1, 1, 1},
                                     {50, 65, 17},
                                     {33, 200, 300},
                                     {200, 130, 70},
                                     {3, 9, 600}})
      for (double rate : {0., .1, 1.}) {
        const Tensor s = random_spikes({rows, k}, rate), gy = normal({rows, n});
        Tensor by_output, by_input;
        const Cost c = executed(
            "event_gradient", [&] { by_output = matmul(gy, s, MatmulAttr{.transpose_a = true}); });
        const Cost d = executed("event_gradient",
                                [&] { by_input = matmul(s, gy, MatmulAttr{.transpose_a = true}); });
        const std::string what = str(rows, " ", k, " ", n, " ", rate);
        expect_near(by_output, matmul(gy, floats(s), MatmulAttr{.transpose_a = true}), what);
        EXPECT_EQ(transpose(by_output, 0, 1).values<float>(), by_input.values<float>()) << what;
        EXPECT_EQ(c.add, snn::count_spikes(s) * n);
        EXPECT_EQ(d.add, c.add);
        EXPECT_EQ(c.mac + d.mac, 0);
        EXPECT_EQ(c.written, d.written + by_input.nbytes());
      }
  });
}

// Backward of a linear layer on spikes takes that way, and credits it with additions.
TEST(EventGradient, IsWhatTrainingRuns) {
  manual_seed(7);
  const Tensor s = random_spikes({4, 8, 30}, .2), w = normal({20, 30});
  const auto gradient = [&](Exec e) {
    const ExecScope way(e);
    Tape tape;
    tape.watch(w);
    const Tensor y = linear(s, w, {});
    return tape.gradient(sum(mul(y, y)), {w})[0];
  };
  counters().clear();
  const Tensor g = gradient(Exec::event);
  bool ran = false;
  for (const Row& r : counters().rows())
    ran = ran || (std::string(r.key.kernel) == "event_gradient" && r.executed.mac == 0);
  EXPECT_TRUE(ran);
  expect_near(g, gradient(Exec::dense), "gradient");
}

TEST(EventMatmul, BitsDoNotDependOnThreads) {
  manual_seed(3);
  const ExecScope way(Exec::event);
  const int before = num_threads();
  for (const int64_t m : {1, 37}) {
    const Tensor s = random_spikes({m, 2000}, .5), w = normal({2000, 1500});
    const Tensor by_output = contiguous(transpose(w, 0, 1));
    set_num_threads(1);
    const std::vector<float> one = matmul(s, w).values<float>();
    set_num_threads(2);
    EXPECT_EQ(matmul(s, w).values<float>(), one);
    EXPECT_EQ(linear(s, by_output, {}).values<float>(), one);
    const Tensor gy = normal({m, 700});
    const auto turned = [&] { return matmul(gy, s, MatmulAttr{.transpose_a = true}); };
    const std::vector<float> two = turned().values<float>();
    set_num_threads(1);
    EXPECT_EQ(turned().values<float>(), two);
  }
  set_num_threads(before);
}

// Steps together read the weights of an input once, however many of them spike there.
TEST(EventMatmul, StepsTogetherReadWeightsOnce) {
  manual_seed(8);
  const ExecScope way(Exec::event);
  const Tensor s = random_spikes({4, 200}, .2), w = normal({200, 50});
  const auto weights = [&](const Tensor& x) {
    return executed("event", [&] { matmul(x, w); }).read - x.nbytes();
  };
  int64_t apart = 0;
  std::set<size_t> some;
  const std::vector<float> x = floats(s).values<float>();
  for (int64_t t = 0; t < 4; ++t) apart += weights(slice(s, 0, t, t + 1));
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] == 1) some.insert(i % 200);
  EXPECT_EQ(apart, snn::count_spikes(s) * 50 * 4);
  EXPECT_EQ(weights(s), static_cast<int64_t>(some.size()) * 50 * 4);
}

// Additions by brute force: a loop over outputs and taps that asks for the spike under each.
int64_t count_taps(const std::vector<float>& x, const Shape& image, const Shape& weight,
                   const Conv2dAttr& a, const Shape& y) {
  const int64_t cg = weight[1], kg = weight[0] / a.groups;
  int64_t n = 0;
  for (int64_t b = 0; b < y[0]; ++b)
    for (int64_t k = 0; k < y[1]; ++k)
      for (int64_t p = 0; p < y[2]; ++p)
        for (int64_t q = 0; q < y[3]; ++q)
          for (int64_t c = 0; c < cg; ++c)
            for (int64_t r = 0; r < weight[2]; ++r)
              for (int64_t s = 0; s < weight[3]; ++s) {
                const int64_t i = p * a.stride.h - a.padding.h + r * a.dilation.h;
                const int64_t j = q * a.stride.w - a.padding.w + s * a.dilation.w;
                if (i < 0 || j < 0 || i >= image[2] || j >= image[3]) continue;
                const int64_t ch = k / kg * cg + c;
                n += x[static_cast<size_t>(((b * image[1] + ch) * image[2] + i) * image[3] + j)] ==
                     1;
              }
  return n;
}

TEST(EventConv2d, EqualsTheDenseOneAndCountsByBruteForce) {
  const ExecScope way(Exec::event);
  Levels levels;
  for (uint64_t i = 0; i < 200; ++i) {
    manual_seed(i);
    const auto pick = [&](uint64_t at, int64_t lo, int64_t hi) {
      return lo + static_cast<int64_t>(below_at(i, at, static_cast<uint64_t>(hi - lo + 1)));
    };
    Conv2dAttr a;
    a.groups = pick(0, 1, 3);
    a.stride = Pair(pick(1, 1, 3), pick(2, 1, 3));
    a.padding = Pair(pick(3, 0, 3), pick(4, 0, 3));
    a.dilation = Pair(pick(5, 1, 2), pick(6, 1, 2));
    const int64_t r = pick(7, 1, 4), s = pick(8, 1, 4);
    const Shape image{pick(9, 1, 5), a.groups * pick(10, 1, 5), 7 + pick(11, 0, 9),
                      7 + pick(12, 0, 12)};
    const Shape weight{a.groups * pick(13, 1, 70), image[1] / a.groups, r, s};
    const Tensor x = random_spikes(image, .25), w = normal(weight);
    const Tensor bias = i % 2 ? normal({weight[0]}) : Tensor{};
    Tensor y;
    simd::set_level(i % 3 == 0 ? levels.before
                               : std::min(levels.before, static_cast<simd::Level>(i % 3 - 1)));
    const Cost c = executed("event", [&] { y = conv2d(x, w, bias, a); });
    const std::string what = str(image, " ", weight, " seed ", i);
    expect_near(y, conv2d(floats(x), w, bias, a), what);
    const int64_t taps = count_taps(floats(x).values<float>(), image, weight, a, y.shape());
    EXPECT_EQ(c.add, taps + (bias ? y.numel() : 0)) << what;
    EXPECT_EQ(c.mac, 0);
  }
}

TEST(EventConv2d, ASpikeInTheCornerMeetsFourTaps) {
  const ExecScope way(Exec::event);
  const Tensor x = Tensor::zeros({1, 1, 6, 6}, DType::spike), w = Tensor::ones({1, 1, 3, 3});
  static_cast<uint8_t*>(x.raw())[0] = 1;
  EXPECT_EQ(executed("event", [&] { conv2d(x, w, {}, 1, 1); }).add, 4);
  EXPECT_EQ(executed("event", [&] { conv2d(x, w, {}, 2, 1); }).add, 1);
}

TEST(EventConv2d, BitsDoNotDependOnThreads) {
  manual_seed(5);
  const ExecScope way(Exec::event);
  const int before = num_threads();
  for (const int64_t n : {1, 6}) {
    const Tensor x = random_spikes({n, 20, 40, 33}, .3), w = normal({70, 20, 3, 3});
    set_num_threads(1);
    const std::vector<float> one = conv2d(x, w, {}, 1, 1).values<float>();
    set_num_threads(2);
    EXPECT_EQ(conv2d(x, w, {}, 1, 1).values<float>(), one);
  }
  set_num_threads(before);
}

// Work adds up over steps and samples: nothing is taken from the first one for all.
TEST(Events, CountsAddUpOverStepsAndSamples) {
  manual_seed(6);
  const ExecScope way(Exec::event);
  const Tensor x = random_spikes({4, 3, 8, 8}, .3), w = normal({5, 3, 3, 3});
  const int64_t all = executed("event", [&] { conv2d(x, w, {}, 1, 1); }).add;
  int64_t sum = 0;
  for (int64_t i = 0; i < 4; ++i) {
    const Tensor one = slice(x, 0, i, i + 1);
    sum += executed("event", [&] { conv2d(one, w, {}, 1, 1); }).add;
  }
  EXPECT_EQ(sum, all);
  EXPECT_EQ(executed("event",
                     [&] {
                       conv2d(Tensor::zeros({2, 3, 8, 8}, DType::spike), w);
                     })
                .add,
            0);
}

TEST(Events, TheCrossoverIsWhereTheLinesMeet) {
  EXPECT_NEAR(snn::crossover_rate({1, 8, 3}), .05 + 2. / 7 * .35, 1e-12);
  EXPECT_NEAR(snn::crossover_rate({1, 8, .5}), .05 - .5 / 7 * .35, 1e-12);
  EXPECT_EQ(snn::crossover_rate({6, 41, .5}), 0);   // dense wins everywhere
  EXPECT_EQ(snn::crossover_rate({1, 2, 1000}), 2);  // events do
  // Weights that outgrow a cache: what was measured at 100 % counts more than the line up to 40 %.
  EXPECT_NEAR(snn::crossover_rate({1, 8, 30, 52}), .4 + 22. / 44 * .6, 1e-12);
  EXPECT_EQ(snn::crossover_rate({1, 8, 30, 29}), 2);
  EXPECT_NEAR(snn::crossover_rate({1, 8, 3, 0}), .05 + 2. / 7 * .35, 1e-12);
  int measured = 0;
  const auto measure = [&] {
    ++measured;
    return snn::Times{1, 8, 3};
  };
  const auto what = [] { return std::string("a product of this test"); };
  snn::crossover({-1}, what, measure);
  snn::crossover({-1}, what, measure);
  EXPECT_EQ(measured, 1);
  EXPECT_NE(snn::crossovers().find("a product of this test"), std::string::npos);
}

TEST(Events, AutomaticTakesEventsOnlyWhereTheyPay) {
  manual_seed(7);
  const ExecScope way(Exec::automatic);
  const Tensor w = normal({600, 500});
  // What was measured is not measured again: events pay up to 15 % here.
  snn::crossover(
      {1, 64, 600, 500}, [] { return std::string("given"); },
      [] {
        return snn::Times{1, 8, 3};
      });
  const auto kernel = [&](double rate) {
    counters().clear();
    matmul(random_spikes({64, 600}, rate), w);
    return std::string(counters().rows().back().key.kernel);
  };
  EXPECT_EQ(kernel(.1), "event");
  EXPECT_NE(kernel(.2), "event");
}

}  // namespace
}  // namespace wattle
