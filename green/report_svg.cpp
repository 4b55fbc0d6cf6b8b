#include "green/report_svg.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "green/report_text.h"

namespace wattle::green {
namespace svg {

std::string num(double v) {
  std::string s = fixed(v, 1);
  if (s.ends_with(".0")) s.resize(s.size() - 2);
  if (s.starts_with("\u2212")) s = "-" + s.substr(3);  // fixed() writes U+2212, SVG wants '-'
  return s;
}

std::string open(double w, double h, const std::string& description) {
  const std::string d = escape_html(description);
  return str("<svg viewBox=\"0 0 ", num(w), " ", num(h), "\" role=\"img\" aria-label=\"", d,
             "\"><desc>", d, "</desc>\n");
}

std::string text(double x, double y, const std::string& css, const std::string& s) {
  return str("<text x=\"", num(x), "\" y=\"", num(y), "\" class=\"", css, "\">", escape_html(s),
             "</text>\n");
}

std::string line(double x1, double y1, double x2, double y2, const std::string& css) {
  return str("<line x1=\"", num(x1), "\" y1=\"", num(y1), "\" x2=\"", num(x2), "\" y2=\"", num(y2),
             "\" class=\"", css, "\"/>\n");
}

double text_width(const std::string& utf8, double font_px) {
  double ems = 0;
  for (const char c : utf8) {
    if ((c & 0xc0) == 0x80) continue;  // continuation byte
    const bool narrow = std::string_view(" .,:;'|il1tfjI()").find(c) != std::string_view::npos;
    const bool wide = std::string_view("MWNCDLRUmw%").find(c) != std::string_view::npos;
    ems += narrow ? 0.36 : wide ? 0.74 : 0.58;
  }
  return ems * font_px;
}

}  // namespace svg

namespace {

constexpr double row_h = 26, bar_h = 17, head = 56, foot = 26, value_w = 66, gap = 26;

struct BarLayout {
  double label_w, panel_w, bars_w, height;
};

double total(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += std::isfinite(x) ? x : 0;
  return sum;
}

std::string bar(const BarPanel& p, size_t row, const std::string& label,
                const std::vector<Segment>& segments, double x0, double y, double scale) {
  std::string out;
  const double all = total(p.values[row]);
  double x = x0;
  for (size_t k = 0; k < segments.size(); ++k) {
    const double v = p.values[row][k];
    if (!(v > 0)) continue;
    const double w = v * scale;
    out +=
        str("<rect x=\"", svg::num(x), "\" y=\"", svg::num(y), "\" width=\"",
            fixed(std::max(w, 0.3), 2), "\" height=\"", svg::num(bar_h), "\" class=\"seg ",
            segments[k].css, "\"><title>", escape_html(label), ": ", escape_html(segments[k].label),
            " ", si(v, p.unit), " (", percent(v / all), ")</title></rect>\n");
    x += w;
  }
  return out;
}

std::string bar_axis(double x0, const BarLayout& l, double top, const std::string& unit,
                     bool shares) {
  std::string out;
  const double y0 = head - 6, y1 = l.height - foot;
  for (const double t : round_ticks(0, top, 4)) {
    const double x = x0 + t / top * l.bars_w;
    if (x > x0 + l.bars_w + 0.5) continue;
    out += svg::line(x, y0, x, y1, t == 0 ? "axis" : "grid");
    const std::string tick = t == 0 ? "0" : shares ? percent(t, 0) : tick_text(t, unit);
    out += svg::text(x, y1 + 15, "tick mid", tick);
  }
  return out;
}

std::string bar_panel(const BarPanel& p, double x0, const BarLayout& l,
                      const std::vector<std::string>& labels, const std::vector<Segment>& segments,
                      bool shares) {
  std::string out =
      svg::text(x0, 18, "panel-title", p.title) + svg::text(x0, 36, "tick", p.subtitle);
  double top = 0;
  for (const auto& row : p.values) top = std::max(top, total(row));
  if (!(top > 0)) return out + svg::text(x0, head + 14, "tick", p.missing);
  if (shares) top = 1;
  out += bar_axis(x0, l, top, p.unit, shares);
  for (size_t i = 0; i < labels.size(); ++i) {
    const double all = total(p.values[i]);
    const double y = head + static_cast<double>(i) * row_h;
    const double scale = l.bars_w / (shares ? all : top);
    if (all > 0) out += bar(p, i, labels[i], segments, x0, y, scale);
    const double end = shares ? l.bars_w : all / top * l.bars_w;
    out += svg::text(x0 + end + 6, y + bar_h - 4, "value", all > 0 ? si(all, p.unit) : "-");
  }
  return out;
}

}  // namespace

std::vector<double> round_ticks(double lo, double hi, int count) {
  if (!(hi > lo) || count < 1) return {lo};
  const double rough = (hi - lo) / count, power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double m : {1.0, 2.0, 2.5, 5.0}) {
    if (rough <= m * power * (1 + 1e-9)) {
      step = m * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double k = std::ceil(lo / step - 1e-9); k * step <= hi + step * 1e-6; ++k) {
    ticks.push_back(k * step);
  }
  return ticks;
}

std::string tick_text(double v, const std::string& unit) {
  std::string s = si(v, unit);
  const size_t end = s.find("\u00a0"), dot = s.find('.');
  if (dot == std::string::npos || end == std::string::npos || dot > end) return s;
  size_t keep = end;
  while (s[keep - 1] == '0') --keep;
  if (s[keep - 1] == '.') --keep;
  return s.substr(0, keep) + s.substr(end);
}

std::string stacked_bars_svg(const std::string& description, const std::vector<std::string>& labels,
                             const std::vector<Segment>& segments,
                             const std::vector<BarPanel>& panels, bool shares) {
  constexpr double width = 1080;
  BarLayout l{};
  for (const std::string& s : labels) l.label_w = std::max(l.label_w, svg::text_width(s, 13) + 14);
  const double n = static_cast<double>(panels.size());
  l.panel_w = (width - l.label_w - gap * (n - 1)) / n;
  l.bars_w = l.panel_w - value_w;
  l.height = head + row_h * static_cast<double>(labels.size()) + foot;
  std::string out = svg::open(width, l.height, description);
  for (size_t i = 0; i < labels.size(); ++i) {
    out += svg::text(l.label_w - 10, head + static_cast<double>(i) * row_h + bar_h - 4,
                     "rowlabel end", labels[i]);
  }
  for (size_t k = 0; k < panels.size(); ++k) {
    const double x0 = l.label_w + static_cast<double>(k) * (l.panel_w + gap);
    out += bar_panel(panels[k], x0, l, labels, segments, shares);
  }
  return out + "</svg>\n";
}

std::string legend_html(const std::vector<Segment>& segments, const std::vector<BarPanel>& panels) {
  std::string out = "<p class=\"legend\">";
  for (size_t k = 0; k < segments.size(); ++k) {
    bool used = false;
    for (const BarPanel& p : panels) {
      for (const auto& row : p.values) used = used || row[k] > 0;
    }
    if (!used) continue;
    out +=
        str("<span><svg class=\"key\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect "
            "width=\"12\" height=\"12\" rx=\"2\" class=\"",
            segments[k].css, "\"/></svg>", escape_html(segments[k].label), "</span>\n");
  }
  return out + "</p>\n";
}

}  // namespace wattle::green
