// wattle explain: one training step of a small net, line by line, for teachers and students.
#include <cmath>
#include <cstdio>

#include "data/atomic_file.h"
#include "energy/table_model.h"
#include "tools/cli.h"
#include "tools/explain_neuron.h"
#include "tools/explain_page.h"
#include "tools/explain_text.h"
#include "tools/explain_trace.h"

namespace wattle::cli {
namespace {

using namespace explain;

void print(const std::string& line) { std::printf("%s\n", line.c_str()); }

std::string time_text(double ns) {
  char buf[32];
  if (ns < 999.5) std::snprintf(buf, sizeof buf, "%.0f ns", ns);
  else std::snprintf(buf, sizeof buf, "%.2f us", ns / 1000);
  return buf;
}

void print_value(const Value& v, const char* lead, int indent, const std::string& note) {
  const std::string space(static_cast<size_t>(indent), ' ');
  if (!v.present) return print(str(space, cell(str(lead, v.role), 8), " not given"));
  print(str(space, cell(str(lead, v.role), 8), " = ", v.name == v.role ? "" : str(v.name, "  "),
            v.dtype, " ", v.shape, note));
  print(str(space, std::string(11, ' '), values_text(v, indent + 11)));
}

std::string attrs_text(const Line& l) {
  std::string s;
  for (const AttrText& a : l.attrs) s += str(s.empty() ? "" : ", ", a.name, " = ", a.text);
  return s;
}

std::string cost_text(const Line& l) {
  if (l.op->is_view) return "a view: 0 FLOP, 0 B, 0 J modelled";
  std::string s =
      str(l.cost.flops(), " FLOP, ", l.cost.read, " B read, ", l.cost.written, " B written, ",
          joules_text(l.fj), " modelled, ", time_text(l.ns), ", kernel ", l.kernel);
  if (l.executed != l.cost) s += str(", executed ", l.executed.flops(), " FLOP");
  return s;
}

void print_head(const Line& l, int indent) {
  const std::string space(static_cast<size_t>(indent), ' ');
  print(str(space, cell(l.number, 4), l.op->name, ": ", l.op->equation));
  print(str(space, "    ", source(*l.op), ", layer ", l.layer.empty() ? "(none)" : l.layer));
}

void print_facts(const Line& l, int indent) {
  const std::string space(static_cast<size_t>(indent), ' ');
  if (!l.attrs.empty()) print(str(space, "with        ", attrs_text(l)));
  print(str(space, "cost        ", cost_text(l)));
}

const Value* gradient_of(const Trace& t, size_t line) {
  for (const Back& b : t.backward)
    if (b.line == line && !b.grad_out.empty() && b.grad_out[0].present) return &b.grad_out[0];
  return nullptr;
}

void print_forward(const Trace& t) {
  print("FORWARD: the tape. (saved) marks what is kept for the walk back.");
  for (size_t i = 0; i < t.forward.size(); ++i) {
    const Line& l = t.forward[i];
    print("");
    print_head(l, 0);
    for (const Value& v : l.in) print_value(v, "", 4, v.saved ? "  (saved)" : "");
    for (const Value& v : l.out) print_value(v, "-> ", 4, v.saved ? "  (saved)" : "");
    if (const Value* g = gradient_of(t, i)) {
      print(str("    gradient   ", g->name, "  ", g->dtype, " ", g->shape, ", from the walk back"));
      print(str(std::string(15, ' '), values_text(*g, 15)));
    }
    print_facts(l, 4);
  }
}

void print_backward(const Trace& t) {
  print("\nBACKWARD: the same lines from the last to the first. The walk starts with d(loss) = 1.");
  for (const Back& b : t.backward) {
    const Line& line = t.forward[b.line];
    print(str("\n", cell(line.number, 4), "back through ", line.op->name, " (", source(*line.op),
              ")"));
    for (const Value& g : b.grad_out)
      if (g.present)
        print(str("    comes in   ", g.name, "  ", g.shape, "\n", std::string(15, ' '),
                  values_text(g, 15)));
    for (const Line& l : b.calls) {
      print_head(l, 4);
      for (const Value& v : l.in)
        if (v.present) print(str("        ", cell(v.role, 7), " = ", v.name, "  ", v.shape));
      for (const Value& v : l.out) print_value(v, "-> ", 8, "");
      print_facts(l, 8);
    }
    for (size_t i = 0; i < b.grad_in.size(); ++i) {
      const Value& of = line.in[i];
      if (b.grad_in[i].present)
        print(str("    goes out   ", b.grad_in[i].name, " ", b.grad_in[i].shape, ", to ", of.name));
      else if (of.present)
        print(str("    goes out   nothing to ", of.name, ": nobody asks for its gradient"));
    }
  }
}

void print_optimizer(const Trace& t) {
  print("\nOPTIMISER: one op per parameter, in place.");
  for (const Line& l : t.optimizer) {
    print("");
    print_head(l, 0);
    for (const Value& v : l.in)
      if (v.present) print_value(v, "", 4, l.op->writes.mask && v.role != "grad" ? "  before" : "");
    for (const Value& v : l.out) print_value(v, "-> ", 4, "  after");
    print_facts(l, 4);
  }
}

void print_total(const char* label, const Total& t) {
  print(str(cell(label, 12), cell(str(t.calls), -6), cell(str(t.cost.flops()), -9),
            cell(str(t.cost.bytes()), -9), cell(joules_text(t.fj), -20),
            cell(joules_text(t.memory_fj), -16), cell(time_text(t.ns), -12)));
}

void print_totals(const Lesson& l) {
  print(str("\nTOTALS\n", cell("phase", 12), cell("ops", -6), cell("FLOP", -9), cell("bytes", -9),
            cell("joules (modelled)", -20), cell("of it, bytes", -16), cell("time", -12)));
  Total all;
  const auto phases = {Phase::forward, Phase::backward, Phase::optimizer};
  for (const Phase p : phases) {
    const Total t = total_of(l.trace, p);
    print_total(std::string(name(p)).c_str(), t);
    all.calls += t.calls;
    all.cost += t.cost;
    all.ns += t.ns;
    all.fj += t.fj;
    all.memory_fj += t.memory_fj;
  }
  print_total("step", all);
  print(str("The lines ", l.counters_agree ? "add up" : "do NOT add up",
            " to the counters of this thread: calls, operations, bytes."));
}

void print_result(const Lesson& l) {
  const Settings& s = l.settings;
  print(str("\nLOSS  step ", s.at, ": ", number_text(l.losses[static_cast<size_t>(s.at - 1)]),
            "; after its update: ", number_text(l.loss_after_step), "; after ", s.steps,
            " steps: ", number_text(l.loss_end)));
  std::string line = "PREDICTIONS after training ";
  for (size_t i = 0; i < l.last.v.size(); ++i) {
    char answer[32];
    std::snprintf(answer, sizeof answer, "%.3f", std::abs(l.last.v[i]) < 5e-4 ? 0 : l.last.v[i]);
    line += str("  (", l.x.v[2 * i], ", ", l.x.v[2 * i + 1],
                "): ", std::isnan(l.last.v[i]) ? "nan" : answer, " of ", l.target.v[i]);
  }
  print(line);
}

void print_lesson(const Lesson& l) {
  const Settings& s = l.settings;
  print("The exclusive or: one training step, line by line");
  print(str("net       ", l.net));
  print(str("training  ", s.optimizer, ", lr ", s.lr, ", seed ", s.seed, "; step ", s.at, " of ",
            s.steps));
  print(str("joules    modelled: operations executed and unique bytes, times the table ",
            energy::horowitz45().name, "; none is measured\n"));
  print_forward(l.trace);
  print_backward(l.trace);
  print_optimizer(l.trace);
  print_totals(l);
  print_result(l);
}

void write_page(const std::string& path, const std::string& page) {
  io::write_file(path, page);
  std::fprintf(stderr, "%s: open it in a browser; the arrow keys step through it\n", path.c_str());
}

void explain_neuron(const NeuronLesson& l, const std::string& html, bool as_json) {
  if (!html.empty()) write_page(html, neuron_page(l));
  if (as_json) std::printf("%s\n", neuron_json(l).c_str());
  else print_neuron(l);
}

}  // namespace

void add_explain(CLI::App& app) {
  auto* c = app.add_subcommand("explain", "One training step of a small net, line by line");
  auto s = std::make_shared<Settings>();
  auto html = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  c->add_option("--steps", s->steps, "Steps of training")->capture_default_str();
  c->add_option("--at", s->at, "The step that is explained, from 1")->capture_default_str();
  c->add_option("--optimizer", s->optimizer, "adam, sgd or momentum")->capture_default_str();
  c->add_option("--lr", s->lr, "Learning rate (default: 0.05 adam, 0.3 sgd, 0.1 momentum)");
  c->add_option("--seed", s->seed, "Seed of the first weights")->capture_default_str();
  c->add_option("--html", *html, "Write a page to step through; prints the totals only");
  c->add_flag("--json", *as_json, "Print what the page shows, as JSON");
  auto neuron = std::make_shared<bool>(false);
  auto input =
      std::make_shared<std::vector<double>>(std::vector<double>{1.5, 1.5, 1.5, .25, 3, 0, 2, 1});
  auto attrs = std::make_shared<std::vector<std::string>>();
  auto* snn = c->add_flag("--snn", *neuron, "A spiking neuron over time instead of a net");
  c->add_option("--input", *input, "Its current in every step")->needs(snn)->capture_default_str();
  c->add_option("--attr", *attrs, "Its switches, as name=value (wattle ops neuron lists them)")
      ->needs(snn);
  c->callback([=] {
    if (*neuron) return explain_neuron(neuron_lesson(*input, *attrs), *html, *as_json);
    const Lesson lesson = run_lesson(*s);
    if (!html->empty()) write_page(*html, page_html(lesson));
    if (*as_json) {
      std::printf("%s\n", page_json(lesson).c_str());
    } else if (html->empty()) {
      print_lesson(lesson);
    } else {
      print_totals(lesson);
      print_result(lesson);
    }
  });
}

}  // namespace wattle::cli
