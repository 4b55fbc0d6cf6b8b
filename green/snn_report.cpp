// report.html of the study of spiking nets.
#include <cmath>

#include "core/error.h"
#include "green/report_parts.h"
#include "green/report_svg.h"
#include "green/report_text.h"
#include "green/run_device.h"
#include "green/snn_study.h"

namespace wattle::green {
namespace {

bool spikes(const SnnCell& c) { return c.point.activation.kind == SnnActivation::spikes; }
std::string micro(double pj) { return si(pj * 1e-12, "J"); }

std::string front(const std::vector<SnnCell>& cells, SnnTier tier, int64_t batch) {
  std::vector<ScatterPoint> points;
  for (const SnnCell& c : cells) {
    ScatterPoint p;
    p.label = c.point.name;
    p.x = snn_pj(c.layers, c.point.widths(), tier, batch) * 1e-12, p.y = c.mean, p.y_sd = c.sd;
    p.tooltip = str(c.point.name, ": ", percent(c.mean, 2), ", ", micro(p.x * 1e12));
    p.css = spikes(c) ? "n4" : "n1", p.square = spikes(c), p.hollow = !c.point.int8;
    points.push_back(p);
  }
  const std::string title = str(name(tier), ", batch ", batch, ", modelled");
  return str("<figure>",
             scatter_svg("Accuracy against joules of an image, " + title,
                         "an image's forward, " + title, "J", points),
             "</figure>\n");
}

std::string point_table(const SnnStudy& s, const std::vector<SnnCell>& cells) {
  std::string out =
      table_head({"point", "accuracy", "sd", "seeds", "E0", "E1, batch 1", "E1, batch 64",
                  "weights from DRAM, batch 1", "batch 64", "bit budget", "ms here, batch 1",
                  "batch 64", "training J", "no spikes"});
  for (const SnnCell& c : cells) {
    const SnnWidths w = c.point.widths();
    const auto pj = [&](SnnTier t, int64_t batch) { return micro(snn_pj(c.layers, w, t, batch)); };
    out += table_row({c.point.name, percent(c.mean, 2), percent(c.sd, 2), str(c.accuracy.size()),
                      pj(SnnTier::compute, 1), pj(SnnTier::buffers, 1), pj(SnnTier::buffers, 64),
                      pj(SnnTier::dram, 1), pj(SnnTier::dram, 64),
                      si(snn_bit_budget(c.layers, w), ""), fixed(c.ms1, 3), fixed(c.ms64, 3),
                      fixed(c.train_j, 1), spikes(c) ? percent(c.silenced, 1) : "-"});
  }
  out += table_end;
  bool measured = false;
  for (const SnnRun& r : s.runs) measured = measured || r.joules_batch64.available();
  return out + (measured ? ""
                         : "<p class=\"note\">E2, joules measured on this machine: -, it has no "
                           "meter. Times are this "
                           "machine's.</p>\n");
}

// The numbers that a point of spikes stands against: of the same weight bits, the nearest accuracy.
const SnnCell* partner(const std::vector<SnnCell>& cells, const SnnCell& c) {
  const SnnCell* out = nullptr;
  for (const SnnCell& o : cells) {
    if (spikes(o) || o.point.int8 != c.point.int8) continue;
    if (!out || std::fabs(o.mean - c.mean) < std::fabs(out->mean - c.mean)) out = &o;
  }
  return out;
}

std::string layer_table(const SnnCell& c, const SnnCell& numbers) {
  std::string out = table_head({"layer", "rate s", "T s", "on in any step", "silent neurons",
                                str(numbers.point.name, ": on"), "its products", "additions",
                                "neuron operations", "weight B", "spike B", "state B", "E1 pJ",
                                "of numbers", "break-even s, E0", "E1", "DRAM", "cheaper by"});
  const SnnWidths ws = c.point.widths(), wn = numbers.point.widths();
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const SnnLayer &l = c.layers[i], &n = numbers.layers[i];
    const SnnBytes b = snn_bytes(l, ws, 1);
    const auto even = [&](SnnTier t) -> std::string {
      if (!l.of_spikes) return "-";
      const auto rate = break_even_rate(l, ws, n, wn, t, 1);
      return !rate ? "never" : *rate > 1 ? "always" : percent(*rate, 1);
    };
    const double own = snn_layer_pj(l, ws, SnnTier::buffers, 1);
    const double other = snn_layer_pj(n, wn, SnnTier::buffers, 1);
    out += table_row({l.name, percent(l.rate, 1),
                      l.of_spikes ? fixed(l.rate * static_cast<double>(l.steps), 2) : "-",
                      percent(l.any, 1), l.fires ? percent(l.silent, 1) : "-", percent(n.rate, 1),
                      si(n.ops, ""), str(si(l.ops, ""), l.of_spikes ? "" : " products"),
                      si(l.neuron_add + l.neuron_mul + l.neuron_cmp, ""), si(b.weights, "B"),
                      si(b.in + b.out, "B"), si(b.state, "B"), micro(own), micro(other),
                      even(SnnTier::compute), even(SnnTier::buffers), even(SnnTier::dram),
                      own < other ? "spikes" : "numbers"});
  }
  return out + table_end;
}

std::string layers(const std::vector<SnnCell>& cells) {
  std::string out;
  for (const SnnCell& c : cells) {
    const SnnCell* const n = spikes(c) ? partner(cells, c) : nullptr;
    if (!n) continue;
    out +=
        str("<details><summary><b>", c.point.name, "</b> beside ", n->point.name, " (",
            percent(c.mean, 2), " and ", percent(n->mean, 2), ")</summary>\n", layer_table(c, *n));
    const double more = c.train_j - n->train_j;
    const double saved = snn_pj(n->layers, n->point.widths(), SnnTier::buffers, 1) -
                         snn_pj(c.layers, c.point.widths(), SnnTier::buffers, 1);
    out += more <= 0 ? "<p>Its training took no more joules.</p>"
           : saved <= 0
               ? str("<p>Its training took ", fixed(more, 1),
                     " J more, which no number of inferences repays: each costs more, too.</p>")
               : str("<p>Its training took ", fixed(more, 1), " J more; ",
                     si(more / (saved * 1e-12), ""), " inferences (E1, batch 1) repay that.</p>");
    out += "</details>\n";
  }
  return out;
}

std::string raster(const SnnRun& r) {
  std::string out;
  for (size_t layer = 0; layer < r.raster.size(); ++layer) {
    const std::vector<std::string>& rows = r.raster[layer];
    const double step = 14, high = 6;
    const double w = 60 + step * static_cast<double>(rows.empty() ? 0 : rows[0].size());
    const double h = 20 + high * static_cast<double>(rows.size());
    out += str("<div style=\"width:", svg::num(w * 1.2), "px\">",
               svg::open(w, h, str("Spikes of layer ", layer + 1)),
               svg::text(0, 10, "tick", r.layers[layer].name));
    for (size_t i = 0; i < rows.size(); ++i)
      for (size_t t = 0; t < rows[i].size(); ++t)
        if (rows[i][t] == '1')
          out += str("<rect x=\"", svg::num(44 + step * static_cast<double>(t)), "\" y=\"",
                     svg::num(4 + high * static_cast<double>(i)),
                     "\" width=\"4\" height=\"5\" class=\"n4\"/>");
    out += svg::line(40, h - 14, w, h - 14, "axis") + svg::text(44, h - 2, "tick", "steps") +
           "</svg></div>\n";
  }
  return out;
}

std::string rasters(const SnnStudy& s) {
  std::string out;
  for (const SnnRun& r : s.runs) {
    if (r.raster.empty() || r.point.ends_with(", int8")) continue;
    out += str("<h3>", r.point, "</h3><div style=\"display:flex;gap:24px;flex-wrap:wrap\">",
               raster(r), "</div>\n");
  }
  return out;
}

// NeuroBench's names; the first seed's figures.
std::string neurobench_table(const SnnStudy& s) {
  std::string out = table_head({"point", "footprint", "connection sparsity", "activation sparsity",
                                "Effective_MACs", "Effective_ACs", "Dense"});
  for (const SnnRun& r : s.runs) {
    if (r.seed != 1) continue;
    const NeuroBench& b = r.bench;
    out +=
        table_row({r.point, si(double(b.footprint_bytes), "B"), percent(b.connection_sparsity, 2),
                   percent(b.activation_sparsity, 1), si(b.effective_macs, ""),
                   si(b.effective_acs, ""), si(b.dense_operations, "")});
  }
  return out + table_end;
}

std::string run_table(const SnnStudy& s) {
  std::string out = table_head({"point", "seed", "lr", "validation by epoch", "epoch taken", "test",
                                "passes over the test set", "no spikes, validation", "training s"});
  for (const SnnRun& r : s.runs) {
    std::string v;
    for (const double a : r.validation) v += (v.empty() ? "" : " ") + percent(a, 2);
    out += table_row({r.point, str(r.seed), str(r.lr), v, str(r.epoch), percent(r.test, 2),
                      str(r.test_passes), r.silenced > 0 ? percent(r.silenced, 1) : "-",
                      fixed(r.train_seconds, 1)});
  }
  return out + table_end;
}

constexpr const char* kRules = R"(<ul>
<li>One topology, one order of the images of a seed, the same epochs and learning rates to choose from. The validation images pick rate and epoch; the test set is passed once.</li>
<li>Both sides skip zeros: products and additions are counted input by input, taps in the padding are none. Spikes are additions because of their type, whatever other values look like. The first layer sees the image on both sides; its current is constant and computed once.</li>
<li>Weights are read once for a batch where they can be kept; a row of a linear layer only if its input is on in any step of any image. Potentials are read and written in every step. Spikes travel as bit maps, so there are no indices.</li>
<li>E0: operations alone (Horowitz 2014: f32 product 3.7, sum 0.9 pJ; int8 product 0.2, 32-bit sum 0.1). E1: and bytes, from a memory as large as what it holds (8 kB 10, 32 kB 20, 1 MB 100 pJ for 64 bits). DRAM: weights at 1950 pJ for 64 bits. All of these are models, not measurements.</li>
<li>A ratio is given only between arms with the same weights in the same bits and accuracies within half a point of the best that both reach.</li>
</ul>
)";

}  // namespace

