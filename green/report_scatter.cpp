// Scatter plot and learning curves, with labels that keep clear of each other.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "green/report_svg.h"
#include "green/report_text.h"

namespace wattle::green {
namespace {

constexpr double font = 12, text_h = 15;

// A rectangle of data shown in a rectangle of the drawing.
struct Frame {
  double x0, y0, x1, y1;          // drawing, y down
  double lo_x, hi_x, lo_y, hi_y;  // data
  double x(double v) const { return x0 + (v - lo_x) / (hi_x - lo_x) * (x1 - x0); }
  double y(double v) const { return y1 - (v - lo_y) / (hi_y - lo_y) * (y1 - y0); }
};

std::string axes(const Frame& f, const std::string& x_title, const std::string& x_unit,
                 bool y_percent) {
  std::string out;
  const auto y_ticks = round_ticks(f.lo_y, f.hi_y, 5);
  const double step = y_ticks.size() > 1 ? (y_percent ? 100 : 1) * (y_ticks[1] - y_ticks[0]) : 1;
  const int decimals = step < 0.0999 ? 2 : std::fabs(step - std::round(step)) > 1e-6 ? 1 : 0;
  for (const double t : y_ticks) {
    out += svg::line(f.x0, f.y(t), f.x1, f.y(t), "grid");
    out += svg::text(f.x0 - 7, f.y(t) + 4, "tick end",
                     y_percent ? percent(t, decimals) : fixed(t, decimals));
  }
  for (const double t : round_ticks(f.lo_x, f.hi_x, 5)) {
    if (x_unit.empty() && t != std::round(t)) continue;  // no half epochs
    out += svg::line(f.x(t), f.y1, f.x(t), f.y1 + 4, "axis");
    const std::string tick = x_unit.empty() ? fixed(t, 0) : t == 0 ? "0" : tick_text(t, x_unit);
    out += svg::text(f.x(t), f.y1 + 18, "tick mid", tick);
  }
  out += svg::line(f.x0, f.y1, f.x1, f.y1, "axis");
  return out + svg::text((f.x0 + f.x1) / 2, f.y1 + 38, "axis-title mid", x_title);
}

// [lo, hi] of the values with some air, and at least 0.2 points high.
std::pair<double, double> padded(double lo, double hi, double share) {
  const double pad = std::max((hi - lo) * share, 0.001);
  return {std::max(lo - pad, 0.0), std::min(hi + pad, 1.02)};
}

std::string marker(const ScatterPoint& p, double x, double y) {
  const std::string css = str("mark ", p.css, p.hollow ? " hollow" : "");
  const std::string title = str("<title>", escape_html(p.tooltip), "</title>");
  if (p.square) {
    return str("<rect x=\"", svg::num(x - 5), "\" y=\"", svg::num(y - 5),
               "\" width=\"10\" height=\"10\" class=\"", css, "\">", title, "</rect>\n");
  }
  return str("<circle cx=\"", svg::num(x), "\" cy=\"", svg::num(y), "\" r=\"5.6\" class=\"", css,
             "\">", title, "</circle>\n");
}

// The front as a step line; its segments are added to `obstacles`.
std::string front_line(const std::vector<ScatterPoint>& points, const Frame& f,
                       std::vector<Box>& obstacles) {
  std::vector<const ScatterPoint*> front;
  for (const ScatterPoint& p : points) {
    if (p.on_front) front.push_back(&p);
  }
  std::sort(front.begin(), front.end(), [](auto* a, auto* b) { return a->x < b->x; });
  if (front.empty()) return "";
  std::string path = str("M", svg::num(f.x(front[0]->x)), " ", svg::num(f.y1));
  double x = f.x(front[0]->x), y = f.y1;
  for (const ScatterPoint* p : front) {
    const double next_x = f.x(p->x), next_y = f.y(p->y);
    obstacles.push_back({x, y - 2, next_x - x, 4});
    obstacles.push_back({next_x - 2, next_y, 4, y - next_y});
    x = next_x, y = next_y;
    path += str(" H", svg::num(x), " V", svg::num(y));
  }
  obstacles.push_back({x, y - 2, f.x1 - x, 4});
  return str("<path d=\"", path, " H", svg::num(f.x1), "\" class=\"front\"/>\n");
}

Frame scatter_frame(const std::vector<ScatterPoint>& points, double w, double h, bool y_percent) {
  double hi_x = 0, lo_y = HUGE_VAL, hi_y = 0;
  for (const ScatterPoint& p : points) {
    const double sd = std::isfinite(p.y_sd) ? p.y_sd : 0;
    hi_x = std::max(hi_x, p.x), lo_y = std::min(lo_y, p.y - sd), hi_y = std::max(hi_y, p.y + sd);
  }
  auto [lo, hi] = padded(lo_y, hi_y, 0.15);
  if (!y_percent)
    lo = lo_y - 0.15 * (hi_y - lo_y) - 0.005, hi = hi_y + 0.15 * (hi_y - lo_y) + 0.005;
  return {58, 14, w - 14, h - 48, 0, hi_x > 0 ? hi_x * 1.12 : 1, lo, hi};
}

}  // namespace

double overlap(const Box& a, const Box& b) {
  const double w = std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x);
  const double h = std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y);
  return w > 0 && h > 0 ? w * h : 0;
}

