#include "energy/carbon.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace wattle::energy {
namespace {

constexpr const char* owid = "Our World in Data from Ember and the Energy Institute, CC BY 4.0";

struct Country {
  const char* code;
  double g;
};
// Grams of CO2 equivalent per kWh generated, 2023 (Iceland: 2022).
constexpr Country countries[] = {
    {"AU", 548.7}, {"AT", 110.8}, {"BE", 138.1}, {"BR", 98.3},  {"CA", 170.0}, {"CH", 34.8},
    {"CN", 582.3}, {"CZ", 449.7}, {"DE", 381.0}, {"DK", 151.7}, {"EE", 416.7}, {"ES", 174.1},
    {"FI", 79.2},  {"FR", 56.0},  {"GB", 237.6}, {"GR", 336.6}, {"IE", 290.8}, {"IN", 713.4},
    {"IS", 27.7},  {"IT", 330.7}, {"JP", 485.4}, {"KR", 430.6}, {"MX", 507.2}, {"NL", 267.6},
    {"NO", 30.1},  {"PL", 661.9}, {"PT", 165.6}, {"RU", 441.0}, {"SE", 40.7},  {"SG", 470.8},
    {"TR", 464.6}, {"US", 369.5}, {"ZA", 707.7}};

std::string joined(const std::string& a, const std::string& b) {
  return a.empty() || a == b ? b : b.empty() ? a : a + "; " + b;
}

// Grams as people write them.
std::string mass(double g) {
  const double a = std::fabs(g);
  char buf[40];
  if (a >= 1e6) std::snprintf(buf, sizeof buf, "%.4g t", g * 1e-6);
  else if (a >= 1e3) std::snprintf(buf, sizeof buf, "%.4g kg", g * 1e-3);
  else if (a >= 1 || a == 0) std::snprintf(buf, sizeof buf, "%.4g g", g);
  else if (a >= 1e-3) std::snprintf(buf, sizeof buf, "%.4g mg", g * 1e3);
  else std::snprintf(buf, sizeof buf, "%.4g ug", g * 1e6);
  return buf;
}

}  // namespace

const std::vector<Intensity>& intensities() {
  static const std::vector<Intensity> all = [] {
    std::vector<Intensity> v;
    for (const Country& c : countries)
      v.push_back({c.code, c.g, std::string_view(c.code) == "IS" ? 2022 : 2023,
                   "lifecycle of generation, yearly mean", owid});
    v.push_back({"WORLD", 481, 2023, "lifecycle of generation, yearly mean", "Ember 2023"});
    return v;
  }();
  return all;
}

const Intensity& intensity_of(std::string_view region) {
  std::string known;
  for (const Intensity& i : intensities()) {
    if (i.region == region) return i;
    known += (known.empty() ? "" : " ") + i.region;
  }
  throw value_error(str("region: found '", region, "', expected one of ", known));
}

std::string Grams::str() const {
  if (!available()) return "-";
  const std::string spread = sd_g > 0 ? " +- " + mass(sd_g) : "";  // not given is not none
  return wattle::str(mass(g), spread, " CO2e (", word(kind), ", ", source, ")");
}

Grams operator+(const Grams& a, const Grams& b) {
  return {a.g + b.g, std::hypot(a.sd_g, b.sd_g), std::max(a.kind, b.kind),
          joined(a.source, b.source)};
}

Grams operational(const Joules& e, const Intensity& at, double pue) {
  if (!(pue >= 1) || !std::isfinite(pue))
    throw value_error(str("PUE: found ", pue, ", expected at least 1"));
  if (!(at.g_per_kwh >= 0) || !std::isfinite(at.g_per_kwh))
    throw value_error(str("intensity of ", at.region, ": found ", at.g_per_kwh,
                          " g/kWh, expected a finite one >= 0"));
  Grams out;
  out.source = str(at.region, " ", at.g_per_kwh, " g/kWh ", at.year, ", PUE ", pue);
  if (!e.available()) return out;
  const double factor = pue * at.g_per_kwh / joules_per_kwh;
  out.g = e.joules() * factor;
  out.sd_g = e.sd_joules() * factor;
  out.kind = e.kind;
  return out;
}

