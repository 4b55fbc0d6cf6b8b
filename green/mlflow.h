// Runs on an MLflow tracking server, over its REST interface 2.0. Everything goes to a spool on the
// disk first: a server that is away, or dies in the middle, costs a training neither data nor time,
// and what it has already is not sent twice.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "green/ledger.h"
#include "green/mlflow_spool.h"

namespace wattle::green {

struct MlflowOptions {
  std::string url;    ///< "http://host:5000"; empty = none
  std::string spool;  ///< folder
  std::string experiment = "wattle";
  double timeout_s = 5;  ///< a request blocks no longer
  double retry_s = 2;    ///< after a failure; doubles up to max_retry_s
  double max_retry_s = 60;
};
/// Throws value_error when the address is not http:// or https://; drops slashes at its end.
std::string checked_mlflow_url(const std::string& url);
/// Letters, digits and "/_.- " stay, others become '_'; no leading '/', no "..", at most 250.
std::string mlflow_key(const std::string& text);

/// Sends what a spool holds, in order, and marks what has arrived.
class MlflowDelivery {
 public:
  MlflowDelivery(MlflowSpool& spool, MlflowOptions options);
  /// Sends until nothing is pending or a request fails; true when nothing is pending. Throws
  /// value_error when the server refuses a line (4xx): repeating it would not help.
  bool deliver();
  const std::string& error() const { return error_; }  ///< of the last failure
  const std::string& run_id() const { return run_id_; }

 private:
  bool ensure_run();
  bool find_experiment(std::string& id);
  bool find_run(const std::string& experiment, const nlohmann::json& start);
  bool send(const nlohmann::json& line);
  bool drop_what_arrived(nlohmann::json& batch);
  bool request(const std::string& path, const nlohmann::json& body, nlohmann::json& answer,
               bool missing_is_fine = false);
  MlflowSpool& spool_;
  MlflowOptions options_;
  std::string run_id_, error_;
  size_t uncertain_before_;  ///< lines below this index may have arrived already
};

/// One run. Calls never throw because a server is away.
class MlflowRun {
 public:
  /// `key` names the run for ever (file name and tag wattle.run_key); parameters longer than 6000
  /// characters and tags longer than 5000 throw value_error naming them.
  MlflowRun(const MlflowOptions& options, const std::string& key, const std::string& name,
            const std::map<std::string, std::string>& params,
            const std::map<std::string, std::string>& tags);
  /// Finishes as FAILED when nobody did.
  ~MlflowRun();
  /// NaN and infinity cannot be logged: they are left out and counted.
  void metric(const std::string& key, double value, int64_t step);
  void tag(const std::string& key, const std::string& value);
  /// energy/total_j, energy/op/<op>_<phase>_j, energy/layer/<layer>_<phase>_j, tags energy.tier and
  /// energy.source.
  void ledger(const Ledger& l, int64_t step);
  /// To the disk, and to the server when it is there (at most one failed request per retry time).
  void flush();
  void finish(const std::string& status = "FINISHED");
  int64_t left_out() const { return left_out_; }
  size_t pending() const { return spool_.pending(); }
  std::string note() const;  ///< empty, or what is still in the spool and why

 private:
  void try_deliver();
  MlflowOptions options_;
  MlflowSpool spool_;
  MlflowDelivery delivery_;
  nlohmann::json metrics_ = nlohmann::json::array();
  int64_t left_out_ = 0, next_try_ms_ = 0;
  double wait_s_ = 0;
  std::string refused_;
  bool finished_ = false;
};

}  // namespace wattle::green
