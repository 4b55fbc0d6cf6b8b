// report.html of the study of mixtures of experts.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "energy/carbon.h"
#include "green/moe_study.h"
#include "green/report_parts.h"
#include "green/report_svg.h"
#include "green/report_text.h"
#include "green/run_device.h"

namespace wattle::green {
namespace {

struct Cell {
  const MoeArm* arm;
  std::vector<double> losses;
  MoeRun first;
  double mid() const { return median(losses); }
  double half_range() const {
    const auto [lo, hi] = std::minmax_element(losses.begin(), losses.end());
    return (*hi - *lo) / 2;
  }
};

std::vector<Cell> cells_of(const MoeStudy& s) {
  std::vector<Cell> out;
  for (const MoeArm& arm : moe_arms()) {
    Cell c{&arm, {}, {}};
    for (const MoeRun& r : s.runs)
      if (r.arm == arm.name) {
        if (c.losses.empty()) c.first = r;
        c.losses.push_back(r.loss);
      }
    if (!c.losses.empty()) out.push_back(c);
  }
  return out;
}

std::string scatter(const std::vector<Cell>& cells, const std::string& title,
                    const std::string& unit, double (*x)(const MoeRun&)) {
  std::vector<ScatterPoint> points;
  for (const Cell& c : cells)
    points.push_back(
        {.label = c.arm->name,
         .tooltip = str(c.arm->name, " (", c.arm->about, "): ", fixed(c.mid(), 4), " nats"),
         .x = x(c.first),
         .y = c.mid(),
         .y_sd = c.losses.size() > 1 ? c.half_range() : 0,
         .css = c.arm->model.moe ? "p-cnn" : "p-optimizer",
         .hollow = !c.arm->model.moe});
  return scatter_svg("Loss against " + title, title, unit, points, false);
}

std::string account_table(const std::vector<Cell>& cells) {
  std::string out = table_head({"arm", "loss (median)", "lowest to highest", "seeds", "weights",
                                "active", "MFLOP a token", "gate apart", "bytes moved", "optimiser",
                                "routing", "experts touched", "their bytes", "resident", "J", "s"});
  for (const Cell& c : cells) {
    const MoeRun& r = c.first;
    const auto [lo, hi] = std::minmax_element(c.losses.begin(), c.losses.end());
    out += table_row(
        {str("<span title=\"", escape_html(c.arm->about), "\">", c.arm->name, "</span>"),
         fixed(c.mid(), 4), str(fixed(*lo, 4), " \u2013 ", fixed(*hi, 4)), str(c.losses.size()),
         si(double(r.params_total), ""), si(double(r.params_active), ""),
         fixed(r.active_flops * 1e-6, 3), fixed(r.gate_flops * 1e-6, 3), si(double(r.bytes), "B"),
         si(double(r.optimizer_bytes), "B"), si(double(r.index_bytes), "B"),
         r.load.empty() ? "-" : fixed(r.experts_touched, 1),
         r.load.empty() ? "-" : si(r.weight_bytes_touched, "B"), si(double(r.resident_bytes), "B"),
         fixed(r.joules.joules(), 1), fixed(r.seconds, 0)});
  }
  return out + table_end;
}

std::string claim_table(const MoeStudy& s) {
  std::string out = table_head({"claim", "here", ""});
  for (const MoeClaim& c : claims_of(s)) {
    const char* word = c.verdict == MoeClaim::holds   ? "replicates"
                       : c.verdict == MoeClaim::fails ? "<b>does not replicate</b>"
                       : c.verdict == MoeClaim::open  ? "too few seeds"
                                                      : "reported, not asserted";
    out += str("<tr><th scope=\"row\" class=\"l\">", escape_html(c.text), "</th><td class=\"l\">",
               escape_html(c.found), "</td><td class=\"l\">", word, "</td></tr>\n");
  }
  return out + table_end;
}

std::string seed_table(const MoeStudy& s, const std::vector<Cell>& cells) {
  std::vector<std::string> names{"arm"};
  for (int seed = 1; seed <= s.options.seeds; ++seed) names.push_back(str("seed ", seed));
  names.push_back("MaxVio (held-out text)");
  std::string out = table_head(names);
  for (const Cell& c : cells) {
    std::vector<std::string> r{c.arm->name};
    const auto losses = losses_of(s, c.arm->name);
    for (int seed = 1; seed <= s.options.seeds; ++seed) {
      std::string text = "-";
      for (const auto& [at, loss] : losses)
        if (at == seed) text = fixed(loss, 4);
      r.push_back(text);
    }
    std::vector<double> vio;
    for (const MoeRun& run : s.runs)
      if (run.arm == c.arm->name) vio.push_back(run.max_vio);
    r.push_back(c.first.load.empty() ? "-" : fixed(median(vio), 2));
    out += table_row(r);
  }
  return out + table_end;
}

// Bars of the rows that each expert of a layer got, of the first seed.
std::string load_bars(const MoeRun& r) {
  std::string out;
  for (size_t layer = 0; layer < r.load.size(); ++layer) {
    const std::vector<int64_t>& load = r.load[layer];
    const double most =
        static_cast<double>(std::max<int64_t>(1, *std::max_element(load.begin(), load.end())));
    double sum = 0;
    for (int64_t n : load) sum += static_cast<double>(n);
    const double w = 520, h = 70, step = w / static_cast<double>(load.size());
    out += svg::open(w, h + 22, str("Load per expert, layer ", layer + 1));
    for (size_t e = 0; e < load.size(); ++e) {
      const double height = h * static_cast<double>(load[e]) / most;
      out += str("<rect x=\"", svg::num(static_cast<double>(e) * step), "\" y=\"",
                 svg::num(h - height), "\" width=\"", svg::num(step * 0.8), "\" height=\"",
                 svg::num(height), "\" class=\"p-forward\"><title>expert ", e, ": ",
                 percent(static_cast<double>(load[e]) / sum, 2), "</title></rect>");
    }
    const double mean = h * (sum / static_cast<double>(load.size())) / most;
    out += svg::line(0, h - mean, w, h - mean, "axis");
    out +=
        svg::text(0, h + 16, "tick",
                  str(r.arm, ", layer ", layer + 1, ": load of each expert; the line is the mean"));
    out += "</svg>\n";
  }
  return out;
}

std::string embodied(const std::vector<Cell>& cells) {
  std::string parts;
  for (const Cell& c : cells)
    if (c.arm->name == "dense2" || c.arm->name == "m4" || c.arm->name == "gshard")
      parts +=
          str(parts.empty() ? "" : ", ", c.arm->name, " ", si(double(c.first.resident_bytes), "B"));
  return parts;
}

}  // namespace

std::string moe_study_html(const MoeStudy& s) {
  const std::vector<Cell> cells = cells_of(s);
  const std::string title = "Mixtures of experts: what they cost and what they give";
  std::string out =
      str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>", title,
          "</title>\n<style>", report::css, "</style>\n</head>\n<body>\n<main>\n<h1>", title,
          "</h1>\n");
  std::string text;
  for (const std::string& t : s.text_about) text += (text.empty() ? "" : "; ") + t;
  out += str("<p>Byte-level language models of 2 layers, d 64, context 64; ", s.options.tokens,
             " training bytes, AdamW at ", s.options.lr,
             ", the same order of the text for all arms of a seed; the last weights, no tuning per "
             "arm. Text: ",
             escape_html(text), " (sha256 ", s.text_sha256.substr(0, 16),
             "). Loss: nats per byte of held-out text, without balance losses. ",
             escape_html(host_text(s.cpu, s.isa, s.device)), ". ", escape_html(s.energy), "</p>\n");
  out +=
      "<section><h2>Loss against active FLOPs, bytes, joules</h2>\n<p>Active FLOPs make a mixture "
      "look cheap: it costs a token as "
      "much as dense2. The bytes do not: every expert is resident, and the optimiser moves all of "
      "them at every step. Bars span the seeds.</p>\n";
  out += scatter(cells, "active FLOPs of a token, forward and backward, gates apart", "FLOP",
                 [](const MoeRun& r) { return r.active_flops; });
  out += scatter(cells, "bytes moved in training", "B",
                 [](const MoeRun& r) { return double(r.bytes); });
  out += scatter(cells,
                 str("joules of training (",
                     cells.empty() ? "" : std::string(word(cells[0].first.joules.kind)), ")"),
                 "J", [](const MoeRun& r) { return r.joules.joules(); });
  out += "</section>\n<section><h2>Which claims of the paper replicate at this scale</h2>\n" +
         claim_table(s) + "</section>\n";
  out += "<section><h2>Every run</h2>\n" + seed_table(s, cells) + "</section>\n";
  out +=
      "<section><h2>The account</h2>\n<p>Figures of the first seed. Active weights, FLOPs of a "
      "token with its gate apart, unique bytes of all ops, "
      "the share of the optimiser and of routing, distinct experts of a batch of 2048 tokens and "
      "the bytes of their weights, memory for weights "
      "and moments.</p>\n" +
      account_table(cells);
  out +=
      str("<p>Memory is bought, not borrowed: the embodied share of a run grows with what is "
          "resident (",
          embodied(cells), "), whatever is active.</p></section>\n");
  out += "<section><h2>Load</h2>\n";
  for (const Cell& c : cells)
    if (!c.first.load.empty() && c.arm->name != "hash") out += load_bars(c.first);
  out +=
      "</section>\n<footer>Data: runs.csv and study.json beside this file; trained models in "
      "models/.</footer>\n</main>\n</body>\n</html>\n";
  return out;
}

}  // namespace wattle::green
