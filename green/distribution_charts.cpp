#include "green/distribution_charts.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "green/report_svg.h"
#include "green/report_text.h"
#include "green/stats.h"

namespace wattle::green {

// The palette of the report (Okabe and Ito), in an order that keeps neighbours apart.
const std::string_view distribution_css = R"(
.v0{--v:var(--conv)}.v1{--v:var(--loss)}.v2{--v:var(--relu)}.v3{--v:var(--optimizer)}
.v4{--v:var(--linear)}.v5{--v:var(--batch_norm)}.v6{--v:var(--pool)}.v7{--v:var(--data)}
.vn{--v:var(--soft)}
.violin{fill:var(--v);fill-opacity:.2;stroke:var(--v);stroke-width:1.2}
.quartiles{fill:var(--bg);fill-opacity:.75;stroke:var(--fg);stroke-width:1.2}
.whisker{stroke:var(--fg);stroke-width:1.2} .median{stroke:var(--fg);stroke-width:2.6}
.run{fill:var(--v);fill-opacity:.75} .run.out{fill:none;stroke:var(--v);stroke-width:1.4}
.trace{fill:none;stroke:var(--v);stroke-width:1;opacity:.45}
.swatch{fill:var(--v)}
)";

namespace {

constexpr double width = 1080, row_h = 96, top = 10, foot = 52, right = 26;
constexpr double violin_half = 26, box_half = 7, points_at = 38;  // from the middle of a row
constexpr int density_steps = 96;

std::string colour(int row) { return row < 0 ? "vn" : str("v", row % 8); }

// Silverman's rule of thumb: 0.9 min(sd, IQR / 1.34) n^(-1/5). A zero IQR (many equal values) says
// nothing, so the deviation alone counts then.
double bandwidth(const Vec& x) {
  const double iqr = (quantile(x, 0.75) - quantile(x, 0.25)) / 1.34, s = sd(x);
  const double spread = iqr > 0 ? std::min(s, iqr) : s;
  return 0.9 * spread * std::pow(static_cast<double>(x.size()), -0.2);
}

Vec kept_values(const Distribution& d) {
  Vec x;
  for (size_t i = 0; i < d.values.size(); ++i) {
    if (std::isfinite(d.values[i]) && (d.keep.empty() || d.keep[i])) x.push_back(d.values[i]);
  }
  return x;
}

struct Axis {
  double x0, x1, lo, hi;
  double at(double v) const { return x0 + (v - lo) / (hi - lo) * (x1 - x0); }
};

std::string violin(const Vec& x, const Axis& axis, double y, int row) {
  const double h = x.size() < 3 ? 0 : 2 * bandwidth(x);
  if (!(h > 0)) return "";
  const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
  Vec at;
  for (int i = 0; i <= density_steps; ++i) {
    at.push_back(*lo - h + (*hi - *lo + 2 * h) * i / density_steps);
  }
  const Vec density = kernel_density(x, at);
  const double peak = *std::max_element(density.begin(), density.end());
  std::string upper, lower;
  for (size_t i = 0; i < at.size(); ++i) {
    const double half = density[i] / peak * violin_half;
    const std::string px = svg::num(axis.at(at[i]));
    upper += str(i ? " L" : "M", px, " ", svg::num(y - half));
    lower = str(" L", px, " ", svg::num(y + half), lower);
  }
  return str("<path d=\"", upper, lower, " Z\" class=\"violin ", colour(row), "\"/>\n");
}

std::string box(const Vec& x, const Axis& axis, double y) {
  if (x.empty()) return "";
  const double q1 = quantile(x, 0.25), q2 = quantile(x, 0.5), q3 = quantile(x, 0.75);
  const double reach = 1.5 * (q3 - q1);
  double lo = q1, hi = q3;
  for (const double v : x) {
    if (v >= q1 - reach) lo = std::min(lo, v);
    if (v <= q3 + reach) hi = std::max(hi, v);
  }
  std::string out = svg::line(axis.at(lo), y, axis.at(hi), y, "whisker");
  for (const double end : {lo, hi}) {
    out += svg::line(axis.at(end), y - 4, axis.at(end), y + 4, "whisker");
  }
  out += str("<rect x=\"", svg::num(axis.at(q1)), "\" y=\"", svg::num(y - box_half), "\" width=\"",
             svg::num(axis.at(q3) - axis.at(q1)), "\" height=\"", svg::num(2 * box_half),
             "\" class=\"quartiles\"/>\n");
  return out + svg::line(axis.at(q2), y - box_half, axis.at(q2), y + box_half, "median");
}

std::string circle(double x, double y, double r, const std::string& css,
                   const std::string& tooltip) {
  return str("<circle cx=\"", svg::num(x), "\" cy=\"", svg::num(y), "\" r=\"", svg::num(r),
             "\" class=\"", css, "\">",
             tooltip.empty() ? "" : str("<title>", escape_html(tooltip), "</title>"),
             "</circle>\n");
}

// Points below the violin, on three levels in turn so that equal values show as several.
std::string points(const Distribution& d, const Axis& axis, double y, int row) {
  std::string out;
  for (size_t i = 0; i < d.values.size(); ++i) {
    if (!std::isfinite(d.values[i])) continue;
    const bool hollow = !d.keep.empty() && !d.keep[i];
    out += circle(axis.at(d.values[i]), y + points_at + 4.0 * static_cast<double>(i % 3) - 4, 2.6,
                  str("run ", colour(row), hollow ? " out" : ""),
                  i < d.tooltips.size() ? d.tooltips[i] : "");
  }
  return out;
}

// Range of the drawing: all values, and the tails of the violins.
std::pair<double, double> range_of(const std::vector<Distribution>& rows) {
  double lo = INFINITY, hi = -INFINITY;
  for (const Distribution& d : rows) {
    for (const double v : d.values) {
      if (std::isfinite(v)) lo = std::min(lo, v), hi = std::max(hi, v);
    }
    const Vec x = kept_values(d);
    if (x.size() < 3) continue;
    const auto [least, most] = std::minmax_element(x.begin(), x.end());
    const double tail = 2 * bandwidth(x);
    lo = std::min(lo, *least - tail), hi = std::max(hi, *most + tail);
  }
  if (lo == hi) {
    const double air = lo == 0 ? 1 : std::fabs(lo) * 0.05;
    lo -= air, hi += air;
  }
  return {lo, hi};
}

std::string unit_title(const std::string& title, const AxisScale& s) {
  return s.unit.empty() ? title : str(title, ", ", s.unit);
}

// `y` runs from the bottom to the top of the drawing.
std::string order_axes(const Axis& x, const Axis& y, const std::string& y_title,
                       const std::string& unit, double height) {
  std::string out;
  const AxisScale scale = axis_scale(y.lo, y.hi, unit, 4);
  for (const double t : scale.ticks) {
    out += svg::line(x.x0, y.at(t), x.x1, y.at(t), "grid");
    out += svg::text(x.x0 - 8, y.at(t) + 4, "tick end", scale.text(t));
  }
  for (const double t : round_ticks(0, x.hi, 12)) {
    if (t < 1 || t != std::round(t)) continue;  // no half runs
    out += svg::text(x.at(t), y.x0 + 18, "tick mid", fixed(t, 0));
  }
  out += svg::line(x.x0, y.x0, x.x1, y.x0, "axis");
  out += svg::text((x.x0 + x.x1) / 2, height - 8, "axis-title mid", "number of the run");
  return out + svg::text(8, 18, "axis-title", unit_title(y_title, scale));
}

// One thin line through the points of each row.
std::string traces(const std::vector<OrderPoint>& points, const Axis& x, const Axis& y) {
  int rows = -1;
  for (const OrderPoint& p : points) rows = std::max(rows, p.row);
  std::string out;
  for (int row = -1; row <= rows; ++row) {
    std::string path;
    for (const OrderPoint& p : points) {
      if (p.row != row) continue;
      path += str(path.empty() ? "M" : " L", svg::num(x.at(p.x)), " ", svg::num(y.at(p.y)));
    }
    if (!path.empty()) out += str("<path d=\"", path, "\" class=\"trace ", colour(row), "\"/>\n");
  }
  return out;
}

}  // namespace

