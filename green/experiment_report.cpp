#include "green/experiment_report.h"

#include <cmath>

#include "core/error.h"
#include "green/distribution_charts.h"
#include "green/report_parts.h"
#include "green/report_text.h"

namespace wattle::green {
namespace {

std::string capital(std::string s) {
  if (!s.empty() && s[0] >= 'a' && s[0] <= 'z') s[0] = static_cast<char>(s[0] - 'a' + 'A');
  return s;
}

std::string figure(double v, const Quantity& q, int digits = 4) {
  return q.unit.empty() ? significant(v, digits) : si(v, q.unit, digits);
}

std::string cells(const std::vector<std::string>& items, const char* tag = "td") {
  std::string out = "<tr>";
  for (size_t i = 0; i < items.size(); ++i) {
    out += str("<", tag, i ? ">" : " class=\"l\">", escape_html(items[i]), "</", tag, ">");
  }
  return out + "</tr>\n";
}

std::string table(const std::string& caption, const std::vector<std::string>& head,
                  const std::string& rows) {
  return str("<div class=\"scroll\"><table><caption>", escape_html(caption), "</caption>\n<thead>",
             cells(head, "th"), "</thead>\n<tbody>\n", rows, "</tbody></table></div>\n");
}

std::string list(const std::vector<std::string>& items) {
  std::string out = "<ul>\n";
  for (const std::string& s : items) out += str("<li>", escape_html(s), "</li>\n");
  return out + "</ul>\n";
}

std::string variants_table(const Quantity& q) {
  std::string rows;
  for (const VariantSummary& v : q.variants) {
    const size_t all = v.values.size();
    rows +=
        cells({v.name, str(v.kept.size(), " of ", all), figure(v.mean, q), figure(v.sd, q, 3),
               percent(v.sd / std::fabs(v.mean), 2), figure(v.median, q), fixed(v.normality.w, 4),
               p_text(v.normality.p), fixed(v.drift.rho, 2), p_text(v.drift.p)});
  }
  const char* note = q.outliers_removed ? ", values beyond three standard deviations left out" : "";
  return table(str("Variants", note),
               {"variant", "runs kept", "mean", "sd", "sd / mean", "median", "Shapiro\u2013Wilk W",
                "p", "Spearman with order", "p"},
               rows);
}

std::string pairs_table(const Quantity& q) {
  if (q.pairs.empty()) return "";
  std::string rows;
  for (const PairResult& p : q.pairs) {
    const bool interval = std::isfinite(p.ratio.lo);
    rows += cells(
        {str(q.variants[p.a].name, " \u2013 ", q.variants[p.b].name), figure(p.difference, q, 3),
         significant(p.ratio.mid, 4),
         interval ? str(significant(p.ratio.lo, 4), " \u2026 ", significant(p.ratio.hi, 4))
                  : std::string("-"),
         p.test, p_text(p.p), p_text(p.p_holm), fixed(p.d, 2), fixed(p.a12, 2),
         std::string(p.effect), str(fixed(p.welch.t, 3), " (", fixed(p.welch.df, 1), ")"),
         p_text(p.welch.p), str(fixed(p.mann_whitney.u, 1), p.mann_whitney.exact ? " exact" : ""),
         p_text(p.mann_whitney.p)});
  }
  return table("Pairs: first minus second, first over second",
               {"pair", "difference", "ratio", "95 % interval", "test", "p", "p corrected", "d",
                "A12", "effect", "Welch t (df)", "its p", "Mann\u2013Whitney U", "its p"},
               rows);
}

// Run number, value, temperature and outlier state of one value, for its tooltip.
std::string tooltip(const Experiment& e, const Quantity& q, const VariantSummary& v, size_t i) {
  const Sample& s = e.samples.at(static_cast<size_t>(v.order[i]));
  std::string text = str(v.name, ", run ", s.order + 1, ": ", figure(v.values[i], q, 5));
  if (std::isfinite(s.temperature_c)) text += str(", ", fixed(s.temperature_c, 1), " \u00b0C");
  return v.keep[i] ? text : text + ", left out";
}

std::string charts(const Experiment& e, const Quantity& q) {
  std::vector<Distribution> rows;
  std::vector<OrderPoint> points;
  std::vector<std::string> labels;
  for (size_t k = 0; k < q.variants.size(); ++k) {
    const VariantSummary& v = q.variants[k];
    Distribution d{v.name, v.values, v.keep, {}};
    for (size_t i = 0; i < v.values.size(); ++i) {
      d.tooltips.push_back(tooltip(e, q, v, i));
      points.push_back(
          {v.order[i] + 1.0, v.values[i], static_cast<int>(k), !v.keep[i], d.tooltips.back()});
    }
    labels.push_back(v.name), rows.push_back(std::move(d));
  }
  const std::string title =
      q.name == "joules" ? str("joules of a run (", q.origin, ")") : str(q.name, " of a run");
  return str("<figure>", distribution_svg(str("Distribution of ", title), title, q.unit, rows),
             "</figure>\n<figure>", row_legend_html(labels),
             run_order_svg(str(capital(q.name), " in the order of running"), title, q.unit, points),
             "</figure>\n");
}

std::string quantity_section(const Experiment& e, const Quantity& q) {
  std::string out = str("<h2>", escape_html(capital(q.name)), "</h2>\n");
  if (!q.refused.empty()) return out + str("<p>", escape_html(q.refused), "</p>\n");
  out += charts(e, q) + variants_table(q) + pairs_table(q);
  return out;
}

std::string temperature_section(const Experiment& e) {
  std::vector<OrderPoint> points;
  for (const Sample& s : e.samples) {
    if (!std::isfinite(s.temperature_c)) continue;
    points.push_back({s.order + 1.0, s.temperature_c, -1, false,
                      str("run ", s.order + 1, ": ", fixed(s.temperature_c, 1), " \u00b0C")});
  }
  if (points.empty()) return "";
  return str("<h2>Temperature</h2>\n<p class=\"note\">Of the processor, before each run.</p>\n",
             "<figure>",
             run_order_svg("Temperature before each run", "temperature, \u00b0C", "", points),
             "</figure>\n");
}

std::string findings(const ExperimentAnalysis& a) {
  std::string out;
  for (const Quantity& q : a.quantities) {
    for (const PairResult& p : q.pairs) {
      out += str("<li>", escape_html(p.conclusion), "</li>\n");
    }
  }
  return out.empty() ? "" : str("<ol class=\"findings\">\n", out, "</ol>\n");
}

std::string row(const std::string& key, const std::string& value) {
  return str("<tr><th scope=\"row\" class=\"l\">", escape_html(key), "</th><td class=\"l wrap\">",
             escape_html(value.empty() ? "-" : value), "</td></tr>\n");
}

std::string protocol(const Experiment& e) {
  const ExperimentOptions& o = e.options;
  std::string rows;
  for (const auto& v : e.variants) rows += row(str("Variant ", v.name), v.what);
  rows += row("Repetitions", str(o.repetitions, " of each variant"));
  rows += row("Order", str("every round runs all variants in a random order, seed ", o.seed));
  rows += row("Warm-up", str(o.warmup, " of each variant, thrown away"));
  rows += row("Rest between runs", duration(o.rest_s));
  rows += row("Outliers", o.outliers == OutlierRule::none
                              ? "none are removed"
                              : "where a variant fails the test of normality, values more than "
                                "three standard deviations from the mean leave all variants, once");
  rows +=
      row("Tests",
          "Shapiro\u2013Wilk on every variant; Welch's t where both are normal (p > 0.05), else "
          "Mann\u2013Whitney; two-sided at 0.05; p corrected by Holm over the pairs of a "
          "quantity; interval of the ratio of means from 2000 bootstrap samples");
  for (const auto& [key, value] : e.settings) rows += row(capital(key), value);
  return str("<h2>Protocol</h2>\n<div class=\"scroll\"><table><tbody>\n", rows,
             "</tbody></table></div>\n");
}

}  // namespace

std::string experiment_report_html(const Experiment& e, const ExperimentAnalysis& a) {
  std::string names;
  for (size_t i = 0; i < e.variants.size(); ++i) {
    names += str(i == 0 ? "" : i + 1 == e.variants.size() ? " and " : ", ", e.variants[i].name);
  }
  const std::string title = escape_html(str("Experiment: ", names));
  std::string out = str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
                        "<title>", title, "</title>\n<style>", report::css, distribution_css,
                        "</style>\n</head>\n<body>\n<main>\n<p><b>", escape_html(a.energy_line),
                        "</b></p>\n<h1>", title, "</h1>\n");
  out += str("<p class=\"sub\">", e.samples.size(), " runs, ", e.options.repetitions,
             " repetitions planned of ", e.variants.size(),
             e.variants.size() == 1 ? " variant" : " variants", "</p>\n");
  if (!a.warnings.empty()) {
    out += str("<div class=\"box warn\"><h3>Read this first</h3>\n", list(a.warnings), "</div>\n");
  }
  out += findings(a);
  for (const Quantity& q : a.quantities) out += quantity_section(e, q);
  out += temperature_section(e) + protocol(e);
  return out +
         "<footer>Data: samples.csv and experiment.json beside this file.</footer>\n</main>\n"
         "</body>\n</html>\n";
}

}  // namespace wattle::green
