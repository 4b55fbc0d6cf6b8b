// The Chrome trace of a training step, read by a validator that is stricter than the viewers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "energy/test_kit.h"
#include "green/chrome_trace.h"
#include "green/energy_session.h"
#include "green/prometheus.h"
#include "green/trainer.h"

namespace wattle::green {
namespace {

using json = nlohmann::json;

// Nanoseconds of a time in microseconds; -1 when it is none.
int64_t ns_of(const json& v) {
  return v.is_number() && v.get<double>() >= 0 ? std::llround(v.get<double>() * 1000) : -1;
}

std::string check_event(const json& e) {
  for (const char* key : {"name", "ph", "pid", "tid"})
    if (!e.contains(key)) return std::string(key) + " is missing";
  if (!e["name"].is_string() || !e["ph"].is_string()) return "name or ph is no string";
  if (!e["pid"].is_number_integer() || !e["tid"].is_number_integer())
    return "pid or tid is no number";
  if (e["ph"] == "M") return "";
  if (e["ph"] == "C") {
    for (const json& v : e["args"])
      if (!v.is_number()) return "a counter is no number";
    return e["args"].empty() || ns_of(e.value("ts", json())) < 0 ? "a counter without value or time"
                                                                 : "";
  }
  if (e["ph"] != "X") return "phase " + e["ph"].get<std::string>() + " is not expected";
  if (ns_of(e.value("ts", json())) < 0 || ns_of(e.value("dur", json())) < 0)
    return "ts or dur is no number >= 0";
  if (e.value("cat", "") != "op") return "";
  const json& args = e.value("args", json::object());
  for (const char* key : {"uj"})
    if (!args.contains(key) || !args[key].is_number_integer()) return "uj is no integer";
  return args.contains("kind") && args["kind"].is_string() ? "" : "kind is missing";
}

// X events of one thread must lie inside one another or apart, never cross.
std::string check_nesting(const json& events) {
  struct Span {
    int64_t begin, end;
  };
  std::vector<Span> spans;
  for (const json& e : events)
    if (e["ph"] == "X") spans.push_back({ns_of(e["ts"]), ns_of(e["ts"]) + ns_of(e["dur"])});
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  std::vector<Span> open;
  for (const Span& s : spans) {
    while (!open.empty() && open.back().end <= s.begin) open.pop_back();
    if (!open.empty() && s.end > open.back().end) return "events cross";
    open.push_back(s);
  }
  return "";
}

// "" or what is wrong with the trace.
std::string validate(const std::string& text) {
  const json j = json::parse(text, nullptr, false);
  if (j.is_discarded()) return "no JSON";
  if (!j.is_object() || !j.contains("traceEvents") || !j["traceEvents"].is_array())
    return "no traceEvents";
  int64_t uj = 0;
  for (const json& e : j["traceEvents"]) {
    if (const std::string bad = check_event(e); !bad.empty()) return bad;
    if (e.value("cat", "") == "op") uj += e["args"]["uj"].get<int64_t>();
  }
  if (const std::string bad = check_nesting(j["traceEvents"]); !bad.empty()) return bad;
  if (uj != j["otherData"].value("total_uj", int64_t{-1})) return "microjoules do not sum up";
  return "";
}

struct Step {
  std::vector<TimedCall> calls;
  int64_t begin_ns = 0;
  Ledger ledger;
};

Step real_step() {
  manual_seed(1);
  const auto net = make_net({"cnn", 3, 1}, image_spec("fashion-mnist"));
  const auto opt = nn::make_optimizer("adam", net->named_parameters(), 1e-3);
  const Tensor x = Tensor::zeros({16, 1, 28, 28}, DType::u8), y = Tensor::zeros({16}, DType::i64);
  counters() = Counters();
  Step s;
  {
    Timeline t;
    train_step(*net, *opt, x, y);
    s.calls = t.calls();
    s.begin_ns = t.begin_ns();
  }
  s.ledger = make_ledger(counters(), module_kinds(*net));
  return s;
}

TEST(Trace, OfARealStepIsValidAndSumsToTheStep) {
  const Step s = real_step();
  const std::string text = chrome_trace_json(s.calls, s.begin_ns, {}, "step");
  EXPECT_EQ(validate(text), "");
  const json j = json::parse(text);
  EXPECT_EQ(j["otherData"]["total_uj"].get<int64_t>(), s.ledger.joules.uj);
  EXPECT_EQ(j["otherData"]["kind"], "modelled_table");
  int64_t flop = 0, bytes = 0, ops = 0;
  std::set<std::string> phases;
  for (const json& e : j["traceEvents"]) {
    if (e.value("cat", "") == "phase") phases.insert(e["name"]);
    if (e.value("cat", "") != "op") continue;
    flop += e["args"]["flop"].get<int64_t>();
    bytes += e["args"]["bytes"].get<int64_t>();
    ++ops;
  }
  EXPECT_EQ(flop, s.ledger.cost.flops());
  EXPECT_EQ(bytes, s.ledger.cost.bytes());
  EXPECT_EQ(ops, s.ledger.calls);
  EXPECT_EQ(phases, (std::set<std::string>{"backward", "data", "forward", "optimizer"}));
  EXPECT_EQ(counters().timeline, nullptr);
}

TEST(Trace, OfAMeasuredStepHoldsWhatIsUnattributed) {
  const Step s = real_step();
  energy::WindowResult window;
  window.seconds = 1;
  window.gross = {1'234'567, 10, JouleKind::measured, "fake"};
  JouleBasis basis;
  basis.window = &window;
  basis.idle = {true, 0.5, 0.01, 5};
  const std::string text = chrome_trace_json(s.calls, s.begin_ns, basis, "step");
  EXPECT_EQ(validate(text), "");
  const json j = json::parse(text);
  EXPECT_EQ(j["otherData"]["total_uj"], 1'234'567);
  EXPECT_NE(text.find("(unattributed)"), std::string::npos);
}

TEST(Trace, SamplesOfAGpuAreCounters) {
  const Step s = real_step();
  const double unknown = NAN;
  const std::string text = chrome_trace_json(
      s.calls, s.begin_ns, {}, "step",
      {{s.begin_ns - 5000, 250, 1980, unknown, 55}, {s.begin_ns + 7000, unknown, 1980, 3201, 56}});
  EXPECT_EQ(validate(text), "");
  std::string found;
  const json trace = json::parse(text);
  for (const json& e : trace["traceEvents"])
    if (e["ph"] == "C")
      found += e["name"].get<std::string>() + e["args"].dump() + e["ts"].dump() + "\n";
  EXPECT_EQ(found,
            "GPU power{\"W\":250.0}0.0\nGPU clocks{\"SM MHz\":1980.0}0.0\n"
            "GPU temperature{\"C\":55.0}0.0\n"
            "GPU clocks{\"SM MHz\":1980.0,\"memory MHz\":3201.0}7.0\n"
            "GPU temperature{\"C\":56.0}7.0\n");
}

TEST(Trace, TheValidatorFindsPlantedFaults) {
  const Step s = real_step();
  const json good = json::parse(chrome_trace_json(s.calls, s.begin_ns, {}, "step"));
  const auto first = [](json& j, const char* category) -> json& {
    for (json& e : j["traceEvents"])
      if (e.value("cat", "") == category) return e;
    throw std::runtime_error("none");
  };
  json j = good;
  first(j, "op")["ts"] = "12";
  EXPECT_EQ(validate(j.dump()), "ts or dur is no number >= 0");
  j = good;
  first(j, "op")["args"]["uj"] = first(j, "op")["args"]["uj"].get<int64_t>() + 1;
  EXPECT_EQ(validate(j.dump()), "microjoules do not sum up");
  j = good;
  const auto forward = std::find_if(j["traceEvents"].begin(), j["traceEvents"].end(),
                                    [](const json& e) { return e["name"] == "forward"; });
  json& data = first(j, "phase");  // ends in the middle of what follows it
  data["dur"] = (*forward)["ts"].get<double>() + 1 - data["ts"].get<double>();
  EXPECT_EQ(validate(j.dump()), "events cross");
  j = good;
  first(j, "layer").erase("tid");
  EXPECT_EQ(validate(j.dump()), "tid is missing");
  EXPECT_EQ(validate(good.dump().substr(0, 1000)), "no JSON");
}

// ---- Prometheus ----

// One line of the exposition format; "" or what is wrong.
std::string check_line(const std::string& line) {
  if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) return "";
  const size_t brace = line.find('{');
  if (brace == line.npos || !line.starts_with("wattle_")) return "no metric name";
  size_t at = brace + 1;
  while (line[at] != '}') {
    const size_t eq = line.find("=\"", at);
    if (eq == line.npos) return "no label";
    for (size_t k = at; k < eq; ++k)
      if (!std::islower(static_cast<unsigned char>(line[k]))) return "bad label name";
    at = eq + 2;
    while (at < line.size() && line[at] != '"') at += line[at] == '\\' ? 2 : 1;
    if (at >= line.size()) return "open quote";
    ++at;
    if (line[at] == ',') ++at;
  }
  if (line[at + 1] != ' ') return "no blank before the value";
  size_t used = 0;
  const std::string value = line.substr(at + 2);
  return std::stod(value, &used) >= 0 && used == value.size() ? "" : "no number";
}

TEST(Prometheus, EveryLineIsWellFormedAndSumsAreThose) {
  const Step s = real_step();
  const std::string text = prometheus_text(s.ledger, 7, "a \"job\"\nwith \\");
  std::istringstream lines(text);
  double joules = 0;
  int64_t flops = 0, samples = 0;
  for (std::string line; std::getline(lines, line); ++samples) {
    EXPECT_EQ(check_line(line), "") << line;
    const double value = line[0] == '#' ? 0 : std::stod(line.substr(line.rfind(' ')));
    if (line.starts_with("wattle_energy_joules_total{")) {
      joules += value;
      EXPECT_NE(line.find("kind=\"modelled_table\""), std::string::npos);
    }
    if (line.starts_with("wattle_flops_total{")) flops += static_cast<int64_t>(value);
  }
  EXPECT_NEAR(joules, s.ledger.joules.joules(), 1e-9);
  EXPECT_EQ(flops, s.ledger.cost.flops());
  EXPECT_GT(samples, 50);
  EXPECT_NE(text.find("job=\"a \\\"job\\\"\\nwith \\\\\""), std::string::npos);
  EXPECT_TRUE(text.ends_with("} 7\n"));
}

TEST(Prometheus, TheCheckFindsPlantedFaults) {
  EXPECT_NE(check_line("wattle_x{job=\"a\"}5"), "");
  EXPECT_NE(check_line("wattle_x{job=\"a} 5"), "");
  EXPECT_NE(check_line("wattle_x 5"), "");
  EXPECT_NE(check_line("wattle_x{Job=\"a\"} 5"), "");
}

TEST(Prometheus, UnavailableJoulesHaveNoLine) {
  Ledger l;
  l.rows.push_back({.layer = "x"});
  EXPECT_EQ(prometheus_text(l, 1, "j").find("wattle_energy_joules_total{"), std::string::npos);
}

}  // namespace
}  // namespace wattle::green
