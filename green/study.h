// The layer-cost study: the 2 x 2 x 2 design of Yarally et al. (CAIN 2023) on real images.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "green/study_data.h"

namespace wattle::green {

struct StudyOptions {
  std::string dataset = "fashion-mnist", data_dir, out;
  std::string protocol = "fixed";  ///< or "as-published"
  int64_t rows = -1;               ///< training images, stratified; -1 = all
  int epochs = 3;
  int64_t batch = 512;
  /// 0 = the protocol's: 3e-3 with a cosine schedule fixed (chosen on a validation split,
  /// bench/choose_rate.py), 3e-4 constant as published.
  double lr = 0;
  int seeds = 2;
  std::vector<NetKey> nets;                  ///< empty = default_nets()
  std::string region;                        ///< of the electricity, for grams; empty = none
  std::string mlflow;                        ///< address of a tracking server; empty = none
  std::string device = "cpu", math = "f32";  ///< as in TrainOptions
  /// On a GPU with a meter: each run's last step is repeated for so many seconds, and what it took
  /// is the energy of the run's steps. 0 = the windows of the epochs, as on a CPU.
  double replay_seconds = 2;
  std::string version = "0.1.0";
};

/// The eight cells of the design, then DensePolyNN and DenseLinearNN with 3 linear layers.
std::vector<NetKey> default_nets();
/// "cnn" (all eight), "cnn341" (linear, conv, relu), "densepoly3", "denselinear7", ... separated by
/// commas; throws value_error naming the item.
std::vector<NetKey> parse_nets(const std::string& list);
/// The inverse for one net: "cnn341".
std::string net_name(const NetKey& k);

/// What the run is at, for a progress bar.
struct StudyProgress {
  int run = 0, runs = 0;  ///< runs finished before this session count as finished
  std::string label;
  uint64_t seed = 0;
  int64_t step = 0, steps = 0;
  double loss = 0;
  double elapsed = 0, left = 0;  ///< seconds; left is negative while unknown
};
using ProgressFn = void (*)(void* ctx, const StudyProgress& p);

/// Runs what `options.out` does not hold yet, seeds outside, nets inside in an order that is
/// shuffled for every seed (green/experiment.h, plan_runs), and writes runs.csv, layers.csv,
/// study.json and report.html after every run. Setting `stop` ends it after the step in progress;
/// the finished runs stay. Throws value_error when out holds a study of other settings.
StudyResult run_study(const StudyOptions& options, std::atomic<bool>& stop, ProgressFn progress,
                      void* ctx);

}  // namespace wattle::green
