// A convolutional net on Fashion-MNIST, one epoch, and what each of its layers cost.
// usage: example_fashion_cnn [FOLDER OF THE DATA SET]      `./wattle data fashion-mnist` gets it
#include <cstdio>

#include "autograd/tape.h"
#include "core/rng.h"
#include "data/loader.h"
#include "green/ledger.h"
#include "green/nets.h"
#include "nn/optim.h"

using namespace wattle;

namespace {

// One step on images u8 [N,1,28,28] and labels i64 [N]; the loss.
double step(nn::Sequential& net, nn::Optimizer& adam, const data::Batch& b) {
  adam.zero_grad();
  Tape tape;
  Tensor x;
  {
    const PhaseScope phase(Phase::data);
    const Scope scope("data");
    x = to_float(b.images);  // bytes become numbers in the first op, which is counted
  }
  const Tensor logits = net(x);
  Tensor loss;
  {
    const Scope scope("loss");
    loss = cross_entropy(logits, b.labels);
  }
  tape.backward(loss);
  adam.step();
  return loss.item();
}

double accuracy(nn::Sequential& net, const data::Dataset& test) {
  net.eval();
  data::DataLoader loader(test, {.batch = 1000, .shuffle = false});
  int64_t right = 0;
  for (const data::Batch& b : loader) {
    const auto guess = argmax(net(to_float(b.images)), 1).values<int64_t>();
    const auto truth = b.labels.values<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) right += guess[i] == truth[i];
  }
  net.train();
  return static_cast<double>(right) / static_cast<double>(test.rows());
}

void print(const green::Ledger& ledger) {
  std::printf("%-8s %-12s %-10s %8s %12s %10s  %s\n", "layer", "kind", "phase", "ms", "MFLOP", "MB",
              "energy");
  for (const green::LedgerRow& r : ledger.rows)
    std::printf("%-8s %-12s %-10s %8.1f %12.2f %10.2f  %s\n", r.layer.c_str(), r.kind.c_str(),
                name(r.phase).data(), r.ns * 1e-6, double(r.cost.flops()) * 1e-6,
                double(r.cost.bytes()) * 1e-6, r.joules.str().c_str());
  std::printf("%-32s %8.1f %12.2f %10.2f  %s\n", "total", ledger.ns * 1e-6,
              double(ledger.cost.flops()) * 1e-6, double(ledger.cost.bytes()) * 1e-6,
              ledger.joules.str().c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  const data::Split split = data::load("fashion-mnist", argc > 1 ? argv[1] : "");
  manual_seed(1);
  const auto net = green::make_net({.net = "cnn", .linear = 3, .conv = 1, .relu = true},
                                   green::image_spec("fashion-mnist"));
  nn::Adam adam(net->named_parameters(), {.lr = 1e-3});
  data::DataLoader loader(split.train, {.batch = 128, .seed = 1});
  std::printf("%lld parameters, %lld steps\n", static_cast<long long>(net->parameter_count()),
              static_cast<long long>(loader.batches()));
  counters().clear();
  int64_t done = 0;
  for (const data::Batch& b : loader) {
    const double loss = step(*net, adam, b);
    if (++done % 100 == 0)
      std::printf("step %lld  loss %.3f\n", static_cast<long long>(done), loss);
  }
  const green::Ledger ledger = green::make_ledger(counters(), green::module_kinds(*net));
  std::printf("test accuracy %.4f\n\n", accuracy(*net, split.test));
  print(ledger);
} catch (const error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
