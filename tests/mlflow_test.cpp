// Tracking runs on an MLflow server that is well, away, dying, or refusing.
#include "green/mlflow.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/error.h"
#include "green/mlflow_study.h"
#include "tests/mlflow_stub.h"

namespace wattle::green {
namespace {

using wattle::testing::MlflowStub;

class Mlflow : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  MlflowOptions options() const {
    MlflowOptions o;
    o.url = stub.url();
    o.spool = folder_;
    o.timeout_s = 2;
    o.retry_s = 0;
    return o;
  }
  MlflowStub::Run only_run() {
    const auto runs = stub.runs();
    EXPECT_EQ(runs.size(), 1u);
    return runs.empty() ? MlflowStub::Run{} : runs.begin()->second;
  }
  // Steps 1..n of "loss" must be there once each.
  void expect_steps(int64_t n) {
    std::multiset<int64_t> steps;
    for (const auto& m : only_run().metrics)
      if (m.at("key") == "loss") steps.insert(m.at("step").get<int64_t>());
    ASSERT_EQ(static_cast<int64_t>(steps.size()), n);
    int64_t k = 0;
    for (const int64_t s : steps) EXPECT_EQ(s, ++k);
  }
  MlflowStub stub;
  const std::string folder_ =
      std::filesystem::temp_directory_path() / ("wattle_mlflow_" + std::to_string(::getpid()));
};

TEST_F(Mlflow, ARunFromStartToEnd) {
  std::map<std::string, std::string> params;
  for (int i = 0; i < 230; ++i) params["p" + std::to_string(i)] = std::to_string(i);
  {
    MlflowRun run(options(), "key-1", "my run", params, {{"a", "b"}});
    for (int64_t step = 1; step <= 2500; ++step) run.metric("loss", 1.0 / double(step), step);
    run.metric("bad", NAN, 1);
    run.metric("op:conv2d/..//x", 1, 1);
    EXPECT_EQ(run.left_out(), 1);
    run.finish();
    EXPECT_EQ(run.pending(), 0u);
    EXPECT_EQ(run.note(), "");
  }
  expect_steps(2500);
  const MlflowStub::Run r = only_run();
  EXPECT_EQ(r.params.size(), 230u);
  EXPECT_EQ(r.tags.at("a"), "b");
  EXPECT_EQ(r.name, "my run");
  EXPECT_EQ(r.status, "FINISHED");
  EXPECT_GT(r.end_time, 0);
  EXPECT_TRUE(stub.violations().empty()) << stub.violations()[0];
  EXPECT_TRUE(spooled_runs(folder_).empty());  // arrived as a whole
}

TEST_F(Mlflow, NobodyFinishedMeansFailed) {
  { MlflowRun run(options(), "k", "n", {}, {}); }
  EXPECT_EQ(only_run().status, "FAILED");
}

TEST_F(Mlflow, AwayFromTheStartAndDeliveredLater) {
  stub.away = true;
  {
    MlflowRun run(options(), "k", "n", {{"p", "1"}}, {});
    for (int64_t step = 1; step <= 10; ++step) run.metric("loss", double(step), step);
    run.finish();
    EXPECT_GT(run.pending(), 0u);
    EXPECT_NE(run.note().find("wattle mlflow deliver"), std::string::npos);
  }
  EXPECT_TRUE(stub.runs().empty());
  std::vector<std::string> report;
  EXPECT_GT(deliver_spool(options(), report), 0u);  // still away
  stub.away = false;
  report.clear();
  EXPECT_EQ(deliver_spool(options(), report), 0u) << report[0];
  expect_steps(10);
  EXPECT_EQ(only_run().status, "FINISHED");
  EXPECT_TRUE(spooled_runs(folder_).empty());
}

TEST_F(Mlflow, GoesAwayInTheMiddleAndComesBack) {
  MlflowRun run(options(), "k", "n", {}, {});
  for (int64_t step = 1; step <= 30; ++step) {
    stub.away = step > 10 && step <= 20;
    run.metric("loss", double(step), step);
    run.flush();
  }
  run.finish();
  EXPECT_EQ(run.pending(), 0u);
  expect_steps(30);
}

// The server did as told and its answer was lost: said again, it must not be there twice.
TEST_F(Mlflow, LostAnswersDoNotDouble) {
  MlflowRun run(options(), "k", "n", {{"p", "1"}}, {});
  for (int64_t step = 1; step <= 40; ++step) {
    if (step % 7 == 0) stub.lose_answers = 1 + static_cast<int>(step % 3);
    run.metric("loss", double(step), step);
    run.metric("other", double(step), step);
    run.flush();
  }
  run.finish();
  EXPECT_EQ(run.pending(), 0u);
  expect_steps(40);
  EXPECT_EQ(only_run().metrics.size(), 80u);
  EXPECT_TRUE(stub.violations().empty());
}

// The sender dies between the server's answer and its own mark, and its last line is cut.
TEST_F(Mlflow, ADeadSenderIsContinued) {
  {
    MlflowSpool spool(folder_, "k");
    spool.append({{"start",
                   {{"key", "k"},
                    {"name", "n"},
                    {"experiment", "e"},
                    {"time", 1},
                    {"tags", {{{"key", "wattle.run_key"}, {"value", "k"}}}}}}});
    nlohmann::json m = nlohmann::json::array();
    for (int64_t s = 1; s <= 5; ++s)
      m.push_back({{"key", "loss"}, {"value", s}, {"timestamp", 1000 + s}, {"step", s}});
    spool.append({{"batch", {{"metrics", m}}}});
    MlflowDelivery d(spool, options());
    EXPECT_TRUE(d.deliver());
  }
  const std::string path = folder_ + "/k.jsonl";
  std::ifstream in(path);
  std::string text, line;
  for (int i = 0; std::getline(in, line); ++i)
    if (line.find("\"done\"") == line.npos) text += line + "\n";
  std::ofstream(path) << text << "{\"batch\":{\"metr";
  std::vector<std::string> report;
  EXPECT_EQ(deliver_spool(options(), report), 0u);
  expect_steps(5);
}

TEST_F(Mlflow, OneProcessARun) {
  MlflowSpool first(folder_, "k");
  EXPECT_THROW(MlflowSpool(folder_, "k"), io_error);
}

TEST_F(Mlflow, ARefusalIsSaidAndStopsNothing) {
  {
    MlflowRun run(options(), "k", "n", {}, {});
    stub.fail_with = 400;
    run.metric("loss", 1, 1);
    run.flush();
    run.metric("loss", 2, 2);
    run.finish();
    EXPECT_NE(run.note().find("status 400 told to"), std::string::npos) << run.note();
  }
  stub.fail_with = 503;  // trouble, not refusal
  std::vector<std::string> report;
  EXPECT_GT(deliver_spool(options(), report), 0u);
  stub.fail_with = 0;
  EXPECT_EQ(deliver_spool(options(), report), 0u);
  expect_steps(2);
}

TEST_F(Mlflow, LimitsAndAddresses) {
  EXPECT_THROW(MlflowRun(options(), "k", "n", {{"long", std::string(6001, 'x')}}, {}), value_error);
  EXPECT_THROW(checked_mlflow_url("localhost:5000"), value_error);
  EXPECT_EQ(checked_mlflow_url("http://h:1//"), "http://h:1");
  EXPECT_EQ(mlflow_key("/a:b..c/d e"), "a_b.c/d e");
  EXPECT_EQ(mlflow_key(std::string(300, 'x')).size(), 250u);
}

TEST_F(Mlflow, EnergyOfALedger) {
  Ledger l;
  l.rows.push_back({.layer = "conv1", .phase = Phase::backward});
  l.rows[0].joules = l.joules = {1'500'000, 1, JouleKind::attributed, "powercap package-0"};
  l.ops.push_back({"conv2d", Phase::backward, l.joules});
  MlflowRun run(options(), "k", "n", {}, {});
  run.ledger(l, 3);
  run.finish();
  const MlflowStub::Run r = only_run();
  std::map<std::string, double> found;
  for (const auto& m : r.metrics) found[m.at("key")] = m.at("value");
  EXPECT_EQ(found.at("energy/total_j"), 1.5);
  EXPECT_EQ(found.at("energy/op/conv2d_backward_j"), 1.5);
  EXPECT_EQ(found.at("energy/layer/conv1_backward_j"), 1.5);
  EXPECT_EQ(r.tags.at("energy.tier"), "attributed");
  EXPECT_EQ(r.tags.at("energy.source"), "powercap package-0");
}

}  // namespace
}  // namespace wattle::green
