#include "tools/explain_trace.h"

#include <algorithm>
#include <unordered_map>

#include "autograd/tape.h"
#include "core/rng.h"
#include "energy/table_model.h"
#include "nn/layers.h"
#include "nn/optim.h"
#include "tools/explain_text.h"

namespace wattle::cli::explain {
namespace {

using Names = std::unordered_map<uint64_t, std::string>;

Value snapshot(const Tensor& t) {
  Value v;
  if (!t) return v;
  v.present = true;
  v.shape = t.shape();
  v.dtype = std::string(name(t.dtype()));
  v.uid = t.uid();
  v.v = t.values<double>();
  if (v.v.size() > kept_elements) v.v.resize(kept_elements);
  return v;
}

std::string dtype_of_call(const Values& in, const Values& out) {
  for (const Values* vs : {&in, &out})
    for (const Value& v : *vs)
      if (v.present && is_floating(dtype_from_name(v.dtype))) return v.dtype;
  return "f32";
}

Line line_of(const Call& call) {
  Line l{.op = call.op,
         .attrs = call.op->attr_texts(call.attr),
         .kernel = call.kernel,
         .layer = counters().path(counters().current),
         .phase = counters().phase,
         .cost = call.cost,
         .executed = call.executed,
         .ns = call.ns};
  for (const Tensor& t : call.in) l.in.push_back(snapshot(t));
  for (const Tensor& t : call.out) l.out.push_back(snapshot(t));
  give_roles(*call.op, l.in, l.out);
  // The ledger's rule: the operations that the kernel executed, the unique bytes of the operands.
  Cost work = call.executed, bytes;
  work.read = bytes.read = call.cost.read;
  work.written = bytes.written = call.cost.written;
  const std::string dtype = dtype_of_call(l.in, l.out);
  l.fj = static_cast<double>(energy::femtojoules_of(work, dtype, energy::horowitz45()).fj);
  l.memory_fj = static_cast<double>(energy::femtojoules_of(bytes, dtype, energy::horowitz45()).fj);
  return l;
}

std::string gradient_name(const std::string& of) {
  return of.starts_with('%') ? "d" + of : "d(" + of + ")";
}

// Stands around a Tape: the tape records a call first, so that its node exists when this one hears
// of the call.
class Watch final : public Recorder {
 public:
  Watch(Trace& trace, Names& names) : trace_(trace), names_(names) {}

  void attach(Tape& tape) {
    tape_ = &tape;
    tape.observe([](void* self, const Tape& t, size_t node, Ins gy,
                    Ins gx) { static_cast<Watch*>(self)->passed(t, node, gy, gx); },
                 this);
  }

  void record(const Call& call) override {
    Line l = line_of(call);
    if (counters().phase == Phase::backward) {
      l.number = str("b", ++backward_calls_);
      pending_.push_back(std::move(l));
      return;
    }
    l.number = str("%", trace_.forward.size() + 1);
    for (const Tensor& t : call.out) names_[t.uid()] = l.number;
    if (tape_->nodes().size() > line_of_node_.size()) {
      const Tape::Node& node = tape_->nodes().back();
      for (size_t i = 0; i < l.in.size(); ++i) l.in[i].saved = tape_->ins(node)[i].saved.defined();
      for (size_t i = 0; i < l.out.size(); ++i)
        l.out[i].saved = tape_->outs(node)[i].saved.defined();
      line_of_node_.push_back(trace_.forward.size());
    }
    trace_.forward.push_back(std::move(l));
  }

 private:
  void passed(const Tape&, size_t node, Ins gy, Ins gx) {
    Back b{.line = line_of_node_[node], .calls = std::move(pending_)};
    pending_.clear();
    const Line& l = trace_.forward[b.line];
    b.grad_out = gradients(gy, l.out);
    b.grad_in = gradients(gx, l.in);
    b.grad_in.resize(l.in.size());
    trace_.backward.push_back(std::move(b));
  }

  Values gradients(Ins g, const Values& of) {
    Values out;
    for (size_t i = 0; i < g.size(); ++i) {
      out.push_back(snapshot(g[i]));
      if (g[i]) names_.emplace(g[i].uid(), gradient_name(names_[of[i].uid]));
    }
    return out;
  }

