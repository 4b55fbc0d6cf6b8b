#include "nn/optim.h"

#include <cmath>

#include "core/counters.h"
#include "core/ranks.h"
#include "core/recorder.h"

namespace wattle::nn {

Optimizer::Optimizer(std::vector<Named> parameters, std::vector<const char*> states)
    : state_names_(std::move(states)) {
  for (Named& p : parameters) {
    Slot s;
    const size_t dot = p.name.rfind('.');
    s.scope = dot == std::string::npos ? "" : p.name.substr(0, dot);
    for (size_t i = 0; i < state_names_.size(); ++i)
      s.state.push_back(Tensor::zeros(p.tensor.shape(), p.tensor.dtype(), p.tensor.device()));
    s.param = std::move(p);
    slots_.push_back(std::move(s));
  }
}

void Optimizer::step() {
  const NoRecord off;
  const PhaseScope phase(Phase::optimizer);
  ++steps_;
  for (Slot& s : slots_) {
    const Tensor grad = s.param.tensor.grad();
    if (!grad) continue;
    // "a.b" is the scope b inside a, as Module makes it.
    int scope = counters().current;
    for (std::string_view path = s.scope; !path.empty();) {
      const size_t dot = path.find('.');
      scope = counters().child(scope, path.substr(0, dot));
      path.remove_prefix(dot == path.npos ? path.size() : dot + 1);
    }
    const Scope inside(scope);
    update(s.param.tensor, grad, s.state, steps_);
  }
}

void Optimizer::zero_grad() {
  for (Slot& s : slots_) s.param.tensor.zero_grad();
}

StateDict Optimizer::state_dict() const {
  StateDict out;
  for (const Slot& s : slots_)
    for (size_t i = 0; i < s.state.size(); ++i)
      out.push_back({s.param.name + "." + state_names_[i], s.state[i]});
  return out;
}

void Optimizer::load_state_dict(const StateDict& state, int64_t steps) {
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const Named& mine : state_dict()) {
    const Named* given = nullptr;
    for (const Named& s : state)
      if (s.name == mine.name) given = &s;
    if (!given)
      throw value_error(str(kind(), ": state ", mine.name, " (", mine.tensor, ") is missing"));
    if (given->tensor.shape() != mine.tensor.shape() ||
        given->tensor.dtype() != mine.tensor.dtype())
      throw value_error(str(kind(), ": state ", mine.name, ": found ", given->tensor, ", expected ",
                            mine.tensor));
    copies.emplace_back(mine.tensor, contiguous(given->tensor));
  }
  for (auto& [to, from] : copies) to.copy_from(from);
  steps_ = steps;
}

Sgd::Sgd(std::vector<Named> parameters, SgdAttr options)
    : Optimizer(std::move(parameters), options.momentum != 0
                                           ? std::vector<const char*>{"momentum_buffer"}
                                           : std::vector<const char*>{}),
      options_(options) {
  lr = options.lr;
}

void Sgd::update(const Tensor& p, const Tensor& g, const Tensors& state, int64_t step) {
  SgdAttr a = options_;
  a.lr = lr;
  a.step = step;
  sgd_step(p, g, state.empty() ? Tensor{} : state[0], a);
}

Adam::Adam(std::vector<Named> parameters, AdamAttr options, bool decoupled)
    : Optimizer(std::move(parameters), {"exp_avg", "exp_avg_sq"}),
      options_(options),
      decoupled_(decoupled) {
  lr = options.lr;
}

void Adam::update(const Tensor& p, const Tensor& g, const Tensors& state, int64_t step) {
  AdamAttr a = options_;
  a.lr = lr;
  a.step = step;
  (decoupled_ ? adamw_step : adam_step)(p, g, state[0], state[1], a);
}

std::unique_ptr<Optimizer> make_optimizer(const std::string& name, std::vector<Named> parameters,
                                          double lr) {
  if (name == "sgd") return std::make_unique<Sgd>(std::move(parameters), SgdAttr{.lr = lr});
  if (name == "momentum")
    return std::make_unique<Sgd>(std::move(parameters), SgdAttr{.lr = lr, .momentum = 0.9});
  if (name == "adam") return std::make_unique<Adam>(std::move(parameters), AdamAttr{.lr = lr});
  if (name == "adamw")
    return std::make_unique<Adam>(std::move(parameters), AdamAttr{.lr = lr, .weight_decay = 0.01},
                                  true);
  throw value_error(str("optimizer: found '", name, "', expected sgd, momentum, adam or adamw"));
}

void sum_grads(const std::vector<Named>& parameters) {
  if (world().size() == 1) return;
  const NoRecord off;
  for (const Named& p : parameters) {
    Tensor t = p.tensor;
    if (Tensor g = t.grad()) {
      g = contiguous(g);
      all_reduce(g);
      t.set_grad(g);
    }
  }
}

double grad_squares(const std::vector<Named>& parameters) {
  const NoRecord off;
  double squares = 0;
  for (const Named& p : parameters)
    if (const Tensor g = p.tensor.grad()) squares += sum(mul(g, g)).item();
  return squares;
}

void scale_grads(const std::vector<Named>& parameters, double factor) {
  const NoRecord off;
  for (const Named& p : parameters) {
    Tensor t = p.tensor;
    if (const Tensor g = t.grad()) t.set_grad(scale(g, factor));
  }
}

double clip_grad_norm(const std::vector<Named>& parameters, double max_norm) {
  if (!(max_norm > 0))
    throw value_error(str("clip_grad_norm: max_norm: found ", max_norm, ", expected > 0"));
  const PhaseScope phase(Phase::optimizer);
  const Scope scope("clip_grad_norm");
  const double norm = std::sqrt(grad_squares(parameters));
  // Not-a-number stays visible in the gradients.
  if (norm > max_norm) scale_grads(parameters, max_norm / (norm + 1e-6));
  return norm;
}

double cosine_schedule(int64_t step, int64_t total, double final_factor) {
  const double t = total > 0 ? std::min(1.0, static_cast<double>(step) / double(total)) : 1;
  return final_factor + (1 - final_factor) * 0.5 * (1 + std::cos(3.14159265358979323846 * t));
}
double step_schedule(int64_t step, int64_t every, double gamma) {
  return std::pow(gamma, static_cast<double>(step / every));
}
double warmup_schedule(int64_t step, int64_t warmup) {
  return warmup > 0 ? std::min(1.0, double(step + 1) / double(warmup)) : 1;
}

}  // namespace wattle::nn
