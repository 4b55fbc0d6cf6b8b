// The networks of the layer-cost study (Yarally et al., CAIN 2023).
#pragma once
#include <memory>
#include <string>

#include "nn/layers.h"

namespace wattle::green {

/// What the input of a net looks like.
struct ImageSpec {
  std::string dataset;
  int64_t channels = 1, height = 28, classes = 10;  ///< images are square
};
/// "fashion-mnist" (1 x 28 x 28) or "cifar10" (3 x 32 x 32); throws value_error otherwise.
ImageSpec image_spec(const std::string& dataset);

/// One network of the study.
struct NetSpec {
  std::string net = "cnn";  ///< cnn, densepoly, denselinear or lenet5
  int linear = 3;           ///< linear layers, >= 1
  int conv = 1;             ///< convolution blocks; only for cnn
  bool relu = true;         ///< ReLU in every convolution block; only for cnn
};

/// Throws value_error naming the field when the net cannot be built for these images.
void check_net(const NetSpec& spec, const ImageSpec& image);

/// Builds the net with parameters drawn from the thread's generator, on its default device.
///
/// cnn: `conv` blocks of Conv2d 3x3 (stride 1, padding 1, C * 3^(d+1) channels), BatchNorm2d,
/// [ReLU], MaxPool2d 2, then Flatten and `linear` linear layers; hidden layer k has
/// max(floor(C*H*H / 2^k), C) units. densepoly: the same linear layers on the image itself.
/// denselinear: hidden layer k has floor(C*H*H * (1 - k/linear)) units. As in the study, nothing
/// non-linear stands between linear layers. lenet5: LeCun et al., "Gradient-based learning applied
/// to document recognition", 1998, with ReLU and maxima as usual today: two convolutions 5x5 (6 and
/// 16 channels, the first padded to 32 x 32 inputs), 120, 84 and 10 units. Names: conv1, bn1,
/// relu1, pool1, flatten, linear1, ...
std::shared_ptr<nn::Sequential> make_net(const NetSpec& spec, const ImageSpec& image);

}  // namespace wattle::green
