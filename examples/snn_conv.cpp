// A convolutional spiking net on Fashion-MNIST: 4 steps, batch normalisation over steps and images
// together, the last 5000 training images pick the epoch, the test set is passed once.
// usage: example_snn_conv [EPOCHS] [SEED] [FOLDER OF THE DATA SET]; an epoch takes about a minute
// on 2 cores, six reach 0.92
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "autograd/tape.h"
#include "core/rng.h"
#include "data/loader.h"
#include "green/accuracy.h"
#include "nn/layers.h"
#include "nn/optim.h"
#include "snn/layers.h"

using namespace wattle;

namespace {

constexpr int64_t kSteps = 4;

class Net final : public nn::Module {
 public:
  Net() {
    const nn::Conv2dOptions same{.padding = 1, .bias = false};
    const auto conv = [&](const char* name, int64_t in, int64_t out) {
      return register_module(name, std::make_shared<nn::Conv2d>(in, out, same));
    };
    const auto norm = [&](const char* name, int64_t channels) {
      return register_module(name, std::make_shared<nn::BatchNorm2d>(channels));
    };
    conv1_ = conv("conv1", 1, 32), bn1_ = norm("bn1", 32);
    conv2_ = conv("conv2", 32, 64), bn2_ = norm("bn2", 64);
    fc1_ = register_module("fc1", std::make_shared<nn::Linear>(64 * 7 * 7, 256));
    fc2_ = register_module("fc2", std::make_shared<nn::Linear>(256, 10));
    attr_ = snn::preset::spikingjelly_lif(2, false, {}, true);
    attr_.surrogate = "atan", attr_.slope = 2;
  }
  // Steps are folded into the batch wherever there is no state.
  Tensor forward(const Tensor& images) override {
    const int64_t n = images.size(0);
    NeuronAttr first = attr_;
    first.steps = kSteps;  // the image's current is the same in every step
    Tensor x = (*bn1_)((*conv1_)(images));
    x = neuron(reshape(x, {1, n, 32, 28, 28}), {}, {}, first)[0];
    x = max_pool2d(reshape(x, {kSteps * n, 32, 28, 28}), 2, 2);
    x = (*bn2_)((*conv2_)(x));
    x = neuron(reshape(x, {kSteps, n, 64, 14, 14}), {}, {}, attr_)[0];
    x = max_pool2d(reshape(x, {kSteps * n, 64, 14, 14}), 2, 2);
    x = (*fc1_)(reshape(x, {kSteps * n, 64 * 7 * 7}));
    x = neuron(reshape(x, {kSteps, n, 256}), {}, {}, attr_)[0];
    x = (*fc2_)(reshape(x, {kSteps * n, 256}));
    return mean(reshape(x, {kSteps, n, 10}), {0});
  }
  const char* kind() const override { return "Net"; }

 private:
  std::shared_ptr<nn::Conv2d> conv1_, conv2_;
  std::shared_ptr<nn::BatchNorm2d> bn1_, bn2_;
  std::shared_ptr<nn::Linear> fc1_, fc2_;
  NeuronAttr attr_;
};

double evaluate(Net& net, const data::Dataset& d) {
  net.eval();
  const double a = green::accuracy_of(net, d);
  net.train();
  return a;
}

void train(int64_t epochs, uint64_t seed, const data::Split& split) {
  const int64_t all = split.train.rows(), cut = all - 5000;
  const data::Dataset training = green::rows_of(split.train, 0, cut);
  const data::Dataset held_out = green::rows_of(split.train, cut, all);
  manual_seed(seed);
  Net net;
  constexpr double lr = 3e-3;
  const auto adam = nn::make_optimizer("adamw", net.named_parameters(), lr);
  data::DataLoader loader(training, {.batch = 100, .seed = seed, .drop_last = true});
  const auto start = std::chrono::steady_clock::now();
  double best = 0;
  nn::StateDict weights;
  int64_t step = 0, taken = 0;
  for (int64_t e = 1; e <= epochs; ++e) {
    for (const data::Batch& b : loader) {
      adam->lr = lr * nn::cosine_schedule(step++, epochs * loader.batches());
      adam->zero_grad();
      Tape tape;
      tape.backward(cross_entropy(net(to_float(b.images)), b.labels));
      adam->step();
    }
    const double a = evaluate(net, held_out);
    std::printf("epoch %d: validation %.4f, %.0f s\n", static_cast<int>(e), a,
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    std::fflush(stdout);
    if (a <= best) continue;
    best = a, taken = e, weights.clear();
    for (const nn::Named& p : net.state_dict()) {
      const NoRecord off;
      weights.push_back({p.name, scale(p.tensor, 1)});
    }
  }
  net.load_state_dict(weights);
  std::printf("seed %d, epoch %d of %d: test accuracy %.4f\n", static_cast<int>(seed),
              static_cast<int>(taken), static_cast<int>(epochs), evaluate(net, split.test));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const data::Split split = data::load("fashion-mnist", argc > 3 ? argv[3] : "");
    train(argc > 1 ? std::max(1, std::atoi(argv[1])) : 1,
          argc > 2 ? static_cast<uint64_t>(std::atoi(argv[2])) : 1, split);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