std::string AxisScale::text(double v) const { return fixed(v * factor, decimals); }

AxisScale axis_scale(double lo, double hi, const std::string& unit, int ticks) {
  AxisScale s;
  s.unit = unit;
  const double size = std::max(std::fabs(lo), std::fabs(hi));
  constexpr std::pair<double, const char*> prefixes[] = {
      {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "\u00b5"}, {1e-9, "n"}};
  for (const auto& [scale, prefix] : prefixes) {
    if (unit.empty() || size < scale) continue;
    s.factor = 1 / scale, s.unit = prefix + unit;
    break;
  }
  s.ticks = round_ticks(lo, hi, ticks);
  if (s.ticks.size() < 2) return s;
  // as many decimals as tell two neighbours apart; 2.5 needs one more than its power of ten
  const double step = (s.ticks[1] - s.ticks[0]) * s.factor;
  while (s.decimals < 12) {
    const double shown = step * std::pow(10, s.decimals);
    if (std::fabs(shown - std::round(shown)) < 1e-6 * shown) break;
    ++s.decimals;
  }
  return s;
}

std::vector<double> kernel_density(const std::vector<double>& x, const std::vector<double>& at) {
  const double h = x.size() < 3 ? 0 : bandwidth(x);
  if (!(h > 0)) return {};
  std::vector<double> out;
  const double norm = 1 / (static_cast<double>(x.size()) * h * std::sqrt(2 * M_PI));
  for (const double v : at) {
    double sum = 0;
    for (const double xi : x) sum += std::exp(-(v - xi) * (v - xi) / (2 * h * h));
    out.push_back(sum * norm);
  }
  return out;
}

