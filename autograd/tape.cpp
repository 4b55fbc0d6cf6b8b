#include "autograd/tape.h"

#include "ops/ops.h"

namespace wattle {

// The window through which an op's backward sees the past: declared tensors only, unchanged only.
class Tape::View final : public SavedBase {
 public:
  View(const Tape& tape, const Node& node) : tape_(tape), node_(node) {}
  Tensor in(int i) const override {
    check_index(i, node_.ins, "input");
    if (!node_.op->saves_in.has(i)) undeclared("input", i, "saves_in");
    return unchanged(node_, tape_.ins(node_)[static_cast<size_t>(i)], "input", i);
  }
  Tensor out(int i) const override {
    check_index(i, node_.outs, "output");
    if (!node_.op->saves_out.has(i)) undeclared("output", i, "saves_out");
    return unchanged(node_, tape_.outs(node_)[static_cast<size_t>(i)], "output", i);
  }
  Meta in_meta(int i) const override {
    check_index(i, node_.ins, "input");
    return tape_.ins(node_)[static_cast<size_t>(i)].meta;
  }
  int in_count() const override { return node_.ins; }
  bool has(int i) const override { return tape_.ins(node_)[static_cast<size_t>(i)].present; }
  bool needs(int i) const override {
    return i < node_.ins && tape_.ins(node_)[static_cast<size_t>(i)].slot >= 0;
  }
  const void* attr_ptr() const override { return node_.attr.get(); }

