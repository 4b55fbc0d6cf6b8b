// wattle formats: what number formats hold, how well they round, what an operation would cost.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "energy/table_model.h"
#include "green/format_page.h"
#include "quant/formats.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;
using quant::Format;

constexpr int exponents[] = {-20, -8, -4, 0, 4, 8, 20};
constexpr double sigmas[] = {1, 1.0 / 16, 0.02, 0.001, 16};

// Picojoules of a multiplication and an addition in hardware at 45 nm. Posits have no accepted
// table: the power law through Horowitz's floating-point figures on their widest significand, times
// 1 to 1.6, the spread of published comparisons.
struct Picojoules {
  double low = 0, high = 0;
};
double law(double bits, double at11, double exponent) {
  return at11 * std::pow(bits / 11, exponent);
}

Picojoules multiply_add_pj(const Format& f) {
  const double m = f.significand;
  const double pj = law(m, 1.1, 1.555) + law(m, 0.4, 1.039);
  return {pj, f.is_posit ? 1.6 * pj : pj};
}

json to_json(const Format& f) {
  json bits = json::object(), sqnr = json::object();
  for (const int e : exponents) bits["2^" + std::to_string(e)] = quant::fraction_bits(f, e);
  for (const double s : sigmas) {
    char key[24];
    std::snprintf(key, sizeof key, "%g", s);
    const double db = quant::sqnr_db(f, s);
    sqnr[key] = std::isfinite(db) ? json(db) : json();
  }
  const Picojoules pj = multiply_add_pj(f);
  return {{"format", f.name},
          {"about", f.about},
          {"bits", f.bits},
          {"block", f.block},
          {"max", f.max},
          {"min_positive", f.min_positive},
          {"fraction_bits", bits},
          {"sqnr_db", sqnr},
          {"multiply_add_pj",
           {{"low", pj.low},
            {"high", pj.high},
            {"kind", "modelled_table"},
            {"source", "horowitz45, power law on significand bits"}}}};
}

void print(const Format& f) {
  std::printf("%s%6.2f  %9.3g %9.3g  ", cell(f.name, 13).c_str(), f.bits, f.max, f.min_positive);
  for (const int e : exponents) {
    const int bits = quant::fraction_bits(f, e);
    std::printf("%s", cell(f.block > 1 || f.tensor_scale ? ""
                           : bits < 0                    ? "-"
                                                         : std::to_string(bits),
                           -5)
                          .c_str());
  }
  std::printf("  ");
  for (const double s : sigmas) {
    const double db = quant::sqnr_db(f, s);
    char text[16] = "exact";
    if (std::isfinite(db)) std::snprintf(text, sizeof text, "%.1f", db);
    std::printf("%s", cell(text, -7).c_str());
  }
  const Picojoules pj = multiply_add_pj(f);
  if (pj.high > pj.low) std::printf("   %.2f to %.2f\n", pj.low, pj.high);
  else std::printf("   %.2f\n", pj.low);
}

void run(bool as_json) {
  if (as_json) {
    json all = json::array();
    for (const Format& f : quant::formats()) all.push_back(to_json(f));
    std::printf("%s\n", all.dump(1).c_str());
    return;
  }
  std::printf("%s%s%s%s\n", cell("", 43).c_str(), cell("fraction bits at 2^", 37).c_str(),
              cell("SQNR in dB of N(0, sigma)", 37).c_str(), "pJ multiply + add");
  std::printf("%s%s%s%s  ", cell("format", 13).c_str(), cell("bits", -6).c_str(),
              cell("max", -11).c_str(), cell("min > 0", -10).c_str());
  for (const int e : exponents) std::printf("%s", cell(std::to_string(e), -5).c_str());
  std::printf("  ");
  for (const double s : sigmas) {
    char text[16];
    std::snprintf(text, sizeof text, "%g", s);
    std::printf("%s", cell(text, -7).c_str());
  }
  std::printf("   in hardware, modelled\n");
  for (const Format& f : quant::formats()) print(f);
  std::printf(
      "\nBits count the shared scale of a block; max and min > 0 are those of an element without "
      "it. Picojoules are a model of 45 nm hardware "
      "(Horowitz, power law on significand bits; posits times 1 to 1.6): emulated on a CPU, every "
      "format but f32 costs more compute than f32, and saves bytes only.\n");
}

}  // namespace

void add_formats(CLI::App& app) {
  auto* c = app.add_subcommand("formats", "Number formats: range, precision, noise, bytes, pJ");
  auto as_json = std::make_shared<bool>(false);
  auto plot = std::make_shared<std::string>();
  c->add_flag("--json", *as_json, "Result as JSON");
  c->add_option("--plot", *plot, "Page with precision and noise of every format, .html");
  c->callback([=] {
    if (!plot->empty()) io::write_file(*plot, green::format_page_html());
    else run(*as_json);
  });
}

}  // namespace wattle::cli
