// The study's files: runs.csv, layers.csv, study.json. Each is written under a temporary name and
// renamed, so that a reader (or a crash) never meets half a file.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "green/csv.h"
#include "green/study_data.h"

namespace wattle::green {

/// A row per run: dataset,net,linear,conv,relu,seed,epochs,rows,accuracy,flops,seconds,joules,
/// joules_sd,joules_kind, then flops_all,bytes,params,train_loss,val_loss,val_accuracy,diverged,
/// joules_source,joules_idle,joules_net,kappa. `flops` are the weighted ones; joules in J, exact to
/// the microjoule; unknown figures are empty fields.
std::string runs_csv(const StudyResult& s);

/// A row per net, layer and phase, summed over the net's runs: net,linear,conv,relu,layer,type,
/// phase,calls,flops_weighted,flops_all,bytes_read,bytes_written,ms,joules,joules_sd,joules_kind,
/// joules_source.
std::string layers_csv(const StudyResult& s);

/// The whole result; `study_from_json` gives the same result back, bit for bit.
std::string study_json(const StudyResult& s);
/// Throws io_error naming `path` and what is wrong.
StudyResult study_from_json(std::string_view text, const std::string& path = "study.json");

/// Writes runs.csv, layers.csv and, last, study.json into `dir` (made when missing). Throws
/// io_error.
void write_study(const std::string& dir, const StudyResult& s);
/// Reads `dir`/study.json, from which a study continues; false when there is none. Throws io_error
/// when there is one that cannot be read.
bool read_study(const std::string& dir, StudyResult& out);

}  // namespace wattle::green