 private:
  void check_index(int i, int n, const char* what) const {
    if (i < 0 || i >= n)
      throw autograd_error(str(node_.op->name, ": backward asks for ", what, " ", i, " of ", n));
  }
  [[noreturn]] void undeclared(const char* what, int i, const char* field) const {
    throw autograd_error(str(node_.op->name, ": backward reads ", what, " ", i, ", but ",
                             node_.op->name, " does not declare it in ", field));
  }
  const Tape& tape_;
  const Node& node_;
};

const Tensor& Tape::unchanged(const Node& node, const Edge& e, const char* what, int i) {
  if (e.saved && e.saved.storage().version != e.version)
    throw autograd_error(str(node.op->name, ": backward needs ", what, " ", i, " (", e.saved,
                             ") as it was, but ", e.saved.storage().last_writer,
                             " has overwritten it in place"));
  return e.saved;
}

std::span<const Tape::Edge> Tape::ins(const Node& n) const {
  return {edges_.data() + n.first_edge, static_cast<size_t>(n.ins)};
}
std::span<const Tape::Edge> Tape::outs(const Node& n) const {
  return {edges_.data() + n.first_edge + n.ins, static_cast<size_t>(n.outs)};
}

int32_t Tape::slot_of(const Tensor& t) const {
  if (!t) return -1;
  const auto it = slot_of_uid_.find(t.uid());
  return it == slot_of_uid_.end() ? -1 : it->second;
}

int32_t Tape::track_leaf(const Tensor& t) {
  const int32_t slot = static_cast<int32_t>(slots_.size());
  slots_.push_back({.leaf = t});
  slot_of_uid_.emplace(t.uid(), slot);
  return slot;
}

void Tape::watch(const Tensor& x) {
  if (!is_floating(x.dtype()))
    throw dtype_error(str("Tape::watch: found ", x, ", expected a floating dtype"));
  if (slot_of(x) < 0) track_leaf(x);
}

void Tape::record(const Call& call) {
  if (paused_) return;
  Node node{.op = call.op,
            .kernel = call.kernel,
            .cost = call.cost,
            .ns = call.ns,
            .scope = counters().current,
            .first_edge = edges_.size(),
            .ins = static_cast<int>(call.in.size()),
            .outs = static_cast<int>(call.out.size()),
            .again = Recompute::now()};
  bool tracked = false;
  for (size_t i = 0; i < call.in.size(); ++i) {
    const Tensor& t = call.in[i];
    Edge e;
    if (t) {
      e.present = true;
      e.meta = t.meta();
      if (is_floating(t.dtype())) {
        e.slot = slot_of(t);
        if (e.slot < 0 && t.requires_grad()) e.slot = track_leaf(t);
      }
      tracked = tracked || e.slot >= 0;
    }
    edges_.push_back(std::move(e));
  }
  if (!tracked) {  // no gradient can flow through this call
    edges_.resize(node.first_edge);
    return;
  }
  for (size_t i = 0; i < call.in.size(); ++i) {
    if (node.again || !call.in[i] || !call.op->saves_in.has(static_cast<int>(i))) continue;
    Edge& e = edges_[node.first_edge + i];
    e.saved = call.in[i];
    e.version = e.saved.storage().version;
  }
  for (size_t i = 0; i < call.out.size(); ++i) {
    const Tensor& t = call.out[i];
    Edge e{.present = true, .meta = t.meta()};
    if (is_floating(t.dtype()) && call.op->differentiable &&
        !call.op->aux_outs.has(static_cast<int>(i))) {
      e.slot = static_cast<int32_t>(slots_.size());
      slots_.push_back({});
      slot_of_uid_.emplace(t.uid(), e.slot);
    }
    if (!node.again && call.op->saves_out.has(static_cast<int>(i))) {
      e.saved = t;
      e.version = t.storage().version;
    }
    edges_.push_back(std::move(e));
  }
  if (node.again) keep_only_outside(node, call);
  // An op without backward ends the flow; it is kept so that the tape can be printed whole.
  node.attr = call.op->copy_attr(call.attr);
  nodes_.push_back(std::move(node));
}

void Tape::accumulate(int32_t slot, const Tensor& g, const Node& from) {
  Slot& s = slots_[static_cast<size_t>(slot)];
  if (!s.grad) {
    s.grad = g;
    return;
  }
  if (s.grad.shape() != g.shape())
    throw autograd_error(str(from.op->name, ": backward gives a gradient of shape ", g.shape(),
                             " where ", s.grad.shape(), " is expected"));
  s.grad = add(s.grad, g);
}

void Tape::step_back(size_t i, bool keep) {
  const Node& node = nodes_[i];
  Tensors gy(static_cast<size_t>(node.outs));
  bool any = false;
  for (int o = 0; o < node.outs; ++o) {
    const int32_t slot = outs(node)[static_cast<size_t>(o)].slot;
    if (slot < 0) continue;
    Slot& s = slots_[static_cast<size_t>(slot)];
    gy[static_cast<size_t>(o)] = s.grad;
    if (!s.retain) s.grad = {};
    any = any || gy[static_cast<size_t>(o)].defined();
  }
  Tensors gx;
  if (any) {
    if (node.again) run_again(i);
    const Scope scope(node.scope);
    gx = node.op->backward(View(*this, node), gy);
    for (int k = 0; k < node.ins; ++k) {
      const Edge& e = ins(node)[static_cast<size_t>(k)];
      if (e.slot < 0 || static_cast<size_t>(k) >= gx.size() || !gx[static_cast<size_t>(k)])
        continue;
      const Tensor& g = gx[static_cast<size_t>(k)];
      if (g.shape() != e.meta.shape)
        throw autograd_error(str(node.op->name, ": backward gives input ", k,
                                 " a gradient of shape ", g.shape(), ", expected ", e.meta.shape));
      accumulate(e.slot, g, node);
    }
  }
  if (observer_) observer_(observer_ctx_, *this, i, gy, gx);
  if (keep) return;
  for (int e = 0; e < node.ins + node.outs; ++e)
    edges_[node.first_edge + static_cast<size_t>(e)].saved = {};
}

void Tape::seed(const Tensor& y, const Tensor& grad_out) {
  const int32_t slot = slot_of(y);
  if (slot < 0)
    throw autograd_error(str("backward: ", y,
                             " does not depend on any tensor that requires a "
                             "gradient, or was not computed under this tape"));
  if (!grad_out && y.numel() != 1)
    throw shape_error(str("backward: found ", y, ", expected one element or an upstream gradient"));
  if (grad_out && grad_out.shape() != y.shape())
    throw shape_error(str("backward: upstream gradient ", grad_out, ", expected ", y.meta()));
  slots_[static_cast<size_t>(slot)].grad =
      grad_out ? grad_out : Tensor::ones(y.shape(), y.dtype(), y.device());
}

void Tape::walk(bool keep) {
  // Backward's own ops belong to outer tapes, not to this one.
  struct Pause {
    bool& flag;
    explicit Pause(bool& f) : flag(f) { flag = true; }
    ~Pause() { flag = false; }
  } pause(paused_);
  const PhaseScope phase(Phase::backward);
  for (size_t i = nodes_.size(); i-- > 0;)
    if (nodes_[i].op->differentiable) step_back(i, keep);
}

void Tape::backward(const Tensor& loss, const Tensor& grad_out) {
  seed(loss, grad_out);
  walk(false);
  for (Slot& s : slots_) {
    if (!s.leaf || !s.grad || !s.leaf.requires_grad()) continue;
    const PhaseScope phase(Phase::backward);
    const NoRecord off;
    const Tensor before = s.leaf.grad();
    s.leaf.set_grad(before ? add(before, s.grad) : s.grad);
  }
  clear();
}

Tensors Tape::gradient(const Tensor& y, const Tensors& xs, const Tensor& grad_out, bool keep) {
  seed(y, grad_out);
  std::vector<int32_t> wanted;
  for (const Tensor& x : xs) {
    wanted.push_back(slot_of(x));
    if (wanted.back() >= 0) slots_[static_cast<size_t>(wanted.back())].retain = true;
  }
  walk(keep);
  Tensors out;
  for (int32_t w : wanted) out.push_back(w < 0 ? Tensor{} : slots_[static_cast<size_t>(w)].grad);
  for (Slot& s : slots_) {
    s.grad = {};
    s.retain = false;
  }
  if (!keep) clear();
  return out;
}

void Tape::clear() {
  nodes_.clear();
  edges_.clear();
  slots_.clear();
  slot_of_uid_.clear();
  made_by_.clear();
}

}  // namespace wattle
