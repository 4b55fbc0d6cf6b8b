// The tape: ops in the order in which they ran, and the walk back over them.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/counters.h"
#include "core/recorder.h"

namespace wattle {

/// Memory for time: of the ops that run while it lives, the tape keeps what they are given from
/// outside and nothing that they compute. Backward runs them once more, in phase `backward` and
/// credited to their layers, and gives the gradients that it would have given, to the bit. What an
/// op writes in place (the running statistics of batch_norm) is not written a second time.
///
///   Tensor y = [&] { const Recompute less; return block(x); }();
///
/// Within another one it changes nothing.
class Recompute {
 public:
  Recompute();
  ~Recompute();
  Recompute(const Recompute&) = delete;
  Recompute& operator=(const Recompute&) = delete;
  /// Number of the one in force on this thread; 0: none.
  static int now();

 private:
  int outer_;
};

/// Records every op of its thread while it lives, and computes gradients by walking backwards.
///
///   Tape tape;
///   Tensor loss = cross_entropy(model(x), y);
///   tape.backward(loss);            // accumulates into p.grad() of every leaf
///
/// Nothing is recorded while no Tape lives, so inference needs no switch. A flat vector, no
/// recursion: depth is limited by memory alone. Tapes nest: an inner tape's backward is made of
/// ops, which the outer tape records, so that it can differentiate them again.
class Tape final : public Recorder {
 public:
  Tape() = default;
  ~Tape() override = default;

  /// Tracks `x` although it has no requires_grad; gradient() can then be asked for it.
  void watch(const Tensor& x);

  /// Adds d(loss)/d(leaf) to grad() of every leaf that requires it. `grad_out` is the upstream
  /// gradient and defaults to 1 for a loss of one element; another loss without it is a
  /// shape_error. The tape is empty afterwards: saved tensors are freed node by node as the walk
  /// passes them.
  void backward(const Tensor& loss, const Tensor& grad_out = {});

  /// d(y)/d(x) for every x in `xs`; undefined where y does not depend on x. With keep, the tape can
  /// be walked again.
  Tensors gradient(const Tensor& y, const Tensors& xs, const Tensor& grad_out = {},
                   bool keep = false);

  /// What a node holds, for printing. An operand is known by its slot number.
  struct Edge {
    int32_t slot = -1;     ///< -1 = no gradient flows here
    bool present = false;  ///< false = optional operand that was not given
    Meta meta;
    Tensor saved;  ///< defined when the op declares that backward may read it
    uint64_t version = 0;
    int from = -1, from_out = 0;  ///< node of the same Recompute that computes it, and which output
  };
  struct Node {
    const OpBase* op = nullptr;
    std::shared_ptr<const void> attr;
    const char* kernel = "";
    Cost cost;
    double ns = 0;
    int scope = 0;
    size_t first_edge = 0;
    int ins = 0, outs = 0;
    int again = 0;  ///< number of the Recompute that it ran under; 0: none, or run again already
  };
  const std::vector<Node>& nodes() const { return nodes_; }
  std::span<const Edge> ins(const Node& n) const;
  std::span<const Edge> outs(const Node& n) const;
  /// Slot of a tensor; -1 when no gradient flows to it.
  int32_t slot_of(const Tensor& t) const;
  /// Called for each node as backward passes it, with the gradients of its outputs and inputs.
  using Observer = void (*)(void* ctx, const Tape&, size_t node, Ins grad_out, Ins grad_in);
  void observe(Observer fn, void* ctx) { observer_ = fn, observer_ctx_ = ctx; }

  void record(const Call& call) override;
  void clear();

 private:
  struct Slot {
    Tensor grad;
    Tensor leaf;          ///< defined for leaves
    bool retain = false;  ///< gradient() was asked for it: keep it when the walk passes
  };
  class View;
  static const Tensor& unchanged(const Node& node, const Edge& e, const char* what, int i);
  int32_t track_leaf(const Tensor& t);
  void seed(const Tensor& y, const Tensor& grad_out);
  void walk(bool keep);
  void keep_only_outside(const Node& node, const Call& call);
  void run_again(size_t last);
  void keep_if(bool wanted, const Tensor& t, const Node& node, int edge);
  void step_back(size_t i, bool keep);
  void accumulate(int32_t slot, const Tensor& g, const Node& from);

  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::vector<Slot> slots_;
  std::unordered_map<uint64_t, int32_t> slot_of_uid_;
  std::unordered_map<uint64_t, std::pair<int, int>> made_by_;  ///< uid -> node and output
  bool paused_ = false;
  Observer observer_ = nullptr;
  void* observer_ctx_ = nullptr;
};

}  // namespace wattle