std::string snn_study_html(const SnnStudy& s) {
  const std::vector<SnnCell> cells = cells_of(s);
  const std::string title = "Spiking nets against nets of numbers";
  std::string out =
      str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>", title,
          "</title>\n<style>", report::css, "</style>\n</head>\n<body>\n<main>\n<h1>", title,
          "</h1>\n<p>", s.options.dataset, ", ", s.options.rows, " training images, ",
          s.options.epochs, " epochs of Adam, ", s.options.seeds, " seeds; images from ",
          s.first_validation_row, " on validate. Two convolutions 3x3 and two linear layers. ",
          escape_html(host_text(s.cpu, s.isa, s.device)), ". ", escape_html(s.energy), "</p>\n");
  out += "<section><h2>Verdict</h2>\n<ul>\n";
  for (const std::string& v : verdict_sentences(s)) out += str("<li>", escape_html(v), "</li>\n");
  out += str("</ul>\n<h3>Rules</h3>\n", kRules, "</section>\n");
  out +=
      "<section><h2>Accuracy against joules</h2>\n<p>Squares spike, circles are numbers; hollow: "
      "f32 weights, full: int8. Bars are a standard deviation of the seeds.</p>\n";
  for (const SnnTier t : snn_tiers) out += front(cells, t, 1);
  out += str(front(cells, SnnTier::buffers, 64), point_table(s, cells), "</section>\n");
  out += str(
      "<section><h2>Layer by layer</h2>\n<p>Per image, batch 1. A layer's break-even rate is "
      "the one below which its spikes cost less than the numbers beside it; the last column "
      "names the cheaper side by E1: a hybrid would take that.</p>\n",
      layers(cells), "</section>\n<section><h2>Spikes of one image</h2>\n", rasters(s),
      "</section>\n<section><h2>NeuroBench</h2>\n<p>Synaptic operations per image, all steps; the "
      "footprint is that of f32, in which weights lie here.</p>\n",
      neurobench_table(s), "</section>\n<section><h2>Every run</h2>\n", run_table(s),
      "</section>\n");
  return out +
         "<footer>Data: runs.csv, layers.csv and study.json beside this file.</footer>\n"
         "</main>\n</body>\n</html>\n";
}

}  // namespace wattle::green
