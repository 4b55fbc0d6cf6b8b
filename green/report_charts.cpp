// The charts of the report: which figures go where.
#include <cmath>
#include <map>

#include "core/error.h"
#include "green/report_parts.h"
#include "green/report_svg.h"
#include "green/report_text.h"

namespace wattle::green::report {
namespace {

std::vector<Segment> type_segments() {
  constexpr const char* labels[] = {"convolution", "linear",    "ReLU", "batch norm", "pooling",
                                    "loss",        "optimiser", "data", "other"};
  std::vector<Segment> s;
  for (size_t k = 0; k < layer_type_count; ++k) {
    s.push_back({labels[k], str("t-", name(static_cast<LayerType>(k)))});
  }
  return s;
}

std::vector<Segment> phase_segments() {
  return {{"forward", "p-forward"},
          {"backward", "p-backward"},
          {"optimiser", "p-optimizer"},
          {"data", "p-data"}};
}

// Values per net of an array member; scaled to base units.
template <class Member>
std::vector<std::vector<double>> per_net(const Analysis& a, Member member, double scale) {
  std::vector<std::vector<double>> out;
  for (const NetSummary& n : a.nets) {
    if (!n.has_layers) continue;
    std::vector<double> row;
    for (const double v : n.*member) row.push_back(v * scale);
    out.push_back(row);
  }
  return out;
}

std::vector<std::string> layered_labels(const Analysis& a) {
  std::vector<std::string> labels;
  for (const NetSummary& n : a.nets) {
    if (n.has_layers) labels.push_back(n.label);
  }
  return labels;
}

BarPanel joule_panel(const Analysis& a, std::vector<std::vector<double>> values) {
  return {"Joules per run", energy_origin(a), "J", std::move(values),
          "not available: no meter and no table for these ops"};
}

std::string figure(const std::string& legend, const std::string& svg) {
  return str("<figure>", legend, svg, "</figure>\n");
}

std::string colour_class(const NetKey& k) {
  return k.net != "cnn" ? "dense" : k.conv <= 1 ? "n1" : "n4";
}

std::vector<ScatterPoint> points(const Analysis& a, bool seconds) {
  std::vector<ScatterPoint> out;
  for (const NetSummary& n : a.nets) {
    const double x = seconds ? mean(n.seconds) : n.energy.joules(), y = mean(n.accuracy);
    if (!std::isfinite(x) || !std::isfinite(y)) continue;
    ScatterPoint p;
    p.label = n.label, p.x = x, p.y = y, p.y_sd = sd(n.accuracy), p.css = colour_class(n.key);
    p.square = n.key.linear > 3, p.hollow = n.key.net == "cnn" && !n.key.relu;
    p.tooltip = str(n.label, ": accuracy ", percent(y, 2), ", ",
                    seconds ? si(x, "s") + " measured" : n.energy.str());
    out.push_back(p);
  }
  Vec value, cost;
  for (const ScatterPoint& p : out) value.push_back(p.y), cost.push_back(p.x);
  for (const size_t i : pareto_front(value, cost)) out[i].on_front = true;
  return out;
}

std::string scatter_legend(const Analysis& a) {
  bool dense = false;
  for (const NetSummary& n : a.nets) dense = dense || n.key.net != "cnn";
  const auto key = [](const char* shape, const char* text) {
    return str("<span><svg class=\"key\" viewBox=\"0 0 14 14\" aria-hidden=\"true\">", shape,
               "</svg>", text, "</span>\n");
  };
  std::string s = "<p class=\"legend\">";
  s += key("<circle cx=\"7\" cy=\"7\" r=\"5.5\" class=\"mark n1\"/>", "1 convolution block");
  s += key("<circle cx=\"7\" cy=\"7\" r=\"5.5\" class=\"mark n4\"/>", "4 convolution blocks");
  if (dense) s += key("<circle cx=\"7\" cy=\"7\" r=\"5.5\" class=\"mark dense\"/>", "dense net");
  s += key("<circle cx=\"7\" cy=\"7\" r=\"5\" class=\"mark n1 hollow\"/>", "hollow: no ReLU");
  s += key("<circle cx=\"7\" cy=\"7\" r=\"5\" class=\"mark dense\"/>", "round: 3 linear layers");
  s += key("<rect x=\"2\" y=\"2\" width=\"10\" height=\"10\" class=\"mark dense\"/>",
           "square: 7 linear layers");
  return s +
         "<span><svg class=\"key wide\" viewBox=\"0 0 26 12\" aria-hidden=\"true\"><path "
         "d=\"M0 6H26\" class=\"front\"/></svg>Pareto front</span></p>\n";
}

}  // namespace

std::string cost_by_layer(const Analysis& a) {
  const std::vector<std::string> labels = layered_labels(a);
  if (labels.empty()) return "<p>The result holds no layer rows.</p>\n";
  const std::vector<BarPanel> panels = {
      {"FLOPs per run", "every floating-point operation, counted", "FLOP",
       per_net(a, &NetSummary::type_flops, 1), "no FLOPs counted"},
      {"Time per run", "inside layers, measured", "s", per_net(a, &NetSummary::type_ms, 1e-3),
       "not timed"},
      joule_panel(a, per_net(a, &NetSummary::type_joules, 1))};
  const std::vector<Segment> segments = type_segments();
  return figure(legend_html(segments, panels),
                stacked_bars_svg("FLOPs, time and joules per run of each net, by layer type",
                                 labels, segments, panels, false));
}

std::string cost_by_phase(const Analysis& a) {
  const std::vector<std::string> labels = layered_labels(a);
  if (labels.empty()) return "<p>The result holds no layer rows.</p>\n";
  std::vector<BarPanel> panels = {{"Share of time", "inside layers, measured", "s",
                                   per_net(a, &NetSummary::phase_ms, 1e-3), "not timed"},
                                  joule_panel(a, per_net(a, &NetSummary::phase_joules, 1))};
  panels[1].title = "Share of joules";
  const std::vector<Segment> segments = phase_segments();
  return figure(legend_html(segments, panels),
                stacked_bars_svg("Share of time and joules of each net, by phase", labels, segments,
                                 panels, true));
}

std::string accuracy_against_cost(const Analysis& a) {
  std::string left =
      a.has_joules
          ? scatter_svg("Test accuracy against joules per run with the Pareto front",
                        str("joules per run (", energy_origin(a), ")"), "J", points(a, false))
          : "<p>Joules are not available in this study.</p>";
  return str("<figure>", scatter_legend(a), "<div class=\"pair\"><div>", left, "</div><div>",
             scatter_svg("Test accuracy against measured time per run with the Pareto front",
                         "seconds per run (measured)", "s", points(a, true)),
             "</div></div></figure>\n");
}

std::string learning_curves(const Analysis& a) {
  std::map<NetKey, std::map<int, Vec>> by_net;
  bool validation = false;
  for (const EpochPoint& p : a.study->curves) {
    if (!std::isfinite(p.accuracy)) validation = true;
  }
  for (const EpochPoint& p : a.study->curves) {
    const double y = validation ? p.val_accuracy : p.accuracy;
    if (std::isfinite(y)) by_net[p.key][p.epoch].push_back(y);
  }
  std::vector<Line> lines;
  size_t epochs = 0;
  for (const NetSummary& n : a.nets) {
    const auto found = by_net.find(n.key);
    if (found == by_net.end()) continue;
    Line l{n.label, colour_class(n.key), n.key.linear > 3, n.key.net == "cnn" && !n.key.relu, {}};
    for (const auto& [epoch, values] : found->second) l.points.push_back({epoch, mean(values)});
    epochs = std::max(epochs, l.points.size()), lines.push_back(std::move(l));
  }
  if (epochs < 2) return "";
  return str("<h2>Accuracy by epoch</h2>\n<p class=\"note\">", validation ? "Validation" : "Test",
             " accuracy, mean over seeds. Blue: 1 convolution block; orange: 4; grey: dense net; "
             "thin: no ReLU; dashed: 7 linear layers.</p>\n",
             figure("", lines_svg("Accuracy of each net after each epoch", "epoch", lines)));
}

}  // namespace wattle::green::report
