// What the samples of an experiment say: normality, outliers, tests, effect sizes, in figures and
// in sentences. Each quantity (joules, seconds, further values) is analysed by itself.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "green/experiment.h"
#include "green/hypothesis.h"

namespace wattle::green {

constexpr double significance = 0.05;

/// The values of one variant.
struct VariantSummary {
  std::string name;
  Vec values;              ///< of all runs that have one, in the order of running
  std::vector<int> order;  ///< Sample::order of each
  std::vector<bool> keep;  ///< false: left out as an outlier
  int missing = 0;         ///< runs without a value
  Vec kept;                ///< the values that everything below and every test is about
  double mean = 0, sd = 0, median = 0;
  ShapiroWilk normality;      ///< of the kept values
  ShapiroWilk normality_all;  ///< of all values
  RankCorrelation drift;      ///< of all values with the order of running
  bool normal() const { return normality.p > significance; }
  bool constant() const;  ///< all kept values are equal
};

/// Two variants compared, a against b.
struct PairResult {
  size_t a = 0, b = 0;       ///< indices into Quantity::variants
  std::string test;          ///< "Welch", "Mann-Whitney", or "none" where nothing varies
  double p = 0, p_holm = 0;  ///< of `test`; corrected for all pairs of this quantity
  Welch welch;
  MannWhitney mann_whitney;
  double difference = 0;  ///< mean(a) - mean(b)
  Interval ratio;         ///< mean(a) / mean(b), 95 % bootstrap interval
  double d = 0, g = 0, a12 = 0, cliff = 0;
  std::string_view effect;  ///< magnitude in a word: of d after Welch, else of Cliff's delta
  bool significant = false;
  std::string conclusion;  ///< one or more sentences, plain text
};

struct Quantity {
  std::string name, unit;                   ///< "joules", "J"
  JouleKind kind = JouleKind::unavailable;  ///< of joules only
  std::string origin;                       ///< of joules: "measured, perf_event package-0"
  bool outliers_removed = false;            ///< the rule was applied, to every variant
  std::vector<VariantSummary> variants;     ///< in the experiment's order
  std::vector<PairResult> pairs;
  std::string refused;  ///< why there is no comparison; empty when there is one
  std::vector<std::string> warnings;
};

struct ExperimentAnalysis {
  std::vector<Quantity> quantities;  ///< joules first; joules are absent where no run has them
  std::string energy_line;           ///< where the joules come from, or that there are none
  std::vector<std::string> warnings;
};

/// The experiment's quantities: "joules" where a run has them, "seconds", then further values.
std::vector<std::string> quantity_names(const Experiment& e);

/// Analyses one of them. Throws value_error for an unknown name, and where joules of different
/// kinds would be compared: a measured figure against a modelled one says nothing about the
/// variants.
Quantity analyse_quantity(const Experiment& e, const std::string& quantity);

/// All quantities. Where analyse_quantity refuses, the quantity holds the reason instead of pairs.
ExperimentAnalysis analyse(const Experiment& e);

/// Fills `conclusion` of a pair; see experiment_conclusion.cpp for the sentences.
std::string conclusion_of(const Quantity& q, const PairResult& p, size_t pairs);

}  // namespace wattle::green
