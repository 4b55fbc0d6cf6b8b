#include <cstdio>

#include "autograd/tape.h"
#include "green/ledger.h"
#include "nn/layers.h"
#include "nn/optim.h"
using namespace wattle;

int main() {
  nn::Sequential net;
  net.add("conv", std::make_shared<nn::Conv2d>(1, 8, nn::Conv2dOptions{.kernel = 3, .padding = 1}));
  net.add("relu", std::make_shared<nn::ReLU>()).add("flatten", std::make_shared<nn::Flatten>());
  net.add("linear", std::make_shared<nn::Linear>(8 * 28 * 28, 10));
  nn::Adam adam(net.named_parameters(), {.lr = 1e-3});
  const Tensor images = uniform({64, 1, 28, 28}), labels = Tensor::zeros({64}, DType::i64);
  counters().clear();  // from here on: one training step
  Tape tape;
  tape.backward(cross_entropy(net(images), labels));
  adam.step();
  for (const green::LedgerRow& r : green::make_ledger(counters(), green::module_kinds(net)).rows)
    std::printf("%-8s%-9s%11.0f FLOP %8.0f B %7.3f ms  %s\n", r.layer.c_str(), name(r.phase).data(),
                1.0 * r.cost.flops(), 1.0 * r.cost.bytes(), r.ns / 1e6, r.joules.str().c_str());
}
