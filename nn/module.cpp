#include "nn/module.h"

#include <cstring>

#include "autograd/tape.h"
#include "core/counters.h"
#include "core/recorder.h"

namespace wattle::nn {

Tensor Module::operator()(const Tensor& x) {
  std::optional<Recompute> less;
  if (recompute) less.emplace();
  const auto run = [&] { return through(hooks.output, forward(through(hooks.input, x))); };
  if (name_.empty()) return run();
  const Scope scope(name_);
  return run();
}

void Module::train(bool on) {
  training_ = on;
  for (const Child& c : children_) c.module->train(on);
}

Tensor Module::register_parameter(std::string name, Tensor t) {
  t.set_requires_grad();
  parameters_.push_back({std::move(name), t});
  return t;
}

Tensor Module::register_buffer(std::string name, Tensor t) {
  buffers_.push_back({std::move(name), t});
  return t;
}

void Module::add_child(std::string name, std::shared_ptr<Module> m) {
  for (const Child& c : children_)
    if (c.name == name) throw value_error(str(kind(), ": two modules are called '", name, "'"));
  m->name_ = name;
  children_.push_back({std::move(name), std::move(m)});
}

void Module::put(const std::string& name, std::shared_ptr<Module> m) {
  for (size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].name != name) continue;
    children_[i].module->name_.clear();
    if (!m) {
      children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
    m->name_ = name;
    m->train(training_);
    children_[i].module = std::move(m);
    return;
  }
  throw value_error(str(kind(), ": has no module called '", name, "'"));
}

void Module::collect(const std::string& prefix, bool buffers, std::vector<Named>& out) const {
  for (const Named& n : buffers ? buffers_ : parameters_)
    out.push_back({prefix + n.name, n.tensor});
  for (const Child& c : children_) c.module->collect(prefix + c.name + ".", buffers, out);
}

std::vector<Named> Module::named_parameters() const {
  std::vector<Named> out;
  collect("", false, out);
  return out;
}
std::vector<Named> Module::named_buffers() const {
  std::vector<Named> out;
  collect("", true, out);
  return out;
}

int64_t Module::parameter_count() const {
  int64_t n = 0;
  for (const Named& p : named_parameters()) n += p.tensor.numel();
  return n;
}

StateDict Module::state_dict() const {
  StateDict all = named_parameters();
  for (Named& b : named_buffers()) all.push_back(std::move(b));
  return all;
}

void Module::load_state_dict(const StateDict& state) {
  const StateDict own = state_dict();
  std::string wrong;
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const Named& mine : own) {
    const Named* given = nullptr;
    for (const Named& s : state)
      if (s.name == mine.name) given = &s;
    if (!given) wrong += str("\n  ", mine.name, " (", mine.tensor, ") is missing");
    else if (given->tensor.shape() != mine.tensor.shape() ||
             given->tensor.dtype() != mine.tensor.dtype())
      wrong += str("\n  ", mine.name, ": found ", given->tensor, ", expected ", mine.tensor);
    else copies.emplace_back(mine.tensor, given->tensor);
  }
  for (const Named& s : state) {
    bool known = std::string_view(s.name).ends_with("num_batches_tracked");
    for (const Named& mine : own) known = known || mine.name == s.name;
    if (!known) wrong += str("\n  ", s.name, " (", s.tensor, ") is not part of the model");
  }
  if (!wrong.empty()) throw value_error("load_state_dict:" + wrong);
  for (auto& [to, from] : copies) {
    to.copy_from(contiguous(from));
    to.storage().last_writer = "load_state_dict";
  }
}

void Module::to(DType dtype) {
  if (!is_floating(dtype) || info(dtype).block > 1 || dtype == DType::counted)
    throw dtype_error(str(kind(), "::to: found ", wattle::name(dtype),
                          ", expected a floating type of one number each: f32, f64, bf16, ..."));
  const NoRecord off;
  for (Named& n : state_dict())
    if (n.tensor.dtype() != dtype) n.tensor.set_data(cast(n.tensor, dtype));
}

void Module::to(Device device) {
  for (Named& n : state_dict())
    if (n.tensor.device() != device) n.tensor.set_data(n.tensor.to(device));
}

Sequential& Sequential::add(std::string name, std::shared_ptr<Module> m) {
  register_module(std::move(name), std::move(m));
  return *this;
}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (const Child& c : children()) y = (*c.module)(y);
  return y;
}

}  // namespace wattle::nn