Grams embodied_share(double total_g, double hours, double life_years, double resources) {
  if (!(total_g >= 0) || !(hours >= 0) || !(life_years > 0) || !(resources >= 0 && resources <= 1))
    throw value_error(str("embodied carbon: found ", total_g, " g, ", hours, " h of ", life_years,
                          " years, share ", resources,
                          ", expected all >= 0, a life > 0 and a share <= 1"));
  const double share = hours / (life_years * 365 * 24) * resources;
  return {total_g * share, 0, JouleKind::ratio,
          str("embodied ", mass(total_g), " over ", life_years, " years")};
}

Grams embodied_by_ratio(const Grams& operation, double f) {
  if (!(f >= 0 && f < 1))
    throw value_error(str("embodied fraction: found ", f, ", expected 0 to below 1"));
  if (!operation.available()) return {};
  const double k = f / (1 - f);
  return {operation.g * k, operation.sd_g * k, JouleKind::ratio,
          str("operation : embodied = ", 1 - f, " : ", f)};
}

Grams sci(const Grams& operation, const Grams& embodied, double units) {
  if (!(units > 0) || !std::isfinite(units))
    throw value_error(str("SCI: found ", units, " functional units, expected more than 0"));
  Grams out = operation + embodied;
  out.g /= units;
  out.sd_g /= units;
  return out;
}

Grams LifeCycle::total() const {
  Grams sum;
  bool any = false;
  for (const Grams* g : {&data, &experimentation, &training, &inference}) {
    if (!g->available()) continue;
    sum = any ? sum + *g : *g;
    any = true;
  }
  return sum;
}

double RedAi::difference(const Joules& metered) const {
  if (!metered.available() || metered.uj == 0) return std::numeric_limits<double>::quiet_NaN();
  return joules() / metered.joules() - 1;
}

const std::vector<FabNode>& fab_nodes() {
  static const std::vector<FabNode> nodes{{28, 0.90, 175, 100},  {14, 1.2, 200, 125},
                                          {10, 1.475, 240, 150}, {7, 2.15, 350, 200},
                                          {5, 2.75, 430, 225},   {3, 3.25, 470, 275}};
  return nodes;
}

double act_carbon_per_area(double nm, double fab_g_per_kwh, int abated, double yield) {
  if (!(yield > 0 && yield <= 1))
    throw value_error(str("ACT: found yield ", yield, ", expected above 0 to 1"));
  if (abated != 95 && abated != 97 && abated != 99)
    throw value_error(str("ACT: found ", abated, " % of gases abated, expected 95, 97 or 99"));
  for (const FabNode& n : fab_nodes()) {
    if (n.nm != nm) continue;
    const double gas = abated == 95   ? n.gas95_g
                       : abated == 99 ? n.gas99_g
                                      : (n.gas95_g + n.gas99_g) / 2;
    return (fab_g_per_kwh * n.kwh_per_cm2 + gas + 500) / yield;
  }
  throw value_error(str("ACT: found a process of ", nm, " nm, expected 28, 14, 10, 7, 5 or 3"));
}

double act_chip(double area_mm2, double nm, double fab_g_per_kwh, int packages, int abated,
                double yield) {
  if (!(area_mm2 >= 0) || packages < 0)
    throw value_error(str("ACT: found ", area_mm2, " mm2 in ", packages, " packages"));
  return area_mm2 / 100 * act_carbon_per_area(nm, fab_g_per_kwh, abated, yield) + 150.0 * packages;
}

double act_dram_per_gb(std::string_view type) {
  if (type == "ddr4") return 65;
  if (type == "lpddr4") return 48;
  throw value_error(str("ACT: found memory '", type, "', expected ddr4 or lpddr4"));
}

}  // namespace wattle::energy
