// The tape: gradients, accumulation, second derivatives, depth, and the errors it gives.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <thread>

#include "autograd/tape.h"
#include "core/rng.h"
#include "ops/ops.h"

namespace wattle {
namespace {

Tensor random64(const Shape& shape, uint64_t seed) {
  Tensor t = Tensor::empty(shape, DType::f64);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<double>()[i] = 2 * uniform_at(seed, static_cast<uint64_t>(i)) - 1;
  return t;
}

TEST(Tape, NothingIsRecordedWithoutOne) {
  Tensor x = random64({3}, 1).set_requires_grad();
  const Tensor y = sum(mul(x, x));
  Tape tape;
  EXPECT_EQ(tape.nodes().size(), 0u);
  EXPECT_THROW(tape.backward(y), autograd_error);
}

TEST(Tape, ClosedFormOfASmallNet) {
  // x [5,7] W1 [7,9] relu W2 [9,3], loss = sum(y * y): 900 FLOP forward, 1170 backward in the
  // matrix products (x needs no gradient).
  Tensor w1 = random64({7, 9}, 2).set_requires_grad(), w2 = random64({9, 3}, 3).set_requires_grad();
  counters().clear();
  Tape tape;
  const Tensor y = matmul(relu(matmul(random64({5, 7}, 1), w1)), w2);
  const int64_t forward = counters().total().cost.flops_weighted();
  tape.backward(sum(mul(y, y)));
  EXPECT_EQ(forward, 900);
  EXPECT_EQ(counters().total().cost.flops_weighted() - forward, 1170);
  EXPECT_EQ(w1.grad().shape(), w1.shape());
}

TEST(Tape, GradientsAccumulateUntilTheyAreCleared) {
  Tensor x = Tensor::from<float>({1, 2, 3}, {3}).set_requires_grad();
  for (int i = 1; i <= 3; ++i) {
    Tape tape;
    tape.backward(sum(mul(x, x)));
    EXPECT_FLOAT_EQ(x.grad().values<float>()[2], 6.0f * static_cast<float>(i));
  }
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
}

TEST(Tape, UsedTwiceAddsUp) {
  Tensor x = Tensor::from<float>({3}, {1}).set_requires_grad();
  Tape tape;
  tape.backward(sum(add(mul(x, x), x)));
  EXPECT_FLOAT_EQ(x.grad().item(), 7);
}

TEST(Tape, DetachCutsTheFlow) {
  Tensor x = Tensor::from<float>({3}, {1}).set_requires_grad();
  Tape tape;
  tape.backward(sum(mul(x, x.detach())));
  EXPECT_FLOAT_EQ(x.grad().item(), 3);
}

TEST(Tape, GradientOfAnIntermediateResult) {
  Tape tape;
  Tensor x = Tensor::from<float>({2}, {1});
  tape.watch(x);
  const Tensor y = mul(x, x);
  const Tensors g = tape.gradient(mul(y, y), {x, y});
  EXPECT_FLOAT_EQ(g[0].item(), 32);
  EXPECT_FLOAT_EQ(g[1].item(), 8);
}

// The gradient of <grad f, v> by an outer tape against central differences of the inner gradient.
template <class F>
void check_second_derivative(F f, const Tensors& at) {
  auto first = [&](const Tensors& x, const Tensors& directions) {
    Tape inner;
    for (const Tensor& t : x) inner.watch(t);
    const Tensors g = inner.gradient(f(x), x);
    Tensor total;
    for (size_t i = 0; i < g.size(); ++i) {
      const Tensor part = sum(mul(g[i], directions[i]));
      total = total ? add(total, part) : part;
    }
    return total;
  };
  Tensors directions;
  for (size_t i = 0; i < at.size(); ++i) directions.push_back(random64(at[i].shape(), 50 + i));
  Tape outer;
  for (const Tensor& t : at) outer.watch(t);
  const Tensors analytic = outer.gradient(first(at, directions), at);
  for (size_t i = 0; i < at.size(); ++i) {
    double worst = 0, largest = 0;
    for (int64_t e = 0; e < at[i].numel(); ++e) {
      double& x = at[i].data<double>()[e];
      const double kept = x, h = 1e-5;
      x = kept + h;
      const double high = first(at, directions).item();
      x = kept - h;
      const double low = first(at, directions).item();
      x = kept;
      const double numeric = (high - low) / (2 * h);
      const double got = analytic[i] ? analytic[i].values<double>()[static_cast<size_t>(e)] : 0;
      worst = std::max(worst, std::fabs(got - numeric));
      largest = std::max({largest, std::fabs(numeric), std::fabs(got)});
    }
    EXPECT_GT(largest, 1e-3);
    EXPECT_LE(worst / largest, 1e-6) << "operand " << i;
  }
}

TEST(SecondDerivative, Matmul) {
  check_second_derivative(
      [](const Tensors& x) {
        const Tensor y = matmul(x[0], x[1]);
        return sum(mul(mul(y, y), y));
      },
      {random64({3, 4}, 1), random64({4, 2}, 2)});
}

TEST(SecondDerivative, Conv2d) {
  check_second_derivative(
      [](const Tensors& x) {
        const Tensor y = conv2d(x[0], x[1], x[2], 2, 1);
        return sum(mul(mul(y, y), y));
      },
      {random64({2, 2, 5, 4}, 1), random64({3, 2, 3, 3}, 2), random64({3}, 3)});
}

TEST(SecondDerivative, Softmax) {
  check_second_derivative(
      [](const Tensors& x) {
        const Tensor y = softmax(x[0], 1);
        return sum(mul(mul(y, y), x[1]));
      },
      {random64({3, 5}, 1), random64({3, 5}, 2)});
}

TEST(SecondDerivative, TanhAndLinear) {
  check_second_derivative([](const Tensors& x) { return sum(tanh(linear(x[0], x[1], x[2]))); },
                          {random64({3, 4}, 1), random64({2, 4}, 2), random64({2}, 3)});
}

TEST(Tape, ThreeHundredThousandNodesOnASmallStack) {
  rlimit limit{};
  getrlimit(RLIMIT_STACK, &limit);
  ASSERT_LE(limit.rlim_cur, rlim_t{8} << 20) << "run with ulimit -s 8192";
  Tensor x = Tensor::from<float>({1}, {1}).set_requires_grad();
  {
    Tape tape;
    Tensor y = x;
    for (int i = 0; i < 300000; ++i) y = scale(y, 1.0, 1e-6);
    EXPECT_EQ(tape.nodes().size(), 300000u);
    tape.backward(y);
  }
  EXPECT_FLOAT_EQ(x.grad().item(), 1);
}

TEST(Tape, OverwritingWhatItNeedsNamesBothOps) {
  Tensor w = Tensor::from<float>({1, 2}, {2}).set_requires_grad();
  const Tensor g = Tensor::ones({2});
  Tape tape;
  const Tensor y = sum(mul(w, w));
  sgd_step(w, g, {}, {.lr = 0.1});
  try {
    tape.backward(y);
    FAIL() << "backward went on with an overwritten tensor";
  } catch (const autograd_error& e) {
    EXPECT_NE(std::string(e.what()).find("mul"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("sgd_step"), std::string::npos) << e.what();
  }
}

TEST(Tape, ErrorsSayWhatIsExpected) {
  Tensor x = random64({3}, 1).set_requires_grad();
  Tape tape;
  const Tensor y = mul(x, x);
  EXPECT_THROW(tape.backward(y), shape_error);
  EXPECT_THROW(tape.backward(y, Tensor::ones({4}, DType::f64)), shape_error);
  EXPECT_THROW(Tensor::empty({2}, DType::i64).set_requires_grad(), dtype_error);
}

TEST(Tape, TwoThreadsTrainTwoModels) {
  auto train = [](uint64_t seed, float* result, int64_t* flops) {
    counters() = Counters();
    Tensor w = Tensor::from<float>({0.5f, -0.5f}, {1, 2}).set_requires_grad();
    const Tensor x = Tensor::full({4, 2}, static_cast<double>(seed));
    for (int i = 0; i < 50; ++i) {
      Tape tape;
      w.zero_grad();
      tape.backward(mean(mul(linear(x, w), linear(x, w))));
      sgd_step(w, w.grad(), {}, {.lr = 0.001});
    }
    *result = w.values<float>()[0];
    *flops = counters().total().cost.flops();
  };
  float alone[2], together[2];
  int64_t flops_alone[2], flops_together[2];
  for (uint64_t s : {1, 2}) train(s, &alone[s - 1], &flops_alone[s - 1]);
  std::thread a(train, 1, &together[0], &flops_together[0]);
  std::thread b(train, 2, &together[1], &flops_together[1]);
  a.join();
  b.join();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(alone[i], together[i]);
    EXPECT_EQ(flops_alone[i], flops_together[i]);
  }
}

}  // namespace
}  // namespace wattle