  Trace& trace_;
  Names& names_;
  Tape* tape_ = nullptr;
  std::vector<size_t> line_of_node_;
  std::vector<Line> pending_;
  int backward_calls_ = 0;
};

// A view that keeps the shape shows the same thing on both sides: one name for the two.
void share_names(const std::vector<Line>& calls, Names& names) {
  const auto same = [](const Line& l) { return l.op->is_view && l.in[0].shape == l.out[0].shape; };
  for (const Line& l : calls)
    if (same(l) && names.contains(l.in[0].uid)) names.emplace(l.out[0].uid, names[l.in[0].uid]);
  for (const Line& l : calls)
    if (same(l) && names.contains(l.out[0].uid)) names.emplace(l.in[0].uid, names[l.out[0].uid]);
}

// Results of the walk back that are no operand's gradient are called after their call.
void resolve_names(Trace& t, Names& names) {
  for (const Back& b : t.backward) share_names(b.calls, names);
  for (Back& b : t.backward)
    for (Line& l : b.calls)
      for (const Value& v : l.out) names.emplace(v.uid, l.number);
  const auto resolve = [&](Values& vs) {
    for (Value& v : vs)
      if (v.present) v.name = names[v.uid];
  };
  for (Line& l : t.forward) resolve(l.in), resolve(l.out);
  for (Line& l : t.optimizer) resolve(l.in), resolve(l.out);
  for (Back& b : t.backward) {
    resolve(b.grad_in), resolve(b.grad_out);
    for (Line& l : b.calls) resolve(l.in), resolve(l.out);
  }
}

// ---- The optimiser: the library's steps, one recorded call per parameter ----------------------

class WatchedOptimizer final : public nn::Optimizer {
 public:
  WatchedOptimizer(const std::string& rule, std::vector<nn::Named> parameters, Names& names)
      : Optimizer(std::move(parameters), states(rule)), rule_(rule), names_(names) {}
  const char* kind() const override { return rule_.c_str(); }
  Trace* trace = nullptr;  ///< where to record; null: nowhere

  /// Runs the rule once on nothing of value.
  void warm_up() const {
    const NoRecord off;
    const Tensors state(states(rule_).size(), Tensor::zeros({1}));
    run(Tensor::zeros({1}), Tensor::zeros({1}), state, 1);
  }

 private:
  // Optimizer::step turns recording off; a recorder made here hears this one call.
  struct One final : Recorder {
    Line* line = nullptr;
    void record(const Call& call) override { *line = line_of(call); }
  };

  static std::vector<const char*> states(const std::string& rule) {
    if (rule == "adam") return {"exp_avg", "exp_avg_sq"};
    if (rule == "momentum") return {"momentum_buffer"};
    if (rule == "sgd") return {};
    throw value_error(str("--optimizer: found '", rule, "', expected adam, sgd or momentum"));
  }

  void run(const Tensor& p, const Tensor& g, const Tensors& state, int64_t step) const {
    if (rule_ == "adam") return adam_step(p, g, state[0], state[1], {.lr = lr, .step = step});
    SgdAttr a{.lr = lr, .step = step};
    if (!state.empty()) a.momentum = 0.9;
    sgd_step(p, g, state.empty() ? Tensor{} : state[0], a);
  }

  void update(const Tensor& p, const Tensor& g, const Tensors& state, int64_t step) override {
    if (!trace) return run(p, g, state, step);
    Tensors operands = {p, g};
    operands.insert(operands.end(), state.begin(), state.end());
    Values before;
    for (const Tensor& t : operands) before.push_back(snapshot(t));
    const std::vector<const char*> state_names = states(rule_);
    for (size_t i = 0; i < state.size(); ++i)
      names_[state[i].uid()] = str(names_[p.uid()], ".", state_names[i]);
    Line l;
    {
      One one;
      one.line = &l;
      run(p, g, state, step);
    }
    before.resize(l.in.size());
    for (size_t i = 0; i < l.in.size(); ++i) {
      before[i].role = l.in[i].role;
      if (l.op->writes.has(static_cast<int>(i)) && l.in[i].present) l.out.push_back(l.in[i]);
    }
    l.in = std::move(before);
    l.number = str("s", trace->optimizer.size() + 1);
    trace->optimizer.push_back(std::move(l));
  }

  std::string rule_;
  Names& names_;
};

// ---- The net and its task
// ------------------------------------------------------------------------

class Net final : public nn::Module {
 public:
  Net() {
    hidden_ = register_module("hidden", std::make_shared<nn::Linear>(2, 4));
    out_ = register_module("out", std::make_shared<nn::Linear>(4, 1));
  }
  Tensor forward(const Tensor& x) override {
    const Tensor h = (*hidden_)(x);
    Tensor a;
    {
      const Scope scope("activation");
      a = tanh(h);
    }
    return (*out_)(a);
  }
  const char* kind() const override { return "Net"; }

