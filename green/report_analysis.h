// What the report says, computed from the runs: means per net, paired effects, predictors.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "green/stats.h"
#include "green/study_data.h"

namespace wattle::green {

/// Mean run of one net. Diverged runs are counted but enter no mean.
struct NetSummary {
  NetKey key;
  std::string label;
  int runs = 0, diverged = 0;
  Vec accuracy, seconds, joules;  ///< one per run that did not diverge
  Joules energy;                  ///< mean per run; sd is the model's, not the spread of runs
  double flops_weighted = not_known, flops_all = not_known, bytes = not_known;
  int64_t params = 0;
  bool has_layers = false, on_front = false;
  /// Shares of the layer rows, per run: by type and by phase.
  std::array<double, layer_type_count> type_joules{}, type_ms{}, type_flops{};
  std::array<double, phase_count> phase_joules{}, phase_ms{};
};

/// One factor of the 2 x 2 x 2 design, runs paired on everything else and on the seed.
struct FactorEffect {
  std::string name;  ///< "conv", "linear", "relu"
  int low = 0, high = 0;
  int pairs = 0;
  Vec accuracy_points;    ///< accuracy(high) - accuracy(low), percentage points, one per pair
  Vec joules, seconds;    ///< high - low
  Interval joules_ratio;  ///< low / high with a paired bootstrap interval
  Interval seconds_ratio;
  double high_better = not_known;  ///< share of pairs in which the high level is more accurate
  bool exact_joules = false;       ///< joules do not vary between the repeats of any cell
};

struct Predictor {
  std::string target, from;  ///< "seconds" from "FLOPs + bytes"
  double r2 = not_known, pearson = not_known, spearman = not_known;
  bool by_construction = false;  ///< the target is computed from these very counts
};

struct Analysis {
  const StudyResult* study = nullptr;
  std::vector<NetSummary> nets;  ///< in the order of the settings, then of first appearance
  std::vector<FactorEffect> factors;
  std::vector<Predictor> predictors;
  Joules total_energy;  ///< of all runs, diverged ones too
  double total_seconds = 0;
  bool has_joules = false;               ///< every net has them
  bool modelled = false;                 ///< and they are computed from counts
  std::vector<std::string> broken_sums;  ///< see check_conservation
};

Analysis analyse(const StudyResult& s);

/// The runs of the 2 x 2 x 2 CNN design that did not diverge, as ANOVA input; levels relative to
/// the lower value of each factor.
struct Design {
  std::vector<std::array<int, 3>> levels;  ///< linear, conv, relu
  std::vector<const StudyRun*> runs;
};
Design cnn_design(const StudyResult& s);

}  // namespace wattle::green
