// The exclusive or: a module of one's own, a tape, an optimiser. Nothing else is needed to train.
#include <cstdio>

#include "autograd/tape.h"
#include "core/rng.h"
#include "nn/layers.h"
#include "nn/optim.h"

using namespace wattle;

namespace {

// x [N,2] -> [N,1]. A module registers what it holds and calls ops; it computes nothing itself.
class Net final : public nn::Module {
 public:
  Tensor forward(const Tensor& x) override { return (*out_)(tanh((*hidden_)(x))); }
  const char* kind() const override { return "Xor"; }

 private:
  std::shared_ptr<nn::Linear> hidden_ =
      register_module("hidden", std::make_shared<nn::Linear>(2, 8));
  std::shared_ptr<nn::Linear> out_ = register_module("out", std::make_shared<nn::Linear>(8, 1));
};

}  // namespace

int main() {
  manual_seed(1);
  const Tensor x = Tensor::from<float>({0, 0, 0, 1, 1, 0, 1, 1}, {4, 2});
  const Tensor y = Tensor::from<float>({0, 1, 1, 0}, {4, 1});
  Net net;
  nn::Adam adam(net.named_parameters(), {.lr = 0.05});
  for (int step = 1; step <= 300; ++step) {
    adam.zero_grad();
    Tape tape;
    const Tensor loss = mse_loss(net(x), y);
    tape.backward(loss);
    adam.step();
    if (step % 60 == 0) std::printf("step %3d  loss %.6f\n", step, loss.item());
  }
  // No tape lives here, so nothing is recorded.
  const auto guess = net(x).values<float>();
  const auto truth = y.values<float>();
  bool right = true;
  for (size_t i = 0; i < guess.size(); ++i) {
    std::printf("%d xor %d = %5.2f\n", static_cast<int>(i / 2), static_cast<int>(i % 2),
                static_cast<double>(guess[i]));
    right = right && (guess[i] > 0.5f) == (truth[i] > 0.5f);
  }
  const Row& total = counters().total();
  std::printf("%lld calls of ops, %lld FLOP, %lld unique bytes\n",
              static_cast<long long>(total.calls), static_cast<long long>(total.cost.flops()),
              static_cast<long long>(total.cost.bytes()));
  return right ? 0 : 1;
}
