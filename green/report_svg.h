// Charts as inline SVG. Colours are CSS classes (report_style.cpp), so that light and dark pages
// share one drawing.
#pragma once
#include <array>
#include <string>
#include <utility>
#include <vector>

namespace wattle::green {

/// One kind of segment of a stacked bar.
struct Segment {
  std::string label;
  std::string css;  ///< class with the fill, "t-conv"
};

/// One column of stacked bars: a value per bar and segment.
struct BarPanel {
  std::string title, subtitle;
  std::string unit;  ///< "J", "s", "FLOP"
  std::vector<std::vector<double>> values;
  std::string missing;  ///< said instead of bars when there are no values
};

/// Horizontal stacked bars, panels side by side, one row per label. With `shares` every bar is
/// scaled to its total. Each segment carries its figures as a tooltip.
std::string stacked_bars_svg(const std::string& description, const std::vector<std::string>& labels,
                             const std::vector<Segment>& segments,
                             const std::vector<BarPanel>& panels, bool shares);

/// Legend as HTML, only segments that occur in a panel.
std::string legend_html(const std::vector<Segment>& segments, const std::vector<BarPanel>& panels);

struct ScatterPoint {
  std::string label, tooltip;
  double x = 0, y = 0, y_sd = 0;  ///< y_sd: half height of the error bar; 0 or NaN: none
  std::string css;                ///< class of the marker
  bool square = false, hollow = false, on_front = false;
};
/// Scatter plot, labels placed so that they do not overlap, the front as a step line. x starts
/// at 0; y is an accuracy fraction shown in percent, or a plain number.
std::string scatter_svg(const std::string& description, const std::string& x_title,
                        const std::string& x_unit, const std::vector<ScatterPoint>& points,
                        bool y_percent = true);

struct Line {
  std::string label, css;
  bool dashed = false, thin = false;
  std::vector<std::pair<double, double>> points;
};
/// Lines with their labels at the right end, moved apart; y in percent.
std::string lines_svg(const std::string& description, const std::string& x_title,
                      const std::vector<Line>& lines);

/// About `count` round tick positions from lo to hi (1, 2, 2.5 or 5 times a power of ten apart).
std::vector<double> round_ticks(double lo, double hi, int count);

struct Box {
  double x, y, w, h;
};
/// Area that two boxes share.
double overlap(const Box& a, const Box& b);
/// Where to put a text of each size near its point: no two results overlap while there is room
/// inside `frame`. Returns boxes in the order of the points. `obstacles` are to be kept free.
std::vector<Box> place_labels(const std::vector<std::pair<double, double>>& points,
                              const std::vector<std::pair<double, double>>& sizes,
                              const std::vector<Box>& obstacles, const Box& frame);

/// A tick label: si() without trailing zeros, "20 J".
std::string tick_text(double v, const std::string& unit);

/// Parts of a drawing, shared by the charts.
namespace svg {
std::string open(double w, double h, const std::string& description);
std::string text(double x, double y, const std::string& css, const std::string& s);
std::string line(double x1, double y1, double x2, double y2, const std::string& css);
std::string num(double v);
double text_width(const std::string& utf8, double font_px);  ///< estimate, sans-serif
}  // namespace svg

}  // namespace wattle::green
