// Recompute: the tape keeps what a stretch of ops is given, and runs it again on the way back.
#include <tuple>

#include "autograd/tape.h"
#include "ops/ops.h"

namespace wattle {
namespace {

int& in_force() {
  thread_local int number = 0;
  return number;
}

}  // namespace

int Recompute::now() { return in_force(); }

Recompute::Recompute() : outer_(in_force()) {
  thread_local int count = 0;
  if (!outer_) in_force() = ++count;
}
Recompute::~Recompute() { in_force() = outer_; }

void Tape::keep_only_outside(const Node& node, const Call& call) {
  const int at = static_cast<int>(nodes_.size());
  for (size_t i = 0; i < call.in.size(); ++i) {
    if (!call.in[i]) continue;
    Edge& e = edges_[node.first_edge + i];
    const auto made = made_by_.find(call.in[i].uid());
    if (made != made_by_.end() &&
        nodes_[static_cast<size_t>(made->second.first)].again == node.again) {
      std::tie(e.from, e.from_out) = made->second;
    } else {
      e.saved = call.in[i];
      e.version = e.saved.storage().version;
    }
  }
  for (size_t i = 0; i < call.out.size(); ++i)
    made_by_[call.out[i].uid()] = {at, static_cast<int>(i)};
}

// The ops of the Recompute whose last node is `last`, once more; their nodes then hold what they
// would have held without it.
void Tape::run_again(size_t last) {
  size_t first = last;
  while (first > 0 && nodes_[first - 1].again == nodes_[last].again) --first;
  std::vector<Tensors> made;
  for (size_t i = first; i <= last; ++i) {
    const Node& node = nodes_[i];
    const Bits written = node.op->written(node.attr.get());
    Tensors in;
    for (int k = 0; k < node.ins; ++k) {
      const Edge& e = ins(node)[static_cast<size_t>(k)];
      if (e.from >= 0)
        in.push_back(made[static_cast<size_t>(e.from) - first][static_cast<size_t>(e.from_out)]);
      else if (e.saved && written.has(k))
        in.push_back(scale(e.saved, 1));  // a copy, so that nothing is written twice
      else in.push_back(unchanged(node, e, "input", k));
    }
    const Scope scope(node.scope);
    made.push_back(apply(*node.op, in, node.attr.get()));
    for (int k = 0; k < node.ins; ++k)
      keep_if(node.op->saves_in.has(k), in[static_cast<size_t>(k)], node, k);
    for (int k = 0; k < node.outs; ++k)
      keep_if(node.op->saves_out.has(k), made.back()[static_cast<size_t>(k)], node, node.ins + k);
  }
  for (size_t i = first; i <= last; ++i) nodes_[i].again = 0;
}

void Tape::keep_if(bool wanted, const Tensor& t, const Node& node, int edge) {
  Edge& e = edges_[node.first_edge + static_cast<size_t>(edge)];
  e.saved = wanted ? t : Tensor{};
  if (e.saved) e.version = e.saved.storage().version;
}

}  // namespace wattle
