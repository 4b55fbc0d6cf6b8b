// A tape inside a tape gives second derivatives: the inner one's backward is made of ops, and the
// outer one records them. Newton's method needs both derivatives.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "autograd/tape.h"
#include "ops/ops.h"

using namespace wattle;

namespace {

// f(x) = log(1 + e^x) - 0.3 x, so f' = sigmoid(x) - 0.3 and f'' = sigmoid(x) (1 - sigmoid(x)).
Tensor f(const Tensor& x) { return sub(log(scale(exp(x), 1, 1)), scale(x, 0.3)); }

struct Derivatives {
  double value, first, second;
};

Derivatives derivatives(double at) {
  const Tensor x = Tensor::scalar(at, DType::f64);
  Tape outer;
  outer.watch(x);
  Tensor value, first;
  {
    Tape inner;
    inner.watch(x);
    value = f(x);
    first = inner.gradient(value, {x})[0];
  }
  const Tensor second = outer.gradient(first, {x})[0];
  return {value.item(), first.item(), second.item()};
}

}  // namespace

int main() {
  const double minimum = std::log(0.3 / 0.7);
  double x = 1, worst = 0;
  for (int i = 0; i < 6; ++i) {
    const Derivatives d = derivatives(x);
    const double s = 1 / (1 + std::exp(-x));
    worst = std::max({worst, std::fabs(d.first - (s - 0.3)), std::fabs(d.second - s * (1 - s))});
    std::printf("x %9.6f  f %8.6f  f' %9.6f  f'' %8.6f\n", x, d.value, d.first, d.second);
    x -= d.first / d.second;
  }
  std::printf("minimum at %.12f, expected %.12f; derivatives differ from the formulas by %.1e\n", x,
              minimum, worst);
  return std::fabs(x - minimum) < 1e-12 && worst < 1e-12 ? 0 : 1;
}
