// The meta device: every op states its exact cost, nothing is allocated and nothing is computed.
#include <cstdio>

#include "autograd/tape.h"
#include "core/recorder.h"
#include "green/ledger.h"
#include "nn/layers.h"
#include "nn/optim.h"

using namespace wattle;

namespace {

struct Step {
  int64_t params;
  green::Ledger ledger;
};

// One training step of linear layers with ReLU between them, on `device`.
Step one_step(Device device, const std::vector<int64_t>& widths, int64_t batch) {
  const DefaultDevice here(device);
  nn::Sequential net;
  for (size_t i = 1; i < widths.size(); ++i) {
    const std::string number = std::to_string(i);
    net.add("linear" + number, std::make_shared<nn::Linear>(widths[i - 1], widths[i]));
    if (i + 1 < widths.size()) net.add("relu" + number, std::make_shared<nn::ReLU>());
  }
  nn::Adam adam(net.named_parameters(), {.lr = 1e-3});
  const Tensor x = uniform({batch, widths[0]});
  const Tensor labels = Tensor::zeros({batch}, DType::i64, device);
  counters().clear();
  Tape tape;
  const Tensor logits = net(x);
  Tensor loss;
  {
    const Scope scope("loss");
    loss = cross_entropy(logits, labels);
  }
  tape.backward(loss);
  adam.step();
  return {net.parameter_count(), green::make_ledger(counters(), green::module_kinds(net))};
}

void print(const Step& s) {
  for (const green::LedgerRow& r : s.ledger.rows)
    std::printf("%-9s %-10s %9.3e FLOP  %9.3e bytes  %s\n", r.layer.c_str(), name(r.phase).data(),
                double(r.cost.flops()), double(r.cost.bytes()), r.joules.str().c_str());
  std::printf("%-20s %9.3e FLOP  %9.3e bytes  %s\n", "total", double(s.ledger.cost.flops()),
              double(s.ledger.cost.bytes()), s.ledger.joules.str().c_str());
}

}  // namespace

int main() {
  const int64_t live = memory_stats().live;
  const Step big = one_step(meta, {16384, 65536, 65536, 16384, 1000}, 8192);
  std::printf("A step of %.2f billion parameters at batch 8192, from shapes alone:\n",
              double(big.params) * 1e-9);
  print(big);
  std::printf("host memory taken by it: %lld bytes\n\n",
              static_cast<long long>(memory_stats().live - live));

  const std::vector<int64_t> small{784, 392, 196, 10};
  const Step predicted = one_step(meta, small, 128), real = one_step(cpu, small, 128);
  const bool same = predicted.ledger.cost == real.ledger.cost &&
                    predicted.ledger.executed == real.ledger.executed &&
                    predicted.ledger.joules == real.ledger.joules;
  std::printf("A small net, predicted and run: %lld and %lld FLOP, %lld and %lld bytes: %s\n",
              static_cast<long long>(predicted.ledger.cost.flops()),
              static_cast<long long>(real.ledger.cost.flops()),
              static_cast<long long>(predicted.ledger.cost.bytes()),
              static_cast<long long>(real.ledger.cost.bytes()), same ? "equal" : "DIFFERENT");
  return same ? 0 : 1;
}
