// The page of an experiment: violins with boxes, the samples in order, the tables.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "green/experiment.h"
#include "green/report_parts.h"
#include "green/report_svg.h"
#include "green/report_text.h"

namespace wattle::green {
namespace {

constexpr double width = 720, left = 90, top = 16, row_height = 84;

std::string f1(double v) {
  char buf[32];
  std::snprintf(buf, sizeof buf, "%.1f", v);
  return buf;
}

std::string figure(double v, const std::string& unit) {
  if (!std::isfinite(v)) return "-";
  char buf[48];
  std::snprintf(buf, sizeof buf, "%.4g %s", v, unit.c_str());
  return buf;
}

struct Axis {
  double lo = 0, hi = 1;
  double x(double v) const { return left + (v - lo) / (hi - lo) * (width - left - 20); }
};

Axis axis_of(const QuantityAnalysis& q) {
  Axis a{1e300, -1e300};
  for (const Distribution& d : q.variants)
    for (const double v : d.values) a.lo = std::min(a.lo, v), a.hi = std::max(a.hi, v);
  const double pad = a.hi > a.lo ? 0.08 * (a.hi - a.lo) : std::max(1e-12, 0.05 * std::fabs(a.hi));
  a.lo -= pad;
  a.hi += pad;
  return a;
}

// Gaussian kernel density with Silverman's width, scaled to at most 1.
std::vector<double> density(const Vec& x, const std::vector<double>& at) {
  const double s = sd(x);
  const double h = 0.9 * s * std::pow(double(x.size()), -0.2);
  std::vector<double> out(at.size());
  double top_value = 0;
  for (size_t i = 0; i < at.size(); ++i) {
    for (const double v : x) out[i] += std::exp(-0.5 * (at[i] - v) * (at[i] - v) / (h * h));
    top_value = std::max(top_value, out[i]);
  }
  for (double& d : out) d /= top_value > 0 ? top_value : 1;
  return out;
}

std::string violin(const Vec& x, const Axis& axis, double middle) {
  if (x.size() < 3 || !(sd(x) > 0)) return "";
  std::vector<double> at;
  for (int i = 0; i <= 80; ++i) at.push_back(axis.lo + (axis.hi - axis.lo) * i / 80);
  const std::vector<double> d = density(x, at);
  std::string upper, lower;
  for (size_t i = 0; i < at.size(); ++i) {
    upper += f1(axis.x(at[i])) + "," + f1(middle - 30 * d[i]) + " ";
    const size_t j = at.size() - 1 - i;
    lower += f1(axis.x(at[j])) + "," + f1(middle + 30 * d[j]) + " ";
  }
  return str("<polygon class=\"t-linear\" opacity=\"0.35\" points=\"", upper, lower, "\"/>\n");
}

std::string box(const Vec& x, const Axis& axis, double middle, const std::string& unit) {
  if (x.empty()) return "";
  const double q1 = quantile(x, 0.25), q2 = quantile(x, 0.5), q3 = quantile(x, 0.75);
  const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
  std::string out = str(
      "<line class=\"axis\" x1=\"", f1(axis.x(*lo)), "\" x2=\"", f1(axis.x(*hi)), "\" y1=\"",
      f1(middle), "\" y2=\"", f1(middle), "\"/>\n", "<rect class=\"t-conv\" x=\"", f1(axis.x(q1)),
      "\" y=\"", f1(middle - 7), "\" width=\"", f1(std::max(1.0, axis.x(q3) - axis.x(q1))),
      "\" height=\"14\"><title>quartiles ", figure(q1, unit), " and ", figure(q3, unit),
      "</title></rect>\n<line stroke=\"white\" stroke-width=\"2\" x1=\"", f1(axis.x(q2)),
      "\" x2=\"", f1(axis.x(q2)), "\" y1=\"", f1(middle - 7), "\" y2=\"", f1(middle + 7), "\"/>\n");
  for (size_t i = 0; i < x.size(); ++i)
    out += str("<circle class=\"t-optimizer\" r=\"1.8\" cx=\"", f1(axis.x(x[i])), "\" cy=\"",
               f1(middle + 22 + 5 * double(i % 3)), "\"/>\n");
  return out;
}

std::string distributions(const QuantityAnalysis& q) {
  const Axis axis = axis_of(q);
  const double height = top + row_height * double(q.variants.size()) + 40;
  std::string out = str("<svg viewBox=\"0 0 ", f1(width), " ", f1(height),
                        "\" role=\"img\" aria-label=\"Distribution of ", q.quantity, "\">\n");
  const double bottom = height - 34;
  for (const double t : round_ticks(axis.lo, axis.hi, 6))
    if (t >= axis.lo && t <= axis.hi)
      out += str("<line class=\"grid\" x1=\"", f1(axis.x(t)), "\" x2=\"", f1(axis.x(t)), "\" y1=\"",
                 f1(top), "\" y2=\"", f1(bottom),
                 "\"/><text class=\"tick\" text-anchor=\"middle\" x=\"", f1(axis.x(t)), "\" y=\"",
                 f1(bottom + 14), "\">", figure(t, q.unit), "</text>\n");
  for (size_t i = 0; i < q.variants.size(); ++i) {
    const double middle = top + row_height * (double(i) + 0.45);
    out += str("<text x=\"0\" y=\"", f1(middle + 4), "\">", escape_html(q.variants[i].variant),
               "</text>\n", violin(q.variants[i].values, axis, middle),
               box(q.variants[i].values, axis, middle, q.unit));
  }
  return out + "</svg>\n";
}

// Values against their place in the order: drift and warm-up show here.
std::string in_order(const std::vector<Sample>& samples, const QuantityAnalysis& q, bool joules) {
  const Axis value = axis_of(q);
  constexpr double height = 212, bottom = 192;
  std::string out = str("<svg viewBox=\"0 0 ", f1(width), " ", f1(height),
                        "\" role=\"img\" aria-label=\"", q.quantity, " in order\">\n");
  static constexpr const char* css[] = {"t-conv", "t-linear", "t-relu", "t-batch_norm", "t-pool"};
  for (const Sample& s : samples) {
    const double v = joules ? s.joules.joules() : s.seconds;
    if (!(v >= value.lo && v <= value.hi)) continue;  // removed as an outlier
    size_t k = 0;
    while (k + 1 < q.variants.size() && q.variants[k].variant != s.variant) ++k;
    const double x = left + (width - left - 20) * (double(s.order) + 0.5) / double(samples.size());
    const double y = bottom - (v - value.lo) / (value.hi - value.lo) * (bottom - 28);
    out += str("<circle class=\"", css[k % 5], "\" r=\"3\" cx=\"", f1(x), "\" cy=\"", f1(y),
               "\"><title>", escape_html(s.variant), ", round ", s.round, ": ", figure(v, q.unit),
               std::isnan(s.celsius) ? "" : ", " + figure(s.celsius, "C"), "</title></circle>\n");
  }
  for (size_t k = 0; k < q.variants.size(); ++k) {
    const double x = left + 110 * double(k);
    out += str("<circle class=\"", css[k % 5], "\" r=\"4\" cx=\"", f1(x),
               "\" cy=\"8\"/><text class=\"tick\" x=\"", f1(x + 8), "\" y=\"12\">",
               escape_html(q.variants[k].variant.substr(0, 14)), "</text>\n");
  }
  out += str("<text class=\"tick\" x=\"", f1(left), "\" y=\"", f1(height - 4), "\">first</text>",
             "<text class=\"tick\" text-anchor=\"end\" x=\"", f1(width - 20), "\" y=\"",
             f1(height - 4), "\">last</text><text class=\"tick\" x=\"0\" y=\"20\">",
             figure(value.hi, q.unit), "</text><text class=\"tick\" x=\"0\" y=\"", f1(bottom),
             "\">", figure(value.lo, q.unit), "</text>\n");
  return out + "</svg>\n";
}

std::string table(const QuantityAnalysis& q) {
  std::string out =
      "<table><thead><tr><th>variant</th><th>n</th><th>outliers "
      "removed</th><th>mean</th><th>sd</th>"
      "<th>median</th><th>Shapiro-Wilk p</th></tr></thead><tbody>\n";
  for (const Distribution& d : q.variants)
    out +=
        str("<tr><td>", escape_html(d.variant), "</td><td>", static_cast<int64_t>(d.values.size()),
            "</td><td>", d.removed, "</td><td>", figure(mean(d.values), q.unit), "</td><td>",
            figure(sd(d.values), q.unit), "</td><td>",
            d.values.empty() ? std::string("-") : figure(quantile(d.values, 0.5), q.unit),
            "</td><td>", figure(d.shapiro_p, ""), "</td></tr>\n");
  return out + "</tbody></table>\n";
}

std::string section(const QuantityAnalysis& q, const std::vector<Sample>& samples, bool joules) {
  std::string out = str("<h2>", joules ? "Energy" : "Time", "</h2>\n");
  if (!q.refused.empty())
    return out + str("<p><b>Nothing is compared:</b> ", escape_html(q.refused), ".</p>\n");
  for (const Comparison& c : q.pairs) out += str("<p>", escape_html(c.sentence), ".</p>\n");
  for (const std::string& w : q.warnings)
    out += str("<div class=\"box warn\"><p>", escape_html(w), "</p></div>\n");
  return out + table(q) + distributions(q) + "<h3>In the order in which they ran</h3>\n" +
         in_order(samples, q, joules);
}

}  // namespace

std::string experiment_html(const ExperimentAnalysis& a, const std::vector<Sample>& samples,
                            const ExperimentOptions& o) {
  return str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n",
             "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
             "<title>Experiment</title><style>", report::css, "</style></head><body><main>\n",
             "<p class=\"sub\">", escape_html(a.energy_sentence), "</p>\n<h1>Experiment</h1>\n",
             "<p class=\"sub\">", o.repetitions,
             " repetitions, order shuffled in every round (seed ", static_cast<int64_t>(o.seed),
             "), ", o.warmup, " warm-up rounds, ", o.rest_s, " s rest before a run, values beyond ",
             o.outlier_sigmas, " standard deviations removed from every sample alike</p>\n",
             section(a.joules, samples, true), section(a.seconds, samples, false),
             "</main></body></html>\n");
}

}  // namespace wattle::green
