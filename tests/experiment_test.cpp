// The protocol of an experiment on a fake clock: order, warm-up, rests, interruption.
#include "green/experiment.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "core/error.h"
#include "green/experiment_files.h"
#include "green/experiment_host.h"
#include "tests/experiment_samples.h"

namespace wattle::green {
namespace {

TEST(Plan, EveryRoundIsAPermutation) {
  ExperimentOptions o;
  o.repetitions = 40;
  for (const size_t variants : {size_t{1}, size_t{2}, size_t{5}}) {
    const auto plan = plan_runs(variants, o);
    ASSERT_EQ(plan.size(), variants * 40);
    std::set<uint64_t> seeds;
    for (size_t round = 0; round < 40; ++round) {
      std::set<size_t> seen;
      for (size_t i = 0; i < variants; ++i) {
        const PlannedRun& p = plan[round * variants + i];
        EXPECT_EQ(p.round, static_cast<int>(round));
        EXPECT_LT(p.variant, variants);
        seen.insert(p.variant), seeds.insert(p.seed);
      }
      EXPECT_EQ(seen.size(), variants);
    }
    EXPECT_EQ(seeds.size(), plan.size()) << "every run has a seed of its own";
  }
}

TEST(Plan, DependsOnTheSeedAndEveryOrderOccurs) {
  const auto orders = [](uint64_t seed) {
    ExperimentOptions o;
    o.repetitions = 600, o.seed = seed;
    std::vector<std::array<size_t, 3>> rounds;
    const auto plan = plan_runs(3, o);
    for (size_t i = 0; i < plan.size(); i += 3) {
      rounds.push_back({plan[i].variant, plan[i + 1].variant, plan[i + 2].variant});
    }
    return rounds;
  };
  EXPECT_EQ(orders(7), orders(7));
  EXPECT_NE(orders(7), orders(8));
  std::map<std::array<size_t, 3>, int> counts;
  for (const auto& o : orders(7)) ++counts[o];
  EXPECT_EQ(counts.size(), 6u);
  for (const auto& [order, n] : counts) EXPECT_NEAR(n, 100, 45);  // 5 standard deviations
}

TEST(Protocol, WarmUpIsThrownAwayAndRestsLieBetweenRuns) {
  FakeHost host;
  std::vector<std::string> log;
  std::set<uint64_t> warm_seeds;
  std::vector<Variant> v;
  for (const char* name : {"A", "B"}) {
    v.push_back({name, "", workload([&, name](uint64_t seed) -> RunResult {
                   log.push_back(name), host.now += 2, host.celsius += 0.5;
                   if (log.size() <= 6) warm_seeds.insert(seed);
                   return {measured(1), 2, {}};
                 })});
  }
  ExperimentOptions o;
  o.repetitions = 4, o.warmup = 3, o.rest_s = 60;
  Experiment e = new_experiment(v, o);
  EXPECT_TRUE(run_experiment(e, v, host));
  EXPECT_EQ(log.size(), 14u);
  ASSERT_EQ(e.samples.size(), 8u);
  EXPECT_EQ(host.saved, 8u);
  EXPECT_EQ(host.rests, std::vector<double>(13, 60.0)) << "before every run but the first";
  for (size_t i = 0; i < 8; ++i) {
    const Sample& s = e.samples[i];
    EXPECT_EQ(s.order, static_cast<int>(i));
    EXPECT_EQ(s.round, static_cast<int>(i / 2));
    EXPECT_EQ(e.variants[s.variant].name, log[6 + i]);
    EXPECT_DOUBLE_EQ(s.start_s, 1e9 + 62.0 * static_cast<double>(6 + i));
    EXPECT_DOUBLE_EQ(s.temperature_c, 40 + 0.5 * static_cast<double>(6 + i));
    EXPECT_EQ(warm_seeds.count(s.seed), 0u);
  }
  EXPECT_TRUE(run_experiment(e, v, host)) << "nothing is left to do";
  EXPECT_EQ(log.size(), 14u);
}

TEST(Protocol, BadPlansAreRefused) {
  EXPECT_THROW(new_experiment({}, {}), value_error);
  EXPECT_THROW(new_experiment({constant_power("A", 1), constant_power("A", 2)}, {}), value_error);
  EXPECT_THROW(new_experiment({constant_power("", 1)}, {}), value_error);
  for (const ExperimentOptions& o : {ExperimentOptions{.repetitions = 0},
                                     ExperimentOptions{.warmup = -1},
                                     {.rest_s = nan},
                                     {.rest_s = -1}}) {
    EXPECT_THROW(new_experiment(two(), o), value_error);
  }
  EXPECT_THROW(outlier_rule_from_name("2 sigma"), value_error);
  const std::vector<Variant> clash = {{"A", "", workload([](uint64_t) {
                                         return RunResult{{}, 1, {{"seconds", 2}}};
                                       })}};
  EXPECT_THROW(finished(clash), value_error);
}

TEST(Protocol, FailingRunKeepsTheSamplesSoFar) {
  FakeHost host;
  int runs = 0;
  const std::vector<Variant> v = {constant_power("A", 1), {"B", "", workload([&](uint64_t seed) {
                                                             if (++runs == 4)
                                                               throw value_error("out of petrol");
                                                             return noisy(seed, 1);
                                                           })}};
  ExperimentOptions o;
  o.repetitions = 10, o.warmup = 0;
  Experiment e = new_experiment(v, o);
  EXPECT_THROW(run_experiment(e, v, host), value_error);
  EXPECT_GE(e.samples.size(), 6u);
  EXPECT_LE(e.samples.size(), 7u);
  EXPECT_EQ(host.saved, e.samples.size());
  check_samples(e);
}

TEST(Protocol, InterruptedExperimentContinuesAsIfItHadNotBeen) {
  const auto v = two();
  const Experiment whole = finished(v);
  FakeHost host;
  host.stop_after = 17;
  Experiment e = new_experiment(v, {});
  EXPECT_FALSE(run_experiment(e, v, host));
  ASSERT_EQ(e.samples.size(), 17u);
  EXPECT_FALSE(e.complete());
  EXPECT_TRUE(mentions(analyse(e).warnings, "17 of 60 runs"));

  Experiment again = new_experiment(v, {});
  read_samples_csv(again, samples_csv(e));
  FakeHost later;
  EXPECT_TRUE(run_experiment(again, v, later));
  EXPECT_EQ(later.rests.size(), 2u + 43u - 1u) << "warm-up again, then what was missing";
  ASSERT_EQ(again.samples.size(), 60u);
  for (size_t i = 0; i < 60; ++i) {
    EXPECT_EQ(again.samples[i].variant, whole.samples[i].variant);
    EXPECT_EQ(again.samples[i].seed, whole.samples[i].seed);
    EXPECT_EQ(again.samples[i].result.energy, whole.samples[i].result.energy);
  }
}

TEST(Protocol, OnlyTheSameExperimentIsContinued) {
  const Experiment e = finished(two());
  const auto differs = [&](auto change) {
    Experiment now = new_experiment(two(), {});
    change(now);
    try {
      require_same_plan(e, now);
    } catch (const value_error& error) { return std::string(error.what()); }
    return std::string();
  };
  EXPECT_EQ(differs([](Experiment&) {}), "");
  EXPECT_NE(differs([](Experiment& n) { n.options.repetitions = 40; }).find("repetitions was 30"),
            std::string::npos);
  EXPECT_NE(differs([](Experiment& n) { n.options.seed = 2; }), "");
  EXPECT_NE(differs([](Experiment& n) { n.options.warmup = 2; }), "");
  EXPECT_NE(differs([](Experiment& n) { n.options.rest_s = 2; }), "");
  EXPECT_NE(differs([](Experiment& n) { n.options.outliers = OutlierRule::none; }), "");
  EXPECT_NE(differs([](Experiment& n) { n.variants[1].what = "another command"; }), "");
  EXPECT_NE(differs([](Experiment& n) { n.variants.pop_back(); }), "");

  Experiment other = new_experiment(two(), {.seed = 2});
  EXPECT_THROW(read_samples_csv(other, samples_csv(e)), value_error);
  EXPECT_TRUE(other.samples.empty() || other.samples.size() == 60);
  Experiment swapped = e;
  std::swap(swapped.samples[3], swapped.samples[4]);
  EXPECT_THROW(check_samples(swapped), value_error);
}

TEST(Host, TemperatureFromTheProcessorsSensor) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / "experiment_host";
  fs::remove_all(root);
  const auto write = [&](const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text << "\n";
  };
  EXPECT_TRUE(std::isnan(processor_celsius(root))) << "no sensor: not known, not 0";
  EXPECT_TRUE(host_settings(root).empty());
  write("sys/class/thermal/thermal_zone0/type", "acpitz");
  write("sys/class/thermal/thermal_zone0/temp", "27800");
  EXPECT_TRUE(std::isnan(processor_celsius(root))) << "the case is not the processor";
  write("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp");
  write("sys/class/thermal/thermal_zone1/temp", "51000");
  EXPECT_EQ(processor_celsius(root), 51);
  write("sys/class/hwmon/hwmon0/name", "nvme");
  write("sys/class/hwmon/hwmon0/temp1_input", "33000");
  write("sys/class/hwmon/hwmon1/name", "coretemp");
  write("sys/class/hwmon/hwmon1/temp1_input", "garbage");
  EXPECT_EQ(processor_celsius(root), 51) << "an unreadable sensor is passed over";
  write("sys/class/hwmon/hwmon1/temp1_input", "48250");
  EXPECT_EQ(processor_celsius(root), 48.25);
  write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave");
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz");
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"processor", "Some CPU @ 2 GHz"}, {"governor", "powersave"}};
  EXPECT_EQ(host_settings(root), expected);
  fs::remove_all(root);
}

TEST(Host, SleepEndsWhenTheExperimentIsStopped) {
  struct Stopped : RealHost {
    int asked = 0;
    bool stop() override { return ++asked > 1; }
  } host;
  host.sleep_s(1e6);  // would outlast the test's time limit
  EXPECT_EQ(host.asked, 2);
  EXPECT_GT(host.now_s(), 1.6e9);
}

}  // namespace
}  // namespace wattle::green