std::vector<Box> place_labels(const std::vector<std::pair<double, double>>& points,
                              const std::vector<std::pair<double, double>>& sizes,
                              const std::vector<Box>& obstacles, const Box& frame) {
  std::vector<Box> placed;
  for (size_t i = 0; i < points.size(); ++i) {
    const auto [px, py] = points[i];
    const auto [w, h] = sizes[i];
    Box best{};
    double best_cost = std::numeric_limits<double>::infinity();
    // rings around the point; the first angle is to the right, the usual place
    for (double r = 9; r < 130; r += 6) {
      for (int a = 0; a < 24; ++a) {
        const double angle = (a % 2 ? -1 : 1) * ((a + 1) / 2) * M_PI / 12;
        const double cx = px + std::cos(angle) * (r + w / 2),
                     cy = py + std::sin(angle) * (r + h / 2);
        const Box b{cx - w / 2, cy - h / 2, w, h};
        double cost = (r - 9) * 0.4 + std::fabs(angle) * 1.2;
        cost += (w * h - overlap(b, frame)) * 4;
        for (const Box& o : placed) cost += overlap(b, o) > 0 ? 200 + overlap(b, o) * 20 : 0;
        for (const Box& o : obstacles) cost += overlap(b, o) * 6;
        if (cost < best_cost) best = b, best_cost = cost;
      }
    }
    placed.push_back(best);
  }
  return placed;
}

std::string scatter_svg(const std::string& description, const std::string& x_title,
                        const std::string& x_unit, const std::vector<ScatterPoint>& points,
                        bool y_percent) {
  constexpr double w = 530, h = 400;
  std::string out = svg::open(w, h, description);
  if (points.empty()) return out + svg::text(20, 30, "tick", "no finished runs") + "</svg>\n";
  const Frame f = scatter_frame(points, w, h, y_percent);
  std::vector<std::pair<double, double>> at, sizes;
  std::vector<Box> obstacles;
  out += axes(f, x_title, x_unit, y_percent) + front_line(points, f, obstacles);
  for (const ScatterPoint& p : points) {
    at.push_back({f.x(p.x), f.y(p.y)});
    sizes.push_back({svg::text_width(p.label, font) * (p.on_front ? 1.14 : 1.02), text_h});
    obstacles.push_back({at.back().first - 7, at.back().second - 7, 14, 14});
    if (!(p.y_sd > 0)) continue;
    const double top = f.y(p.y + p.y_sd), bottom = f.y(p.y - p.y_sd);
    out += svg::line(at.back().first, top, at.back().first, bottom, "error " + p.css);
    obstacles.push_back({at.back().first - 1, top, 2, bottom - top});
  }
  const auto boxes =
      place_labels(at, sizes, obstacles, {f.x0 + 2, f.y0, f.x1 - f.x0, f.y1 - f.y0 - 2});
  for (size_t i = 0; i < points.size(); ++i) {
    const Box& b = boxes[i];
    const double nx = std::clamp(at[i].first, b.x, b.x + b.w);
    const double ny = std::clamp(at[i].second, b.y, b.y + b.h);
    if (std::hypot(nx - at[i].first, ny - at[i].second) > 14) {
      out += svg::line(at[i].first, at[i].second, nx, ny, "leader");
    }
  }
  for (size_t i = 0; i < points.size(); ++i) {
    out += marker(points[i], at[i].first, at[i].second);
    out += svg::text(boxes[i].x, boxes[i].y + text_h - 4,
                     points[i].on_front ? "ptlabel strong" : "ptlabel", points[i].label);
  }
  return out + "</svg>\n";
}

std::string lines_svg(const std::string& description, const std::string& x_title,
                      const std::vector<Line>& lines) {
  constexpr double w = 1080, h = 360, right = 150;
  std::string out = svg::open(w, h, description);
  double lo_x = 1e300, hi_x = -1e300, lo_y = 1, hi_y = 0;
  for (const Line& l : lines) {
    for (const auto& [x, y] : l.points) {
      lo_x = std::min(lo_x, x), hi_x = std::max(hi_x, x);
      lo_y = std::min(lo_y, y), hi_y = std::max(hi_y, y);
    }
  }
  if (!(hi_x > lo_x)) return out + svg::text(20, 30, "tick", "fewer than two epochs") + "</svg>\n";
  const auto [lo, hi] = padded(lo_y, hi_y, 0.06);
  const Frame f{58, 14, w - right, h - 48, lo_x, hi_x, lo, hi};
  out += axes(f, x_title, "", true);
  std::vector<std::pair<double, const Line*>> ends;
  for (const Line& l : lines) {
    if (l.points.empty()) continue;
    std::string path;
    for (const auto& [x, y] : l.points) {
      path += str(path.empty() ? "M" : " L", svg::num(f.x(x)), " ", svg::num(f.y(y)));
    }
    out += str("<path d=\"", path, "\" class=\"curve ", l.css, l.dashed ? " dashed" : "",
               l.thin ? " thin" : "", "\"><title>", escape_html(l.label), "</title></path>\n");
    ends.push_back({f.y(l.points.back().second), &l});
  }
  std::stable_sort(ends.begin(), ends.end(), [](auto& a, auto& b) { return a.first < b.first; });
  // labels top to bottom, each at least a line below the last; then back up from the bottom
  std::vector<double> at;
  for (const auto& e : ends) {
    at.push_back(std::max(e.first, at.empty() ? f.y0 : at.back() + text_h));
  }
  for (size_t i = at.size(); i-- > 0;) {
    at[i] = std::min(at[i], i + 1 < at.size() ? at[i + 1] - text_h : f.y1 + 6);
  }
  for (size_t i = 0; i < ends.size(); ++i) {
    const double end_x = f.x(ends[i].second->points.back().first);
    out += svg::line(end_x + 2, ends[i].first, f.x1 + 16, at[i], "leader");
    out += svg::text(f.x1 + 20, at[i] + 4, "ptlabel", ends[i].second->label);
  }
  return out + "</svg>\n";
}

}  // namespace wattle::green
