// What a tape holds: the ops in the order in which they ran, what each one keeps for backward, and
// the gradients as the walk back passes them.
#include <cstdio>
#include <string>

#include "autograd/tape.h"
#include "ops/ops.h"

using namespace wattle;

namespace {

std::string text(const Tensor& t) {
  if (!t) return "none";
  std::string s = t.shape().str() + " =";
  for (double v : t.values<double>()) {
    char buf[24];
    std::snprintf(buf, sizeof buf, " %g", v);
    s += buf;
  }
  return s;
}

// "%0 [2, 3] kept": slot, shape, and whether backward may read the value.
std::string text(std::span<const Tape::Edge> edges) {
  std::string s;
  for (const Tape::Edge& e : edges) {
    s += s.empty() ? "" : ", ";
    s += e.slot < 0 ? "constant " : str("%", e.slot, " ");
    s += e.meta.shape.str();
    if (e.saved) s += " kept";
  }
  return s;
}

void print(const Tape& tape) {
  int line = 0;
  for (const Tape::Node& n : tape.nodes()) {
    std::printf("%2d  %-7s %-32s (%s) -> (%s)\n", line++, n.op->name, n.op->equation,
                text(tape.ins(n)).c_str(), text(tape.outs(n)).c_str());
    std::printf("    kernel %s, %lld FLOP, %lld comparisons, %lld bytes; %s:%d\n", n.kernel,
                static_cast<long long>(n.cost.flops()), static_cast<long long>(n.cost.cmp),
                static_cast<long long>(n.cost.bytes()), n.op->file, n.op->line);
  }
}

void passing(void*, const Tape& tape, size_t node, Ins grad_out, Ins grad_in) {
  std::printf("%2zu  %-7s from %s\n", node, tape.nodes()[node].op->name, text(grad_out[0]).c_str());
  for (size_t i = 0; i < grad_in.size(); ++i)
    std::printf("      to input %zu: %s\n", i, text(grad_in[i]).c_str());
}

}  // namespace

int main() {
  const Tensor x = Tensor::from<float>({1, -2, 3, 0, 1, -1}, {2, 3});
  Tensor w = Tensor::from<float>({1, 0, 2, -1, 0, 1}, {3, 2});
  w.set_requires_grad();

  Tape tape;
  const Tensor loss = sum(relu(matmul(x, w)));
  std::printf("loss = sum(relu(x w)) = %g\n\nforward\n", loss.item());
  print(tape);

  std::printf("\nbackward\n");
  tape.observe(passing, nullptr);
  tape.backward(loss);
  std::printf("\nw.grad() %s\n", text(w.grad()).c_str());
  std::printf("%zu nodes are left: a tape is empty after backward\n", tape.nodes().size());
}
