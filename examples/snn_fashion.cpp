// A spiking net of 784-1000-10 leaky neurons on Fashion-MNIST, 25 steps, one epoch.
// usage: example_snn_fashion [tutorial|ours] [SEEDS] [FOLDER OF THE DATA SET]
// tutorial: the recipe of snnTorch's fifth tutorial: Adam 5e-4, batch 128, the sum over steps of
// the cross-entropy of the output's potentials; the class with the most spikes wins. ours: a
// learning rate of 3e-3 that falls along a cosine, a decay of .9 for .95, and an output that
// integrates instead of firing; the class with the highest mean potential wins.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "autograd/tape.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/loader.h"
#include "nn/layers.h"
#include "nn/optim.h"
#include "snn/layers.h"
#include "snn/loss.h"

using namespace wattle;

namespace {

constexpr int64_t kSteps = 25;

struct Outputs {
  Tensor spikes, potentials;  // [T,N,10]
  double hidden_rate;
};

class Net final : public nn::Module {
 public:
  explicit Net(bool integrates)
      : fc1_(register_module("fc1", std::make_shared<nn::Linear>(784, 1000))),
        fc2_(register_module("fc2", std::make_shared<nn::Linear>(1000, 10))) {
    hidden_ = snn::preset::snntorch_leaky(integrates ? .9 : .95);
    output_ = hidden_;
    if (integrates) output_.reset = "none";
    hidden_.steps = kSteps;
  }
  Outputs run(const Tensor& images) {
    const int64_t n = images.size(0);
    // The current is the same in every step, so the first layer runs once.
    const Tensor current = reshape((*fc1_)(reshape(images, {n, 784})), {1, n, 1000});
    const Tensor hidden = neuron(current, {}, {}, hidden_)[0];
    const Tensor in = reshape((*fc2_)(reshape(hidden, {kSteps * n, 1000})), {kSteps, n, 10});
    const Tensors out = neuron(in, {}, {}, output_);
    const NoRecord off;
    return {out[0], out[2], mean(hidden).item()};
  }
  Tensor forward(const Tensor& x) override { return run(x).potentials; }
  const char* kind() const override { return "Net"; }

 private:
  std::shared_ptr<nn::Linear> fc1_, fc2_;
  NeuronAttr hidden_, output_;
};

struct Recipe {
  bool ours;
  double lr() const { return ours ? 3e-3 : 5e-4; }
  Tensor loss(const Outputs& o, const Tensor& labels) const {
    return ours ? cross_entropy(mean(o.potentials, {0}), labels)
                : snn::ce_sum(o.potentials, labels);
  }
  Tensor guess(const Outputs& o) const {
    return ours ? argmax(mean(o.potentials, {0}), 1) : snn::most_spikes(o.spikes);
  }
};

double accuracy(Net& net, const Recipe& recipe, const data::Dataset& test) {
  const NoRecord off;
  data::DataLoader loader(test, {.batch = 500, .shuffle = false});
  int64_t right = 0;
  for (const data::Batch& b : loader) {
    const auto guess = recipe.guess(net.run(to_float(b.images))).values<int64_t>();
    const auto truth = b.labels.values<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) right += guess[i] == truth[i];
  }
  return static_cast<double>(right) / static_cast<double>(test.rows());
}

void train(const Recipe& recipe, uint64_t seed, const data::Split& split) {
  manual_seed(seed);
  Net net(recipe.ours);
  const std::unique_ptr<nn::Optimizer> adam =
      nn::make_optimizer("adam", net.named_parameters(), recipe.lr());
  data::DataLoader loader(split.train, {.batch = 128, .seed = seed, .drop_last = true});
  const auto start = std::chrono::steady_clock::now();
  int64_t step = 0;
  double rate = 0;
  for (const data::Batch& b : loader) {
    adam->lr = recipe.lr() * (recipe.ours ? nn::cosine_schedule(step, loader.batches()) : 1);
    ++step;
    adam->zero_grad();
    Tape tape;
    const Outputs o = net.run(to_float(b.images));
    const Tensor loss = recipe.loss(o, b.labels);
    tape.backward(loss);
    adam->step();
    rate += o.hidden_rate;
    if (step % 100 == 0)
      std::fprintf(stderr, "seed %d step %d loss %.3f\n", static_cast<int>(seed),
                   static_cast<int>(step), loss.item());
  }
  const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("seed %d: accuracy %.4f, %.1f s, hidden neurons fire in %.1f %% of the steps\n",
              static_cast<int>(seed), accuracy(net, recipe, split.test), s,
              100 * rate / static_cast<double>(step));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string name = argc > 1 ? argv[1] : "tutorial";
    if (name != "tutorial" && name != "ours")
      throw value_error("usage: example_snn_fashion [tutorial|ours] [SEEDS] [FOLDER]");
    const int seeds = argc > 2 ? std::atoi(argv[2]) : 1;
    const data::Split split = data::load("fashion-mnist", argc > 3 ? argv[3] : "");
    for (int seed = 1; seed <= seeds; ++seed)
      train({name == "ours"}, static_cast<uint64_t>(seed), split);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
