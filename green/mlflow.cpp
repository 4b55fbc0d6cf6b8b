#include "green/mlflow.h"

#include <cmath>

#include "core/error.h"
#include "green/clock_text.h"

namespace wattle::green {
namespace {

using json = nlohmann::json;

// MLflow's limits are 1000 metrics, 100 parameters and 100 tags a batch, and 1 MB.
constexpr size_t metrics_a_batch = 900, entries_a_batch = 100;

json entry(const std::string& key, const std::string& value, size_t limit) {
  if (value.size() > limit)
    throw value_error(str("mlflow: '", key, "' has ", static_cast<int64_t>(value.size()),
                          " characters, expected at most ", static_cast<int64_t>(limit)));
  return {{"key", mlflow_key(key)}, {"value", value}};
}

std::string joined(const std::string& a, Phase p) { return a + "_" + std::string(name(p)) + "_j"; }

}  // namespace

std::string checked_mlflow_url(const std::string& url) {
  std::string u = url;
  while (u.ends_with('/')) u.pop_back();
  if (!u.starts_with("http://") && !u.starts_with("https://"))
    throw value_error(
        str("MLflow address: found '", url, "', expected http://HOST:PORT or https://..."));
  return u;
}

std::string mlflow_key(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    const bool good = std::isalnum(u) || c == '/' || c == '_' || c == '.' || c == '-' || c == ' ';
    const char next = good ? c : '_';
    if (next == '/' && out.empty()) continue;
    if (next == '.' && out.ends_with('.')) continue;
    out += next;
  }
  return out.substr(0, 250);
}

MlflowRun::MlflowRun(const MlflowOptions& options, const std::string& key, const std::string& name,
                     const std::map<std::string, std::string>& params,
                     const std::map<std::string, std::string>& tags)
    : options_(options), spool_(options.spool, mlflow_key(key)), delivery_(spool_, options) {
  options_.url = checked_mlflow_url(options.url);
  json all_tags = json::array({entry("wattle.run_key", key, 5000)});
  for (const auto& [k, v] : tags) all_tags.push_back(entry(k, v, 5000));
  json batch = json::array();
  std::vector<json> batches;
  for (const auto& [k, v] : params) {
    batch.push_back(entry(k, v, 6000));
    if (batch.size() == entries_a_batch) batches.push_back(std::exchange(batch, json::array()));
  }
  if (!batch.empty()) batches.push_back(batch);
  spool_.append({{"start",
                  {{"key", key},
                   {"name", name},
                   {"experiment", options.experiment},
                   {"time", now_ms()},
                   {"tags", all_tags}}}});
  for (const json& b : batches) spool_.append({{"batch", {{"params", b}}}});
  try_deliver();
}

MlflowRun::~MlflowRun() {
  try {
    if (!finished_) finish("FAILED");
  } catch (const std::exception&) {}  // the spool could not be written: nothing is left to do
}

void MlflowRun::metric(const std::string& key, double value, int64_t step) {
  if (!std::isfinite(value)) {
    ++left_out_;
    return;
  }
  metrics_.push_back(
      {{"key", mlflow_key(key)}, {"value", value}, {"timestamp", now_ms()}, {"step", step}});
  if (metrics_.size() >= metrics_a_batch) flush();
}

void MlflowRun::tag(const std::string& key, const std::string& value) {
  spool_.append({{"batch", {{"tags", json::array({entry(key, value, 5000)})}}}});
}

void MlflowRun::ledger(const Ledger& l, int64_t step) {
  metric("energy/total_j", l.joules.joules(), step);
  for (const OpJoules& o : l.ops)
    metric("energy/op/" + joined(o.op, o.phase), o.joules.joules(), step);
  for (const LedgerRow& r : l.rows)
    metric("energy/layer/" + joined(r.layer.empty() ? "none" : r.layer, r.phase), r.joules.joules(),
           step);
  tag("energy.tier", std::string(energy::name(l.joules.kind)));
  if (!l.joules.source.empty()) tag("energy.source", l.joules.source);
}

void MlflowRun::flush() {
  if (!metrics_.empty()) {
    spool_.append({{"batch", {{"metrics", metrics_}}}});
    metrics_ = json::array();
  }
  try_deliver();
}

void MlflowRun::finish(const std::string& status) {
  finished_ = true;
  if (!metrics_.empty()) {
    spool_.append({{"batch", {{"metrics", metrics_}}}});
    metrics_ = json::array();
  }
  spool_.append({{"end", {{"status", status}, {"time", now_ms()}}}});
  next_try_ms_ = 0;
  try_deliver();
  spool_.remove_if_complete();
}

void MlflowRun::try_deliver() {
  if (!refused_.empty() || now_ms() < next_try_ms_) return;
  try {
    if (delivery_.deliver()) {
      wait_s_ = 0;
      return;
    }
  } catch (const value_error& e) {
    refused_ = e.what();
    return;
  }
  wait_s_ = wait_s_ == 0 ? options_.retry_s : std::min(2 * wait_s_, options_.max_retry_s);
  next_try_ms_ = now_ms() + static_cast<int64_t>(wait_s_ * 1000);
}

std::string MlflowRun::note() const {
  if (spool_.pending() == 0) return {};
  return str(static_cast<int64_t>(spool_.pending()), " messages wait in ", spool_.path(), " (",
             refused_.empty() ? delivery_.error() : refused_,
             "); `wattle mlflow deliver` sends them later");
}

}  // namespace wattle::green
