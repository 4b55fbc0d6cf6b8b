// From joules to grams of CO2 equivalent: operation, embodied, and what they are per unit of work.
// Every figure keeps the kind of the joules it came from and the source of its intensity.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "energy/joules.h"

namespace wattle::energy {

constexpr double joules_per_kwh = 3.6e6;

/// Carbon intensity of electricity.
struct Intensity {
  std::string region;    ///< ISO 3166 code, "WORLD", or what the caller calls it
  double g_per_kwh = 0;  ///< grams of CO2 equivalent
  int year = 0;          ///< that the figure describes
  std::string kind;      ///< "lifecycle of generation, yearly mean", ...
  std::string source;    ///< with its licence
};
/// Yearly means of 33 countries and the world. Throws value_error and lists the regions.
const Intensity& intensity_of(std::string_view region);
const std::vector<Intensity>& intensities();

/// Grams, with the weakest kind of what they were computed from.
struct Grams {
  double g = 0, sd_g = 0;
  JouleKind kind = JouleKind::unavailable;
  std::string source;
  bool available() const { return kind != JouleKind::unavailable; }
  /// "12.3 g +- 4 g CO2e (modelled, ...)", without +- when it is not known; "-" when unavailable.
  std::string str() const;
};
Grams operator+(const Grams& a, const Grams& b);

/// Operation: joules / 3.6e6 x PUE x intensity. PUE (power usage effectiveness) is the data
/// centre's energy over that of its machines, >= 1; 1 = a machine without a data centre.
/// Unavailable joules give unavailable grams. Throws value_error for a PUE below 1 or a negative
/// intensity.
Grams operational(const Joules& energy, const Intensity& at, double pue = 1);

/// Share of the carbon of making a machine: total x (hours reserved / expected life) x share of its
/// resources. The joules' kind does not enter; kind ratio, as embodied figures are.
Grams embodied_share(double total_g, double hours, double life_years, double resources = 1);

/// Only the ratio of operational to embodied is known: embodied = operational x share / (1 -
/// share). 0.7 after Wu et al. (MLSys 2022): about 30 % operation and 70 % making, of a fleet of AI
/// machines.
Grams embodied_by_ratio(const Grams& operation, double embodied_fraction = 0.7);

/// Software Carbon Intensity, ISO/IEC 21031:2024: (E I + M) / R, grams per functional unit. `units`
/// R > 0. Offsets and certificates have no place in it.
Grams sci(const Grams& operation, const Grams& embodied, double units);

/// Phases of a model's life, kept apart, as they differ by orders of magnitude between users.
struct LifeCycle {
  Grams data, experimentation, training, inference;
  Grams total() const;  ///< of the phases that are available
};

/// Cost of a result after Schwartz et al. (Green AI, 2020): example x data x trials.
struct RedAi {
  double example_j = 0;  ///< E: joules of one example in one pass
  double examples = 0;   ///< D: examples in an epoch
  double epochs = 0;
  double trials = 0;  ///< H: trainings, all hyper-parameters and seeds
  double joules() const { return example_j * examples * epochs * trials; }
  /// joules() over the metered total, minus 1; NaN when the total is 0 or unavailable.
  double difference(const Joules& metered) const;
};

// ---- ACT: carbon of making integrated circuits (Gupta et al., ISCA 2022) ----

/// A manufacturing process: energy and gases per square centimetre.
struct FabNode {
  double nm = 0;
  double kwh_per_cm2 = 0;
  double gas95_g = 0, gas99_g = 0;  ///< g/cm2 with 95 and 99 % of the gases abated
};
const std::vector<FabNode>& fab_nodes();
/// Grams per square centimetre: (CI_fab EPA + GPA + MPA) / yield; MPA 500 g. `abated` 95, 97 (the
/// mean of the two published) or 99. Throws value_error for an unknown node.
double act_carbon_per_area(double nm, double fab_g_per_kwh, int abated = 97, double yield = 0.875);
/// Chip: area x carbon per area + 150 g a package.
double act_chip(double area_mm2, double nm, double fab_g_per_kwh, int packages = 1, int abated = 97,
                double yield = 0.875);
/// Grams per gigabyte, ACT's table: "ddr4" 65, "lpddr4" 48. Throws value_error.
double act_dram_per_gb(std::string_view type);

}  // namespace wattle::energy
