#include "green/format_page.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "green/report_parts.h"
#include "green/report_text.h"
#include "quant/formats.h"

namespace wattle::green {
namespace {

using quant::Format;

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

struct Axes {
  std::string x_title, y_title;
  double x0, x1, x_step, y0, y1, y_step;
};

// Colour and dash of curve i: neighbours differ in both.
std::string stroke(size_t i, size_t n) {
  static const char* const dashes[] = {"", "7 3", "2 3"};
  return str("stroke=\"hsl(", static_cast<int>(360 * i / n), ",65%,45%)\" stroke-dasharray=\"",
             dashes[i % 3], "\"");
}

// Curves with a legend at the right, in the order of their last values.
std::string curves_svg(const std::string& description, const Axes& a,
                       const std::vector<Curve>& curves) {
  constexpr double left = 56, top = 28, width = 640, height = 290;
  const auto px = [&](double x) { return left + (x - a.x0) / (a.x1 - a.x0) * width; };
  const auto py = [&](double y) { return top + (a.y1 - y) / (a.y1 - a.y0) * height; };
  std::string out = str("<svg viewBox=\"0 0 860 360\" role=\"img\" aria-label=\"", description,
                        "\" style=\"max-width:860px;width:100%\">\n");
  const auto text = [&](double x, double y, const char* anchor, const std::string& s) {
    out += str("<text x=\"", fixed(x, 1), "\" y=\"", fixed(y, 1), "\" text-anchor=\"", anchor,
               "\" font-size=\"12\" fill=\"currentColor\">", escape_html(s), "</text>\n");
  };
  for (double y = a.y0; y <= a.y1 + 1e-9; y += a.y_step) {
    out +=
        str("<line x1=\"", left, "\" x2=\"", left + width, "\" y1=\"", fixed(py(y), 1), "\" y2=\"",
            fixed(py(y), 1), "\" stroke=\"currentColor\" stroke-opacity=\".15\"/>\n");
    text(left - 8, py(y) + 4, "end", fixed(y, 0));
  }
  for (double x = a.x0; x <= a.x1 + 1e-9; x += a.x_step)
    text(px(x), top + height + 18, "middle", fixed(x, 0));
  text(left + width / 2, top + height + 38, "middle", a.x_title);
  text(left, top - 14, "start", a.y_title);
  for (size_t i = 0; i < curves.size(); ++i) {
    std::string points;
    for (const auto& [x, y] : curves[i].points)
      if (std::isfinite(y))
        points += str(fixed(px(x), 1), ",", fixed(py(std::clamp(y, a.y0, a.y1)), 1), " ");
    out += str("<polyline points=\"", points, "\" fill=\"none\" stroke-width=\"2\" ",
               stroke(i, curves.size()), "><title>", escape_html(curves[i].name),
               "</title></polyline>\n");
    const double y = top + 10 + 20 * static_cast<double>(i);
    out += str("<line x1=\"", left + width + 16, "\" x2=\"", left + width + 44, "\" y1=\"", y,
               "\" y2=\"", y, "\" stroke-width=\"2\" ", stroke(i, curves.size()), "/>\n");
    text(left + width + 50, y + 4, "start", curves[i].name);
  }
  return out + "</svg>\n";
}

bool has_precision_map(const Format& f) { return f.block == 1 && !f.tensor_scale; }

std::string precision_map() {
  std::vector<Curve> curves;
  for (const Format& f : quant::formats()) {
    if (!has_precision_map(f) || f.name == "f32" || f.name == "posit32") continue;
    Curve c{f.name, {}};
    for (int e = -40; e <= 40; ++e)
      c.points.emplace_back(e, std::max(-1, quant::fraction_bits(f, e)));
    curves.push_back(c);
  }
  return curves_svg("Fraction bits by magnitude",
                    {"exponent of the number", "fraction bits", -40, 40, 10, -1, 13, 2}, curves);
}

std::string noise() {
  std::vector<Curve> curves;
  for (const Format& f : quant::formats()) {
    if (f.name == "f32" || f.name == "posit32" || f.bits > 9) continue;
    Curve c{f.name, {}};
    for (int e = -16; e <= 6; ++e)
      c.points.emplace_back(e, quant::sqnr_db(f, std::ldexp(1.0, e), 1 << 12));
    curves.push_back(c);
  }
  return curves_svg("Signal-to-noise ratio of normal numbers by their scale, 8 bits and fewer",
                    {"log2 of sigma", "dB", -16, 6, 2, 0, 50, 10}, curves);
}

std::string table() {
  std::string out =
      "<div class=\"scroll\"><table>\n<thead><tr><th class=\"l\">format</th><th class=\"l\">what "
      "it "
      "is</th><th>bits</th><th>largest</th><th>smallest &gt; 0</th><th>dB, \u03c3 = 1</th><th>1/16"
      "</th><th>0.02</th><th>0.001</th></tr></thead>\n<tbody>\n";
  for (const Format& f : quant::formats()) {
    out += str("<tr><th scope=\"row\" class=\"l\">", f.name, "</th><td class=\"l\">",
               escape_html(f.about), "</td><td>", significant(f.bits, 4), "</td><td>", f.max,
               "</td><td>", f.min_positive, "</td>");
    for (const double s : {1.0, 1.0 / 16, 0.02, 0.001}) {
      const double db = quant::sqnr_db(f, s, 1 << 14);
      out += str("<td>", std::isfinite(db) ? fixed(db, 1) : std::string("exact"), "</td>");
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string format_page_html() {
  return str(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
      "name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Number formats"
      "</title>\n<style>",
      report::css,
      "</style>\n</head>\n<body>\n<main>\n<h1>Number formats</h1>\n<section><h2>How many fraction "
      "bits a number keeps</h2>\n<p>Floats keep the same everywhere in their range; posits keep "
      "most near 1 and give them up for range. -1: the power of two itself is not held.</p>\n",
      precision_map(),
      "</section>\n<section><h2>Noise of rounding, by the scale of the numbers</h2>\n<p>N(0, "
      "\u03c3) "
      "numbers in formats of 8 bits and fewer. Block formats follow the scale by themselves; a "
      "posit wants its numbers near 1.</p>\n",
      noise(), "</section>\n<section><h2>All formats</h2>\n", table(),
      "</section>\n</main>\n</body>\n</html>\n");
}

}  // namespace wattle::green