std::string distribution_svg(const std::string& description, const std::string& title,
                             const std::string& unit, const std::vector<Distribution>& rows) {
  const double height = top + row_h * static_cast<double>(rows.size()) + foot;
  std::string out = svg::open(width, height, description);
  const auto [lo, hi] = range_of(rows);
  if (!std::isfinite(lo)) return out + svg::text(20, 30, "tick", "no values") + "</svg>\n";
  double label_w = 60;
  for (const Distribution& d : rows) {
    label_w = std::max(label_w, svg::text_width(d.label, 13) + 20);
  }
  const Axis axis{label_w, width - right, lo, hi};
  const AxisScale scale = axis_scale(lo, hi, unit, 8);
  const double bottom = height - foot;
  for (const double t : scale.ticks) {
    out += svg::line(axis.at(t), top, axis.at(t), bottom, "grid");
    out += svg::text(axis.at(t), bottom + 18, "tick mid", scale.text(t));
  }
  out += svg::line(axis.x0, bottom, axis.x1, bottom, "axis");
  out +=
      svg::text((axis.x0 + axis.x1) / 2, bottom + 40, "axis-title mid", unit_title(title, scale));
  for (size_t i = 0; i < rows.size(); ++i) {
    const int row = static_cast<int>(i);
    const double y = top + row_h * static_cast<double>(i) + 36;
    const Vec x = kept_values(rows[i]);
    out += svg::text(label_w - 12, y + 5, "rowlabel end", rows[i].label);
    out += violin(x, axis, y, row) + box(x, axis, y) + points(rows[i], axis, y, row);
  }
  return out + "</svg>\n";
}

std::string run_order_svg(const std::string& description, const std::string& y_title,
                          const std::string& unit, const std::vector<OrderPoint>& given) {
  constexpr double h = 260, left = 76;
  std::string out = svg::open(width, h, description);
  std::vector<OrderPoint> points;
  for (const OrderPoint& p : given) {
    if (std::isfinite(p.y)) points.push_back(p);
  }
  if (points.empty()) return out + svg::text(20, 30, "tick", "no values") + "</svg>\n";
  std::stable_sort(points.begin(), points.end(),
                   [](const auto& a, const auto& b) { return a.x < b.x; });
  const auto [least, most] = std::minmax_element(
      points.begin(), points.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
  const double span = most->y - least->y, size = std::fabs(most->y);
  const double air = span > 0 ? span * 0.08 : size > 0 ? size * 0.05 : 1;
  const Axis x{left, width - right, 0.5, points.back().x + 0.5};
  const Axis y{h - 48, 30, least->y - air, most->y + air};
  out += order_axes(x, y, y_title, unit, h);
  out += traces(points, x, y);
  for (const OrderPoint& p : points) {
    out += circle(x.at(p.x), y.at(p.y), 3.2, str("run ", colour(p.row), p.hollow ? " out" : ""),
                  p.tooltip);
  }
  return out + "</svg>\n";
}

std::string row_legend_html(const std::vector<std::string>& labels) {
  std::string out = "<p class=\"legend\">";
  for (size_t i = 0; i < labels.size(); ++i) {
    out +=
        str("<span><svg class=\"key\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><circle "
            "cx=\"6\" cy=\"6\" r=\"5\" class=\"swatch ",
            colour(static_cast<int>(i)), "\"/></svg>", escape_html(labels[i]), "</span>\n");
  }
  return out + "</p>\n";
}

}  // namespace wattle::green
