// An MLflow server of the smallest kind on 127.0.0.1: it keeps runs in memory, checks every body
// against the limits of the REST interface, and can be away or lose its answers.
#pragma once
#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/loopback_http.h"

namespace wattle::testing {

class MlflowStub {
 public:
  using json = nlohmann::json;
  struct Run {
    std::string key, name, status = "RUNNING";
    std::map<std::string, std::string> params, tags;
    std::vector<json> metrics;
    int64_t end_time = 0;
  };

  MlflowStub() {
    listener_ = listen_on_loopback(&port_);
    thread_ = std::thread([this] { serve(); });
  }
  ~MlflowStub() {
    stop_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  std::atomic<bool> away{false};     ///< connections are closed at once
  std::atomic<int> lose_answers{0};  ///< so many requests are done but not answered
  std::atomic<int> fail_with{0};     ///< status of every answer, 0 = none

  std::map<std::string, Run> runs() {
    const std::lock_guard hold(lock_);
    return runs_;
  }
  std::vector<std::string> violations() {
    const std::lock_guard hold(lock_);
    return violations_;
  }
  std::vector<std::string> requests() {
    const std::lock_guard hold(lock_);
    return requests_;
  }

 private:
  void serve() {
    while (!stop_) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) continue;
      if (!away) answer(fd);
      ::close(fd);
    }
  }

  void answer(int fd) {
    std::string text;
    char buf[65536];
    size_t head = text.npos, length = 0;
    while (head == text.npos || text.size() < head + 4 + length) {
      const ssize_t n = ::recv(fd, buf, sizeof buf, 0);
      if (n <= 0) return;
      text.append(buf, static_cast<size_t>(n));
      head = text.find("\r\n\r\n");
      const size_t at = text.find("Content-Length: ");
      length = at < head && head != text.npos ? std::stoul(text.substr(at + 16)) : 0;
    }
    const std::string target = text.substr(text.find(' ') + 1);
    const std::string path = target.substr(0, target.find(' '));
    const std::string body = text.substr(head + 4, length);
    int status = 200;
    std::string out;
    {
      const std::lock_guard hold(lock_);
      requests_.push_back(path);
      if (fail_with != 0) status = fail_with, out = R"({"error_code":"X","message":"told to"})";
      else out = handle(path, body, status).dump();
    }
    if (lose_answers > 0 && path.find("log-batch") != path.npos) {
      --lose_answers;
      return;
    }
    const std::string reply = "HTTP/1.1 " + std::to_string(status) +
                              " X\r\nContent-Length: " + std::to_string(out.size()) +
                              "\r\nConnection: close\r\n\r\n" + out;
    (void)!::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
  }

  void require(bool good, const std::string& what) {
    if (!good) violations_.push_back(what);
  }
  bool good_key(const std::string& k) {
    for (const char c : k)
      if (!std::isalnum(static_cast<unsigned char>(c)) &&
          std::string("/_.- ").find(c) == std::string::npos)
        return false;
    return !k.empty() && k.size() <= 250 && k[0] != '/' && k.find("..") == k.npos;
  }
  static std::string parameter(const std::string& path, const std::string& key) {
    const size_t at = path.find(key + "=");
    if (at == path.npos) return "";
    std::string out;
    for (size_t i = at + key.size() + 1; i < path.size() && path[i] != '&'; ++i) {
      if (path[i] == '%')
        out += static_cast<char>(std::stoi(path.substr(i + 1, 2), nullptr, 16)), i += 2;
      else out += path[i];
    }
    return out;
  }

  json handle(const std::string& path, const std::string& body, int& status) {
    const json j = body.empty() ? json::object() : json::parse(body, nullptr, false);
    require(!j.is_discarded(), "a body is no JSON");
    if (path.find("experiments/get-by-name") != path.npos) {
      if (experiment_ == parameter(path, "experiment_name"))
        return {{"experiment", {{"experiment_id", "7"}}}};
      status = 404;
      return {{"error_code", "RESOURCE_DOES_NOT_EXIST"}};
    }
    if (path.ends_with("experiments/create")) {
      experiment_ = j.at("name");
      return {{"experiment_id", "7"}};
    }
    if (path.ends_with("runs/search")) return search(j);
    if (path.ends_with("runs/create")) return create(j);
    if (path.ends_with("runs/log-batch")) return batch(j, body.size());
    if (path.ends_with("runs/update")) {
      Run& r = runs_.at(j.at("run_id"));
      r.status = j.at("status");
      r.end_time = j.at("end_time");
      return json::object();
    }
    if (path.find("metrics/get-history") != path.npos) return history(path);
    require(false, "unknown request " + path);
    status = 404;
    return json::object();
  }

  json search(const json& j) {
    const std::string filter = j.at("filter");
    json found = json::array();
    for (const auto& [id, r] : runs_)
      if (filter == "tags.`wattle.run_key` = '" + r.key + "'")
        found.push_back({{"info", {{"run_id", id}}}});
    return {{"runs", found}};
  }
  json create(const json& j) {
    Run r;
    require(j.at("experiment_id") == "7", "wrong experiment");
    require(j.at("start_time").is_number_integer(), "start_time is no integer");
    r.name = j.at("run_name");
    for (const json& t : j.at("tags")) r.tags[t.at("key")] = t.at("value");
    r.key = r.tags["wattle.run_key"];
    const std::string id = "run" + std::to_string(runs_.size());
    runs_[id] = r;
    return {{"run", {{"info", {{"run_id", id}}}}}};
  }
  json batch(const json& j, size_t bytes) {
    Run& r = runs_.at(j.at("run_id"));
    const json metrics = j.value("metrics", json::array()),
               params = j.value("params", json::array()), tags = j.value("tags", json::array());
    require(metrics.size() <= 1000 && params.size() <= 100 && tags.size() <= 100 &&
                metrics.size() + params.size() + tags.size() <= 1000 && bytes <= 1000000,
            "a batch is too large");
    for (const json& m : metrics) {
      require(good_key(m.at("key")), "bad key " + m.at("key").get<std::string>());
      require(m.at("value").is_number() && m.at("timestamp").is_number_integer() &&
                  m.at("step").is_number_integer(),
              "a metric's fields");
      r.metrics.push_back(m);
    }
    for (const json& p : params) {
      const std::string key = p.at("key"), value = p.at("value");
      require(good_key(key) && value.size() <= 6000, "bad parameter " + key);
      require(!r.params.count(key) || r.params[key] == value, "a parameter changed");
      r.params[key] = value;
    }
    for (const json& t : tags) r.tags[t.at("key")] = t.at("value");
    return json::object();
  }
  json history(const std::string& path) {
    json out = json::array();
    for (const json& m : runs_.at(parameter(path, "run_id")).metrics)
      if (m.at("key") == parameter(path, "metric_key")) out.push_back(m);
    return {{"metrics", out}};
  }

  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
  std::mutex lock_;
  std::string experiment_;
  std::map<std::string, Run> runs_;
  std::vector<std::string> violations_, requests_;
};

}  // namespace wattle::testing
