#include "green/nets.h"

#include <algorithm>

#include "core/error.h"

namespace wattle::green {

ImageSpec image_spec(const std::string& dataset) {
  if (dataset == "fashion-mnist") return {dataset, 1, 28, 10};
  if (dataset == "cifar10") return {dataset, 3, 32, 10};
  throw value_error(str("dataset: found '", dataset, "', expected fashion-mnist or cifar10"));
}

void check_net(const NetSpec& s, const ImageSpec& image) {
  if (s.net != "cnn" && s.net != "densepoly" && s.net != "denselinear" && s.net != "lenet5")
    throw value_error(
        str("--net: found '", s.net, "', expected cnn, densepoly, denselinear or lenet5"));
  if (s.linear < 1 || s.linear > 64)
    throw value_error(str("--linear: found ", s.linear, ", expected 1 to 64 linear layers"));
  int most = 0;
  for (int64_t side = image.height; side >= 2; side /= 2) ++most;
  if (s.net == "cnn" && (s.conv < 1 || s.conv > most))
    throw value_error(str("--conv: found ", s.conv, ", expected 1 to ", most,
                          " blocks for images of ", image.height, " x ", image.height,
                          " (each halves them)"));
}

namespace {
std::shared_ptr<nn::Sequential> lenet5(const ImageSpec& image) {
  auto net = std::make_shared<nn::Sequential>();
  const auto relu = [] { return std::make_shared<nn::ReLU>(); };
  const auto pool = [] { return std::make_shared<nn::MaxPool2d>(2); };
  const int64_t pad = image.height < 32 ? 2 : 0;
  const int64_t last = ((image.height + 2 * pad - 4) / 2 - 4) / 2;  // after both pools
  net->add("conv1", std::make_shared<nn::Conv2d>(image.channels, 6,
                                                 nn::Conv2dOptions{.kernel = 5, .padding = pad}));
  net->add("relu1", relu()).add("pool1", pool());
  net->add("conv2", std::make_shared<nn::Conv2d>(6, 16, nn::Conv2dOptions{.kernel = 5}));
  net->add("relu2", relu()).add("pool2", pool()).add("flatten", std::make_shared<nn::Flatten>());
  net->add("linear1", std::make_shared<nn::Linear>(16 * last * last, 120)).add("relu3", relu());
  net->add("linear2", std::make_shared<nn::Linear>(120, 84)).add("relu4", relu());
  net->add("linear3", std::make_shared<nn::Linear>(84, image.classes));
  return net;
}
}  // namespace

std::shared_ptr<nn::Sequential> make_net(const NetSpec& s, const ImageSpec& image) {
  check_net(s, image);
  if (s.net == "lenet5") return lenet5(image);
  auto net = std::make_shared<nn::Sequential>();
  const int64_t pixels = image.channels * image.height * image.height;
  int64_t features = pixels;
  if (s.net == "cnn") {
    int64_t channels = image.channels, side = image.height;
    for (int d = 1; d <= s.conv; ++d) {
      const std::string number = std::to_string(d);
      net->add("conv" + number, std::make_shared<nn::Conv2d>(channels, channels * 3,
                                                             nn::Conv2dOptions{.padding = 1}));
      channels *= 3;
      net->add("bn" + number, std::make_shared<nn::BatchNorm2d>(channels));
      if (s.relu) net->add("relu" + number, std::make_shared<nn::ReLU>());
      net->add("pool" + number, std::make_shared<nn::MaxPool2d>(2));
      side /= 2;
    }
    features = channels * side * side;
  }
  net->add("flatten", std::make_shared<nn::Flatten>());
  for (int k = 1; k <= s.linear; ++k) {
    int64_t units = image.classes;
    if (k < s.linear)
      units = s.net == "denselinear" ? pixels * (s.linear - k) / s.linear
                                     : std::max(k < 40 ? pixels >> k : int64_t{0}, image.channels);
    net->add("linear" + std::to_string(k), std::make_shared<nn::Linear>(features, units));
    features = units;
  }
  return net;
}

}  // namespace wattle::green
