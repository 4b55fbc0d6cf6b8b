// Experiments for tests: workloads that make figures up, on a host without time.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "green/experiment_analysis.h"

namespace wattle::green {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// A host whose time passes only by sleeping and working.
struct FakeHost : ExperimentHost {
  double now = 1e9, celsius = 40;
  int stop_after = -1;  // samples
  std::vector<double> rests;
  size_t samples = 0, saved = 0;
  double now_s() override { return now; }
  void sleep_s(double s) override { now += s, rests.push_back(s); }
  double temperature_c() override { return celsius; }
  bool stop() override { return stop_after >= 0 && samples >= static_cast<size_t>(stop_after); }
  void sample_taken(const Experiment& e) override { saved = samples = e.samples.size(); }
};

inline Joules measured(double joules, JouleKind kind = JouleKind::measured) {
  return {static_cast<int64_t>(std::llround(joules * 1e6)), 1000, kind,
          kind == JouleKind::measured ? "powercap package-0" : "horowitz45"};
}

// Normal joules and seconds, made from the seed of the run alone.
inline RunResult noisy(uint64_t seed, double joules) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> noise(0, 1);
  const double j = joules + noise(rng);
  return {measured(j), j / 50 + 0.02 * noise(rng), {}};
}
inline Variant constant_power(const std::string& name, double joules) {
  return {name, "made up", workload([=](uint64_t seed) { return noisy(seed, joules); })};
}
inline std::vector<Variant> two(double a = 100, double b = 97) {
  return {constant_power("A", a), constant_power("B", b)};
}
inline Experiment finished(const std::vector<Variant>& v, ExperimentOptions o = {}) {
  FakeHost host;
  Experiment e = new_experiment(v, o);
  run_experiment(e, v, host);
  return e;
}

// An experiment whose joules are given, of one kind per variant.
inline Experiment with_joules(const std::vector<Vec>& joules,
                              const std::vector<JouleKind>& kinds = {}) {
  std::vector<Variant> v;
  for (size_t k = 0; k < joules.size(); ++k) {
    auto next = std::make_shared<size_t>(0);
    const JouleKind kind = kinds.empty() ? JouleKind::measured : kinds[k];
    v.push_back({std::string(1, static_cast<char>('A' + k)), "given",
                 workload([=, x = joules[k]](uint64_t) -> RunResult {
                   const double j = x[(*next)++];
                   if (std::isnan(j)) return {{}, 1, {}};
                   return {measured(j, kind), 1, {}};
                 })});
  }
  ExperimentOptions o;
  o.repetitions = static_cast<int>(joules[0].size()), o.warmup = 0;
  return finished(v, o);
}

inline const PairResult& only_pair(const ExperimentAnalysis& a, size_t quantity = 0) {
  return a.quantities.at(quantity).pairs.at(0);
}
inline bool mentions(const std::vector<std::string>& texts, const std::string& what) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& t) { return t.find(what) != std::string::npos; });
}

}  // namespace wattle::green
