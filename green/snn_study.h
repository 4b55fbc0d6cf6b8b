// Spiking nets against nets of numbers at equal accuracy: four arms of one topology, a sweep over
// steps and bits, and what an inference costs under one set of rules.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "core/callable.h"
#include "energy/joules.h"
#include "green/neurobench.h"

namespace wattle::green {

struct SnnStudyOptions {
  std::string dataset = "fashion-mnist", data_dir;
  std::vector<int64_t> steps = {1, 2, 4, 8};
  /// One more net at `steps[2]` is to spike less: of each layer's mean rate, what is above the goal
  /// enters the loss with this weight; 0: no such net.
  double rate_weight = 2, rate_goal = 0.05;
  int seeds = 5, epochs = 3;
  int64_t rows = 20000;  ///< of training; the data set's last 10000, a fifth at most, validate
  int64_t batch = 64;
  std::vector<double> lrs = {3e-3, 1e-2};  ///< each arm takes the one that validates best
  int64_t sample = 200;                    ///< validation images of the account
  int jobs = 1;
  std::string device = "cpu", math = "f32";  ///< as in TrainOptions; the account is the host's
  std::string out;
};

/// An arm's net before its weights: "ann", "qnn 3 bits", "snn T=4", "snn T=4, fewer spikes".
struct SnnPoint {
  std::string name;
  SnnActivation activation;
  bool int8 = false;  ///< weights
  double rate_weight = 0;
  char arm() const;  ///< A: ANN f32, B: QNN int8, C: SNN f32, D: SNN int8
  SnnWidths widths() const;
};
std::vector<SnnPoint> snn_points(const SnnStudyOptions& o);

/// One training and what became of it.
struct SnnRun {
  std::string point;
  int64_t seed = 0;
  double lr = 0;
  std::vector<double> validation;  ///< accuracy after each epoch
  int64_t epoch = 0;               ///< that the best validation picked, from 1
  double test = 0;                 ///< accuracy of that epoch's weights
  int64_t test_passes = 0;         ///< over the test set: 1
  double silenced = 0;             ///< validation accuracy with no hidden spike; spiking nets
  double train_seconds = 0;
  Joules train_joules;
  double ms_batch1 = 0, ms_batch64 = 0;  ///< an image's forward here
  Joules joules_batch64;                 ///< of an image, where the host has a meter
  std::vector<SnnLayer> layers;
  NeuroBench bench;
  /// Spikes of up to 24 neurons of each layer for one image, a string of 0 and 1 per neuron; the
  /// first seed's.
  std::vector<std::vector<std::string>> raster;
};

struct SnnStudy {
  SnnStudyOptions options;
  std::string cpu, isa, energy;
  std::string device = "cpu";  ///< or the GPU's name and how it computes products of f32 numbers
  int64_t first_validation_row = 0;
  std::vector<SnnRun> runs;
};

struct SnnProgress {
  std::string point;
  int64_t seed, epoch, epochs;
  double validation;
  int run, runs;
};
/// Runs what is missing in `options.out` and writes study.json, runs.csv, layers.csv, report.html.
/// `stop` ends it after the current step; a training that was cut is run again. Throws value_error
/// for options that make no sense, and for several jobs on a host with a meter.
SnnStudy run_snn_study(const SnnStudyOptions& o, const std::atomic<bool>& stop,
                       const Callable<void(const SnnProgress&)>& show);

/// The runs of a point together.
struct SnnCell {
  SnnPoint point;
  std::vector<double> accuracy;
  double mean = 0, sd = 0;
  std::vector<SnnLayer> layers;  ///< means over the seeds
  double ms1 = 0, ms64 = 0, train_j = 0, silenced = 0;
};
std::vector<SnnCell> cells_of(const SnnStudy& s);

/// A spiking arm against one of numbers whose weights have the same bits.
struct SnnVerdict {
  int weight_bits = 32;
  SnnTier tier = SnnTier::compute;
  int64_t batch = 1;
  std::string numbers, spikes;  ///< the points compared; empty where there are none
  /// Same weights in the same bits, and both within half a point of the best common accuracy.
  bool equal = false;
  std::string why_not;                   ///< the condition that is violated
  double numbers_pj = 0, spikes_pj = 0;  ///< of an image
  /// A constant changed, and whether spikes win then; of equal arms.
  std::vector<std::pair<std::string, bool>> sensitivity;
};
/// A against C and B against D, for every tier and batches of 1 and 64: of each arm the cheapest
/// point near the best accuracy that both reach.
std::vector<SnnVerdict> verdicts_of(const SnnStudy& s);
/// Joules of spikes over those of numbers. Throws value_error naming the violated condition where
/// the arms are not equal.
double checked_ratio(const SnnVerdict& v);
/// The verdict with its conditions, and with the constants on which it hangs.
std::string sentence(const SnnVerdict& v);
/// All of them; arms that are unequal for the same reason everywhere get one.
std::vector<std::string> verdict_sentences(const SnnStudy& s);

std::string snn_study_json(const SnnStudy& s);
/// Throws io_error naming `path` and what is wrong.
SnnStudy snn_study_from_json(const std::string& text, const std::string& path);
std::string snn_runs_csv(const SnnStudy& s);
std::string snn_layers_csv(const SnnStudy& s);
std::string snn_study_html(const SnnStudy& s);

}  // namespace wattle::green
