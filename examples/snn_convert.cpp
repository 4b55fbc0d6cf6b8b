// Trains a small convolutional net on Fashion-MNIST, turns it into a spiking one and compares them.
// usage: example_snn_convert [EPOCHS] [FOLDER OF THE DATA SET]
#include <cstdio>
#include <cstdlib>

#include "autograd/tape.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "data/loader.h"
#include "nn/optim.h"
#include "snn/convert.h"

using namespace wattle;

namespace {

std::shared_ptr<nn::Sequential> make_net() {
  auto net = std::make_shared<nn::Sequential>();
  const auto block = [&](int number, int64_t in, int64_t out) {
    const std::string n = std::to_string(number);
    net->add("conv" + n, std::make_shared<nn::Conv2d>(in, out, nn::Conv2dOptions{.padding = 1}));
    net->add("bn" + n, std::make_shared<nn::BatchNorm2d>(out));
    net->add("relu" + n, std::make_shared<nn::ReLU>());
    net->add("pool" + n, std::make_shared<nn::AvgPool2d>(2));
  };
  block(1, 1, 16), block(2, 16, 32);
  net->add("flatten", std::make_shared<nn::Flatten>());
  net->add("linear1", std::make_shared<nn::Linear>(32 * 7 * 7, 128));
  net->add("relu3", std::make_shared<nn::ReLU>());
  net->add("linear2", std::make_shared<nn::Linear>(128, 10));
  return net;
}

double accuracy(nn::Module& net, const data::Dataset& test) {
  const NoRecord off;
  data::DataLoader loader(test, {.batch = 200, .shuffle = false});
  int64_t right = 0;
  for (const data::Batch& b : loader) {
    const auto guess = argmax(net(to_float(b.images)), 1).values<int64_t>();
    const auto truth = b.labels.values<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) right += guess[i] == truth[i];
  }
  return 100 * static_cast<double>(right) / static_cast<double>(test.rows());
}

void train(nn::Sequential& net, const data::Dataset& images, int epochs) {
  const auto adam = nn::make_optimizer("adam", net.named_parameters(), 1e-3);
  data::DataLoader loader(images, {.batch = 128, .seed = 1});
  for (int epoch = 0; epoch < epochs; ++epoch)
    for (const data::Batch& b : loader) {
      adam->zero_grad();
      Tape tape;
      tape.backward(cross_entropy(net(to_float(b.images)), b.labels));
      adam->step();
    }
  net.eval();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int epochs = argc > 1 ? std::atoi(argv[1]) : 1;
    const data::Split split = data::load("fashion-mnist", argc > 2 ? argv[2] : "");
    manual_seed(1);
    const auto net = make_net();
    train(*net, split.train, epochs);
    std::printf("net: %.2f %%\n", accuracy(*net, split.test));
    const Tensor calibration = to_float(data::subset(split.train, 1000, 1).images);
    for (const int64_t steps : {8, 16, 32, 50, 64}) {
      const auto spiking = snn::convert(*net, calibration, {.steps = steps});
      std::printf("%2d steps: %.2f %%, rates", static_cast<int>(steps),
                  accuracy(*spiking, split.test));
      for (double r : spiking->rates()) std::printf(" %.3f", r);
      std::printf("\n");
      std::fflush(stdout);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
