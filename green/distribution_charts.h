// Charts of repeated measurements as inline SVG: how they are distributed, and in which order they
// came. Colours are CSS classes, so that light and dark pages share one drawing; a page needs the
// style sheet of the report and the rules below.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace wattle::green {

/// Rules for the classes that these charts use beside those of report_style.cpp.
extern const std::string_view distribution_css;

/// One row of a chart: the values of one variant.
struct Distribution {
  std::string label;
  std::vector<double> values;
  std::vector<bool> keep;             ///< false: an outlier left out, drawn hollow; empty: all stay
  std::vector<std::string> tooltips;  ///< of the points; may be empty
};

/// Violin, box and points of every row over one axis. The violin is a Gaussian kernel density with
/// Silverman's bandwidth (1986, eq. 3.31), scaled to equal height, of the values that stay, as is
/// the box: quartiles, median, whiskers to the last value within 1.5 box lengths. Fewer than 3
/// values or constants have no violin. The axis is cut to the values; `title` names what it shows
/// and gets the unit appended.
std::string distribution_svg(const std::string& description, const std::string& title,
                             const std::string& unit, const std::vector<Distribution>& rows);

/// A value for one run of an experiment.
struct OrderPoint {
  double x = 0, y = 0;  ///< number of the run; value
  int row = -1;         ///< colour, as in distribution_svg; -1: neutral
  bool hollow = false;
  std::string tooltip;
};
/// Values over the order of running. The values of a row are joined by a thin line.
std::string run_order_svg(const std::string& description, const std::string& y_title,
                          const std::string& unit, const std::vector<OrderPoint>& points);

/// Legend as HTML for the colours of rows.
std::string row_legend_html(const std::vector<std::string>& labels);

/// How numbers of an axis are written: one prefix and as many decimals as its ticks need, so that
/// 100.2 J and 100.4 J stay apart.
struct AxisScale {
  double factor = 1;  ///< number shown = value * factor
  std::string unit;   ///< "mJ"; empty for numbers without unit
  std::vector<double> ticks;
  int decimals = 0;
  std::string text(double v) const;
};
/// For values of [lo, hi] in `unit` ("J", "s", "" for none).
AxisScale axis_scale(double lo, double hi, const std::string& unit, int ticks = 5);

/// Values of a density at `at`; the bandwidth is Silverman's. Empty where `x` has fewer than 3
/// values or is constant.
std::vector<double> kernel_density(const std::vector<double>& x, const std::vector<double>& at);

}  // namespace wattle::green
