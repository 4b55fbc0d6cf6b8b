// A study's runs on an MLflow server.
#pragma once
#include <memory>

#include "green/mlflow.h"
#include "green/study_data.h"

namespace wattle::green {

/// Starts the MLflow run of one training of a study: its settings as parameters. The spool lies in
/// OUT/mlflow. Null when `url` is empty.
std::unique_ptr<MlflowRun> start_mlflow_run(const std::string& url, const std::string& out,
                                            const StudySettings& settings, const NetKey& net,
                                            uint64_t seed);
/// Ends it with the figures that runs.csv has: accuracy, FLOPs, bytes, seconds, joules by op and
/// layer. Returns a note for the reader when something is still in the spool.
std::string finish_mlflow_run(MlflowRun& mlflow, const StudyRun& run, const Ledger& ledger,
                              int64_t step, const std::string& region = "");

/// Sends what a spool folder holds. Returns the number of messages still pending; `report` gets a
/// line per run. Throws io_error when the folder cannot be read.
size_t deliver_spool(const MlflowOptions& options, std::vector<std::string>& report);

}  // namespace wattle::green
