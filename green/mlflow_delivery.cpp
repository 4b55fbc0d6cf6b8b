// The conversation with the server. Each step can be repeated without harm: an experiment and a run
// are looked for before they are made, parameters and tags may be said again, and metrics of a
// batch whose answer was lost are asked for before they are sent once more.
#include <set>

#include "core/error.h"
#include "green/http.h"
#include "green/mlflow.h"

namespace wattle::green {
namespace {

using json = nlohmann::json;

// Integers come back as numbers or, beyond 53 bits, as strings.
int64_t integer(const json& j) {
  return j.is_string() ? std::stoll(j.get<std::string>()) : j.get<int64_t>();
}

std::string code_of(const json& answer) {
  return answer.is_object() ? answer.value("error_code", "") : "";
}

}  // namespace

MlflowDelivery::MlflowDelivery(MlflowSpool& spool, MlflowOptions options)
    : spool_(spool), options_(std::move(options)), uncertain_before_(spool.lines().size()) {
  options_.url = checked_mlflow_url(options_.url);
}

// False when the server is away or in trouble; throws when it refuses.
bool MlflowDelivery::request(const std::string& path, const json& body, json& answer,
                             bool missing_is_fine) {
  const std::string what = path.substr(0, path.find('?'));
  const HttpAnswer a = http_json(options_.url + "/api/2.0/mlflow/" + path,
                                 body.is_null() ? "" : body.dump(), options_.timeout_s);
  answer = json::parse(a.body, nullptr, false);
  if (a.ok() && answer.is_object()) return true;
  error_ = a.status == 0 ? str(options_.url, ": ", a.error)
                         : str(options_.url, " ", what, ": status ", a.status, " ",
                               answer.is_object() ? answer.value("message", "") : "");
  const bool refused = a.status >= 400 && a.status < 500 && a.status != 408 && a.status != 429;
  if (!refused) {
    uncertain_before_ = std::max(uncertain_before_, spool_.done() + 1);  // it may have arrived
    return false;
  }
  if (missing_is_fine && (code_of(answer) == "RESOURCE_DOES_NOT_EXIST" ||
                          code_of(answer) == "RESOURCE_ALREADY_EXISTS")) {
    error_.clear();
    return true;
  }
  throw value_error(str("mlflow: ", error_));
}

bool MlflowDelivery::find_experiment(std::string& id) {
  const std::string name = spool_.lines().at(0).at("start").at("experiment");
  for (int attempt = 0; attempt < 2; ++attempt) {
    json answer;
    if (!request("experiments/get-by-name?experiment_name=" + url_encoded(name), {}, answer, true))
      return false;
    if (answer.contains("experiment")) {
      id = answer["experiment"].at("experiment_id").get<std::string>();
      return true;
    }
    if (!request("experiments/create", {{"name", name}}, answer, true)) return false;
    if (answer.contains("experiment_id")) {
      id = answer["experiment_id"].get<std::string>();
      return true;
    }
  }
  error_ = str("experiment '", name, "' can neither be found nor made");
  return false;
}

bool MlflowDelivery::find_run(const std::string& experiment, const json& start) {
  json answer;
  const json search{{"experiment_ids", json::array({experiment})},
                    {"filter", "tags.`wattle.run_key` = '" +
                                   start.at("tags")[0].at("value").get<std::string>() + "'"},
                    {"max_results", 1}};
  if (!request("runs/search", search, answer)) return false;
  if (answer.contains("runs") && !answer["runs"].empty())
    run_id_ = answer["runs"][0].at("info").at("run_id").get<std::string>();
  return true;
}

bool MlflowDelivery::ensure_run() {
  if (!run_id_.empty()) return true;
  const json& start = spool_.lines().at(0).at("start");
  std::string experiment;
  if (!find_experiment(experiment) || !find_run(experiment, start)) return false;
  if (!run_id_.empty()) return true;
  json answer;
  if (!request("runs/create",
               {{"experiment_id", experiment},
                {"run_name", start.at("name")},
                {"start_time", start.at("time")},
                {"tags", start.at("tags")}},
               answer))
    return false;
  run_id_ = answer.at("run").at("info").at("run_id").get<std::string>();
  return true;
}

bool MlflowDelivery::drop_what_arrived(json& batch) {
  if (!batch.contains("metrics")) return true;
  using Point = std::tuple<std::string, int64_t, int64_t>;
  std::set<std::string> keys;
  std::set<Point> there;
  for (const json& m : batch["metrics"]) keys.insert(m.at("key").get<std::string>());
  for (const std::string& key : keys) {
    std::string page;
    do {
      json answer;
      if (!request("metrics/get-history?run_id=" + run_id_ + "&metric_key=" + url_encoded(key) +
                       "&max_results=10000" +
                       (page.empty() ? "" : "&page_token=" + url_encoded(page)),
                   {}, answer, true))
        return false;
      if (answer.contains("metrics"))
        for (const json& m : answer["metrics"])
          there.insert({key, integer(m.at("step")), integer(m.at("timestamp"))});
      page = answer.value("next_page_token", "");
    } while (!page.empty());
  }
  json left = json::array();
  for (const json& m : batch["metrics"])
    if (!there.count(
            {m.at("key").get<std::string>(), integer(m.at("step")), integer(m.at("timestamp"))}))
      left.push_back(m);
  batch["metrics"] = left;
  return true;
}

bool MlflowDelivery::send(const json& line) {
  json answer;
  if (line.contains("start")) return ensure_run();
  if (!ensure_run()) return false;
  if (line.contains("end"))
    return request("runs/update",
                   {{"run_id", run_id_},
                    {"status", line["end"].at("status")},
                    {"end_time", line["end"].at("time")}},
                   answer);
  json batch = line.at("batch");
  if (spool_.done() < uncertain_before_ && !drop_what_arrived(batch)) return false;
  batch["run_id"] = run_id_;
  return request("runs/log-batch", batch, answer);
}

bool MlflowDelivery::deliver() {
  while (spool_.pending() > 0) {
    if (!send(spool_.lines()[spool_.done()])) return false;
    spool_.mark_done(spool_.done() + 1);
  }
  error_.clear();
  return true;
}

}  // namespace wattle::green