 private:
  std::shared_ptr<nn::Linear> hidden_, out_;
};

Tensor loss_of(Net& net, const Tensor& x, const Tensor& target) {
  const Tensor y = net(x);
  const Scope scope("loss");
  return mse_loss(y, target);
}

// All pairs (i, j) / (n - 1), the first coordinate fastest.
Tensor grid_points(int64_t n) {
  std::vector<float> p;
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i) {
      p.push_back(static_cast<float>(i) / static_cast<float>(n - 1));
      p.push_back(static_cast<float>(j) / static_cast<float>(n - 1));
    }
  return Tensor::from(p, {n * n, 2});
}

double plain_step(Net& net, nn::Optimizer& opt, const Tensor& x, const Tensor& target) {
  Tape tape;
  const Tensor loss = loss_of(net, x, target);
  const double value = loss.item();
  tape.backward(loss);
  opt.step();
  opt.zero_grad();
  return value;
}

struct Sum {
  Cost cost;
  int64_t calls = 0;
};
Sum counted() { return {counters().total().cost, counters().total().calls}; }

bool agree(const Trace& t, const Sum& before) {
  const Sum after = counted();
  Sum lines = before;
  for (const Phase p : {Phase::forward, Phase::backward, Phase::optimizer}) {
    const Total sum = total_of(t, p);
    lines.cost += sum.cost;
    lines.calls += sum.calls;
  }
  return lines.cost == after.cost && lines.calls == after.calls;
}

double watched_step(Net& net, WatchedOptimizer& opt, const Tensor& x, const Tensor& target,
                    Names& names, Lesson& lesson) {
  {  // Once unseen, so that the times are not those of a first touch.
    Tape tape;
    tape.backward(loss_of(net, x, target));
    opt.zero_grad();
    opt.warm_up();
  }
  const Sum before = counted();
  double value = 0;
  {
    Watch watch(lesson.trace, names);
    Tape tape;
    watch.attach(tape);
    const Tensor loss = loss_of(net, x, target);
    names[loss.uid()] = "loss";
    value = loss.item();
    tape.backward(loss);
  }
  opt.trace = &lesson.trace;
  opt.step();
  opt.trace = nullptr;
  lesson.counters_agree = agree(lesson.trace, before);
  opt.zero_grad();
  lesson.loss_after_step = loss_of(net, x, target).item();
  return value;
}

}  // namespace

void Total::add(const Line& l) {
  ++calls;
  cost += l.cost;
  executed += l.executed;
  ns += l.ns;
  fj += l.fj;
  memory_fj += l.memory_fj;
}

Total total_of(const Trace& t, Phase p) {
  Total sum;
  if (p == Phase::forward)
    for (const Line& l : t.forward) sum.add(l);
  if (p == Phase::backward)
    for (const Back& b : t.backward)
      for (const Line& l : b.calls) sum.add(l);
  if (p == Phase::optimizer)
    for (const Line& l : t.optimizer) sum.add(l);
  return sum;
}

Lesson run_lesson(const Settings& s) {
  if (s.steps < 1) throw value_error(str("--steps: found ", s.steps, ", expected at least 1"));
  if (s.at < 1 || s.at > s.steps)
    throw value_error(str("--at: found step ", s.at, ", expected one of 1 to ", s.steps));
  Lesson lesson{.settings = s,
                .net = "x [4, 2] -> hidden Linear(2, 4) -> tanh -> out Linear(4, 1) -> mse_loss"};
  if (s.lr == 0)
    lesson.settings.lr = s.optimizer == "adam" ? 0.05 : s.optimizer == "sgd" ? 0.3 : 0.1;
  manual_seed(s.seed);
  Net net;
  const Tensor x = Tensor::from(std::vector<float>{0, 0, 0, 1, 1, 0, 1, 1}, {4, 2});
  const Tensor target = Tensor::from(std::vector<float>{0, 1, 1, 0}, {4, 1});
  lesson.grid = 25;
  const Tensor grid = grid_points(lesson.grid);

  Names names{{x.uid(), "x"}, {target.uid(), "target"}};
  for (const nn::Named& p : net.named_parameters()) names[p.tensor.uid()] = p.name;
  WatchedOptimizer opt(s.optimizer, net.named_parameters(), names);
  opt.lr = lesson.settings.lr;
  lesson.x = snapshot(x);
  lesson.target = snapshot(target);
  lesson.first = snapshot(net(x));
  lesson.map_first = net(grid).values<double>();
  for (int64_t step = 1; step <= s.steps; ++step)
    lesson.losses.push_back(step == s.at ? watched_step(net, opt, x, target, names, lesson)
                                         : plain_step(net, opt, x, target));
  lesson.last = snapshot(net(x));
  lesson.map_last = net(grid).values<double>();
  lesson.loss_end = loss_of(net, x, target).item();
  resolve_names(lesson.trace, names);
  return lesson;
}

}  // namespace wattle::cli::explain
