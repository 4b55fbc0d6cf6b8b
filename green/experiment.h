// Comparing variants by repetition: shuffled rounds, rests, warm-up, every sample kept, and an
// analysis that says what the samples support. After Cruz, "Green software engineering done right",
// 2021: 30 repetitions, outliers beyond 3 standard deviations out of every sample alike, Welch's
// test.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "energy/joules.h"
#include "green/hypothesis.h"

namespace wattle::green {

/// One repetition of one variant.
struct Sample {
  std::string variant;
  int round = 0;  ///< 0-based; every variant runs once in a round
  int order = 0;  ///< position in the whole experiment
  double seconds = 0;
  Joules joules;
  double celsius = 0;    ///< before it; NaN when no sensor can be read
  double started_s = 0;  ///< since the experiment began
};

struct Variant {
  std::string name;
  /// Runs once; fills seconds and joules. What it throws ends the experiment.
  std::function<void(Sample&)> run;
};

struct ExperimentOptions {
  int repetitions = 30;
  int warmup = 1;     ///< rounds thrown away first
  double rest_s = 1;  ///< before every run
  uint64_t seed = 1;  ///< of the order
  double outlier_sigmas = 3;
  double alpha = 0.05;
};

/// What an experiment needs of the world; replaced in tests.
struct ExperimentWorld {
  std::function<void(double)> sleep_s;
  std::function<double()> celsius;  ///< NaN = not readable
  std::function<double()> now_s;
  std::function<void(const Sample&)> done;  ///< after every kept sample
};

/// The variants' order in a round: a random permutation that depends on seed and round alone, so
/// that an experiment that goes on has the order that it would have had.
std::vector<size_t> round_order(size_t variants, uint64_t seed, int round);

/// Runs what `samples` does not hold yet and appends to it. Warm-up rounds run first, also when it
/// goes on. Throws value_error for fewer than 2 variants or repetitions.
void run_experiment(const std::vector<Variant>& variants, const ExperimentOptions& options,
                    const ExperimentWorld& world, std::vector<Sample>& samples);

/// One quantity ("joules" or "seconds") of one variant.
struct Distribution {
  std::string variant;
  Vec values;       ///< kept ones
  int removed = 0;  ///< outliers
  double shapiro_p = 0;
  bool normal() const { return shapiro_p > 0.05; }
};

/// Comparison of variant b with a.
struct Comparison {
  std::string a, b;
  Welch welch;
  MannWhitney ranks;
  bool by_ranks = false;  ///< a side is not normal: Mann-Whitney decides
  double p = 0, p_holm = 0;
  double d = 0, a12 = 0;
  Interval ratio;  ///< mean b / mean a, bootstrap
  std::string sentence;
};

struct QuantityAnalysis {
  std::string quantity, unit;
  std::vector<Distribution> variants;
  std::vector<Comparison> pairs;
  std::vector<std::string> warnings;
  std::string refused;  ///< not empty: nothing may be compared, and why
};

struct ExperimentAnalysis {
  QuantityAnalysis joules, seconds;
  std::string energy_sentence;  ///< where the joules come from
};
/// Joules are refused when kinds differ (a measured figure against a modelled one says nothing),
/// when any is unavailable, and when they are modelled and do not vary (a repeat of the same
/// computation is no evidence).
ExperimentAnalysis analyse_experiment(const std::vector<Sample>& samples,
                                      const ExperimentOptions& options);

/// samples.csv and back; reading throws value_error naming `what` and the line.
std::string samples_csv(const std::vector<Sample>& samples);
std::vector<Sample> samples_from_csv(const std::string& text, const std::string& what);
std::string experiment_json(const ExperimentAnalysis& a, const ExperimentOptions& o);
/// Self-contained page: tables, violins with boxes, samples in the order in which they ran.
std::string experiment_html(const ExperimentAnalysis& a, const std::vector<Sample>& samples,
                            const ExperimentOptions& o);

}  // namespace wattle::green
