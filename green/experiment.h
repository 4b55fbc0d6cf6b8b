// An experiment that compares variants of a job: how it is run. Protocol after Cruz, "Green
// software engineering done right" (2021): runs in shuffled order, warm-up thrown away, rests
// between runs, what may disturb written down. What the runs say is computed in
// experiment_analysis.h.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "energy/joules.h"

namespace wattle::green {

/// What one run of a variant gives. Unknown figures stay as they are here.
struct RunResult {
  Joules energy;
  double seconds = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::pair<std::string, double>> values;  ///< further figures: "accuracy", "images/s"
};

/// The job of a variant. An exception from it ends the experiment.
class Workload {
 public:
  virtual ~Workload() = default;
  /// Runs the job once; `seed` differs from run to run.
  virtual RunResult run(uint64_t seed) = 0;
};
/// A workload from anything that takes a seed and returns a RunResult.
template <class Fn>
std::shared_ptr<Workload> workload(Fn fn) {
  struct Call final : Workload {
    explicit Call(Fn f) : fn(std::move(f)) {}
    RunResult run(uint64_t seed) override { return fn(seed); }
    Fn fn;
  };
  return std::make_shared<Call>(std::move(fn));
}

struct Variant {
  std::string name;
  std::string what;  ///< command or description, for the report
  std::shared_ptr<Workload> work;
};

enum class OutlierRule : uint8_t {
  none,
  /// When the values of any variant fail the test of normality, values more than three standard
  /// deviations from the mean of their variant leave **every** variant.
  three_sigma,
};
std::string_view name(OutlierRule r);                    ///< "none", "three_sigma"
OutlierRule outlier_rule_from_name(std::string_view s);  ///< throws value_error

struct ExperimentOptions {
  int repetitions = 30;  ///< runs of each variant that count
  int warmup = 1;        ///< runs of each variant before them, thrown away
  double rest_s = 1;     ///< pause between runs; about 60 where the host gets warm
  uint64_t seed = 1;     ///< of the order and, through it, of the runs
  OutlierRule outliers = OutlierRule::three_sigma;
  friend bool operator==(const ExperimentOptions&, const ExperimentOptions&) = default;
};

/// One run that counts.
struct Sample {
  int order = 0;       ///< 0, 1, ... over the whole experiment, in the order of running
  int round = 0;       ///< in each round every variant runs once
  size_t variant = 0;  ///< index
  uint64_t seed = 0;   ///< handed to the run
  double start_s = 0;  ///< when it began, seconds since 1970
  double temperature_c = std::numeric_limits<double>::quiet_NaN();  ///< before it began
  RunResult result;
};

/// An experiment, finished or not: what was to be done, and the samples there are.
struct Experiment {
  struct VariantInfo {
    std::string name, what;
    friend bool operator==(const VariantInfo&, const VariantInfo&) = default;
  };
  std::vector<VariantInfo> variants;
  ExperimentOptions options;
  std::vector<std::pair<std::string, std::string>> settings;  ///< "processor", "governor", ...
  std::vector<Sample> samples;                                ///< by `order`, without gaps

  bool complete() const {
    return samples.size() == variants.size() * static_cast<size_t>(options.repetitions);
  }
};

/// What an experiment needs of the host. Tests replace it, and need neither time nor sensors.
class ExperimentHost {
 public:
  virtual ~ExperimentHost() = default;
  virtual double now_s() = 0;  ///< seconds since 1970
  virtual void sleep_s(double seconds) = 0;
  virtual double temperature_c() = 0;  ///< of the processor; NaN where it cannot be read
  /// Asked before every run: true ends the experiment, what was sampled stays.
  virtual bool stop() { return false; }
  /// Called after every run that counts: the time to save.
  virtual void sample_taken(const Experiment&) {}
};

/// One run in the plan of an experiment.
struct PlannedRun {
  int round = 0;
  size_t variant = 0;
  uint64_t seed = 0;
};
/// All runs in their order: in every round a random permutation of the variants. A function of the
/// number of variants and the options alone, so that an interrupted experiment can go on.
std::vector<PlannedRun> plan_runs(size_t variants, const ExperimentOptions& options);

/// An experiment without samples. Throws value_error for no variant, empty or equal names, and
/// options out of range.
Experiment new_experiment(const std::vector<Variant>& variants, const ExperimentOptions& options);

/// Throws value_error when the samples are not the first ones of the experiment's plan: they belong
/// to another experiment.
void check_samples(const Experiment& e);

/// Throws value_error, naming the difference, when the samples of `before` cannot be continued as
/// `now`. More repetitions are a difference too: whoever adds runs after a look at the result
/// tests until it fits.
void require_same_plan(const Experiment& before, const Experiment& now);

/// Runs what is missing, from new_experiment() or from an interrupted experiment that was read
/// back. Warm-up runs come first in either case, since the host has cooled down. When a workload
/// throws, `e` holds the samples until then. Returns whether the experiment is complete.
bool run_experiment(Experiment& e, const std::vector<Variant>& variants, ExperimentHost& host);

}  // namespace wattle::green
