// What number formats do to training: the same nets, data, seeds and steps in every precision, with
// accuracy, bytes, time and joules side by side.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "core/callable.h"
#include "core/codec.h"
#include "energy/joules.h"

namespace wattle::green {

struct FormatStudyOptions {
  std::string dataset = "fashion-mnist", data_dir, out;
  std::vector<std::string> nets = {"lenet5", "cnn31"};
  std::vector<std::string> precisions = {"f32",     "bf16",         "fp16",   "fp8",
                                         "posit16", "posit8_mixed", "posit8", "int8_qat"};
  int seeds = 5, epochs = 5;
  int64_t batch = 100, rows = -1;
  double lr = 1e-3;
  std::string optimizer = "adam", schedule = "cosine";
  std::string device = "cpu", math = "f32";  ///< as in TrainOptions
};

/// One training and its test. Precision "int8_ptq" is the net of "f32", quantised afterwards.
struct FormatRun {
  std::string net, precision;
  int64_t seed = 0;
  double accuracy = 0, loss = 0, seconds = 0;
  int64_t weight_bytes = 0;      ///< of the trained net, as it is stored
  int64_t bytes = 0, flops = 0;  ///< moved and counted in the training, by the ops' rules
  int64_t executed_flops = 0, executed_iops = 0;  ///< what the kernels ran to emulate the format
  CastStats rounding;
  double loss_scale = 1;
  int64_t skipped = 0;  ///< steps that were left out because gradients overflowed
  Joules joules;        ///< of the training, on this host
  double hardware_lo = 0, hardware_hi = 0;  ///< J on hardware that has the format; 0, 0: unknown
};

struct FormatStudy {
  FormatStudyOptions options;
  std::string cpu, isa, energy;  ///< where it ran, and what its joules are
  std::string device = "cpu";    ///< or the GPU's name and how it computes products of f32 numbers
  int threads = 0;
  std::vector<FormatRun> runs;
};

/// Runs what is missing of the study in `options.out` (study.json there is continued) and writes
/// study.json, runs.csv and report.html. `stop` ends it after the current run.
FormatStudy run_format_study(const FormatStudyOptions& options, const std::atomic<bool>& stop,
                             const Callable<void(const FormatRun&, int done, int all)>& show);

std::string format_study_json(const FormatStudy& s);
/// Throws io_error naming `path` and what is wrong.
FormatStudy format_study_from_json(const std::string& text, const std::string& path);
std::string format_study_csv(const FormatStudy& s);
std::string format_study_html(const FormatStudy& s);

/// Figures of the runs that share net and precision.
struct FormatCell {
  std::string net, precision;
  std::vector<double> accuracy;
  double mean = 0, sd = 0, seconds = 0;
  FormatRun first;  ///< its counts, which all seeds share
};
std::vector<FormatCell> cells_of(const FormatStudy& s);

}  // namespace wattle::green
