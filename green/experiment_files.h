// The files of an experiment, as text: samples.csv and experiment.json.
#pragma once
#include <string>
#include <string_view>

#include "green/experiment_analysis.h"

namespace wattle::green {

/// A row per sample: order,round,variant,seed,start_s,temperature_c,joules,joules_sd,joules_kind,
/// joules_source,seconds and a column value.NAME per further value. Joules in J, exact to the
/// microjoule; unknown figures are empty fields; variants by name.
std::string samples_csv(const Experiment& e);

/// Puts the samples of such a text into `e`, whose variants and options say what is expected.
/// Throws io_error naming `path` and the line for text that is no such table, value_error (see
/// check_samples) for samples of another experiment.
void read_samples_csv(Experiment& e, std::string_view text,
                      const std::string& path = "samples.csv");

/// The whole experiment; with an analysis, its figures and sentences too. Unknown figures are null.
std::string experiment_json(const Experiment& e, const ExperimentAnalysis* a = nullptr);

/// Reads experiment_json() back, bit for bit; an analysis in it is left, analyse() makes it anew.
/// Throws io_error naming `path` and what is wrong.
Experiment experiment_from_json(std::string_view text, const std::string& path = "experiment.json");

}  // namespace wattle::green
