#include "tools/explain_neuron.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "autograd/tape.h"
#include "core/counters.h"
#include "energy/table_model.h"
#include "snn/neuron_grad.h"
#include "tools/cli.h"
#include "tools/explain_page.h"
#include "tools/explain_text.h"

namespace wattle::cli::explain {
namespace {

using json = nlohmann::ordered_json;
using snn::ResetTo;
using Number = snn::Scalar<double>;

constexpr size_t kMostSteps = 64;  // more do not fit the page

double modelled(const Cost& c) {
  return static_cast<double>(energy::femtojoules_of(c, "f64", energy::horowitz45()).fj);
}

// What `op` cost in a run, by the counters of this thread.
template <class F>
Cost counted(const OpBase& op, const F& run) {
  counters().clear();
  run();
  Cost c;
  for (const Row& r : counters().rows())
    if (r.key.op == &op) c += r.cost;
  return c;
}

}  // namespace

NeuronLesson neuron_lesson(const std::vector<double>& input,
                           const std::vector<std::string>& attrs) {
  if (input.empty() || input.size() > kMostSteps)
    throw value_error(str("explain --snn: --input: found ", input.size(),
                          " numbers, expected 1 to ", kMostSteps));
  const OpBase& op = find_op("neuron");
  const auto held = op.make_attr();
  for (const std::string& a : attrs) {
    const size_t eq = a.find('=');
    if (eq == std::string::npos) throw value_error(str("--attr ", a, ": expected name=value"));
    op.set_attr(held.get(), a.substr(0, eq), a.substr(eq + 1));
  }
  NeuronLesson l;
  l.attr = *static_cast<const NeuronAttr*>(held.get());
  if (l.attr.steps != 0 || l.attr.out != DType::f32)
    throw value_error("explain --snn: steps and out are not for this page");
  const snn::NeuronRule r = snn::neuron_rule(l.attr, false);
  l.d = r.d;
  const int64_t steps = static_cast<int64_t>(input.size());
  const Tensor x = Tensor::from<double>(input, {steps, 1});
  Tape tape;
  tape.watch(x);
  Tensors out;
  l.forward = counted(op, [&] { out = neuron(x, {}, {}, l.attr); });
  const Tensor loss = sum(out[0]);
  Tensor gx;
  l.backward = counted(find_op("neuron_grad"), [&] { gx = tape.gradient(loss, {x})[0]; });
  l.forward_fj = modelled(l.forward), l.backward_fj = modelled(l.backward);

  double v = r.start();
  for (int64_t t = 0; t < steps; ++t) {
    NeuronStep s{};
    s.x = x.data<double>()[t], s.from = v;
    s.h = out[2].data<double>()[t], s.s = out[0].data<double>()[t], s.gx = gx.data<double>()[t];
    s.v = v = snn::state<Number>(r, s.h);
    s.slope = snn::surrogate_value<double>(r.surrogate, s.h - r.v_th);
    l.steps.push_back(s);
  }
  const snn::NeuronGrad<Number, snn::NeuronRule> g(r, r.d, 1 - r.d);
  l.agrees = true;
  double gh = 0;
  for (size_t t = l.steps.size(); t-- > 0;) {
    NeuronStep& s = l.steps[t];
    s.through = t + 1 == l.steps.size() ? 0 : g.back(gh, s.h, s.slope);
    s.gh = gh = s.through + s.slope;
    l.agrees &= std::fabs(g.to_x(gh, s.from) - s.gx) <= 1e-12 * (1 + std::fabs(s.gx));
  }
  const double reach = 1.5;
  for (int i = -60; i <= 60; ++i) {
    const double u = reach * i / 60;
    l.curve_u.push_back(u);
    l.curve.push_back(snn::surrogate_value<double>(r.surrogate, u));
  }
  return l;
}

void print_neuron(const NeuronLesson& l) {
  const NeuronAttr& a = l.attr;
  std::printf("One neuron over %zu steps: charge %s, %s reset, surrogate %s; L = sum of spikes\n\n",
              l.steps.size(), a.charge.c_str(), a.reset.c_str(), a.surrogate.c_str());
  std::string head;
  for (const char* name : {"t", "x", "h", "s", "v", "surrogate", "back from t+1", "dL/dh", "dL/dx"})
    head += cell(name, head.empty() ? -3 : -14);
  std::printf("%s\n", head.c_str());
  for (size_t t = 0; t < l.steps.size(); ++t) {
    const NeuronStep& s = l.steps[t];
    std::string row = cell(str(t), -3);
    for (const double v : {s.x, s.h, s.s, s.v, s.slope, s.through, s.gh, s.gx})
      row += cell(number_text(v), -14);
    std::printf("%s\n", row.c_str());
  }
  std::printf("\nforward %lld FLOP, %s; backward %lld FLOP, %s (modelled, f64)\n",
              static_cast<long long>(l.forward.flops()), joules_text(l.forward_fj).c_str(),
              static_cast<long long>(l.backward.flops()), joules_text(l.backward_fj).c_str());
  std::printf("The recurrence by hand and the tape %s.\n", l.agrees ? "agree" : "do NOT agree");
}

std::string neuron_json(const NeuronLesson& l) {
  json j;
  const OpBase& op = find_op("neuron");
  for (const AttrText& a : op.attr_texts(&l.attr)) j["attr"][a.name] = a.text;
  j["d"] = l.d, j["source"] = source(op);
  j["v_th"] = l.attr.v_th;
  j["steps"] = json::array();
  for (const NeuronStep& s : l.steps)
    j["steps"].push_back({{"x", s.x},
                          {"from", s.from},
                          {"h", s.h},
                          {"s", s.s},
                          {"v", s.v},
                          {"slope", s.slope},
                          {"through", s.through},
                          {"gh", s.gh},
                          {"gx", s.gx}});
  j["curve"] = {{"u", l.curve_u}, {"slope", l.curve}};
  const auto phase = [](const Cost& c, double fj) -> json {
    return {{"flops", c.flops()}, {"bytes", c.bytes()}, {"joules", joules_text(fj)}};
  };
  j["forward"] = phase(l.forward, l.forward_fj), j["backward"] = phase(l.backward, l.backward_fj);
  j["agrees"] = l.agrees;
  j["energy"] = energy::horowitz45().title;
  return j.dump();
}

std::string neuron_page(const NeuronLesson& l) {
  return page_of("Wattle: a spiking neuron, step by step", "A spiking neuron, step by step",
                 neuron_json(l), {neuron_script});
}

}  // namespace wattle::cli::explain
