#include "green/experiment.h"

#include <cmath>
#include <set>

#include "core/error.h"
#include "core/rng.h"

namespace wattle::green {
namespace {

// Streams of random numbers drawn from one seed.
enum Stream : uint64_t { shuffle_stream, seed_stream, warmup_order_stream, warmup_seed_stream };

uint64_t draw(uint64_t seed, Stream stream, uint64_t i) {
  const auto r = philox(seed, i, stream);
  return uint64_t{r[0]} << 32 | r[1];
}

// A random permutation of 0 .. n-1 (Fisher and Yates); the same for the same round.
std::vector<size_t> permutation(size_t n, uint64_t seed, Stream stream, uint64_t round) {
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  for (size_t i = n; i > 1; --i) {
    // modulo: biased by less than n / 2^64
    std::swap(order[i - 1], order[draw(seed, stream, round * n + i - 1) % i]);
  }
  return order;
}

void check(const Experiment& e) {
  if (e.variants.empty()) throw value_error("experiment: found no variant, expected at least one");
  std::set<std::string> names;
  for (const auto& v : e.variants) {
    if (v.name.empty() || !names.insert(v.name).second) {
      throw value_error(str("experiment: found the variant name '", v.name, "'",
                            v.name.empty() ? "" : " twice", ", expected one name for each"));
    }
  }
  const ExperimentOptions& o = e.options;
  if (o.repetitions < 1 || o.warmup < 0 || !(o.rest_s >= 0) || !std::isfinite(o.rest_s)) {
    throw value_error(str("experiment: found ", o.repetitions, " repetitions, ", o.warmup,
                          " warm-up runs and ", o.rest_s,
                          " s of rest, expected at least 1, 0 and 0"));
  }
}

void check_result(const RunResult& r) {
  std::set<std::string> names = {"joules", "seconds"};
  for (const auto& [value, v] : r.values) {
    if (value.empty() || !names.insert(value).second) {
      throw value_error(str("experiment: a run gives a value named '", value,
                            "', expected a name of its own, not joules or seconds"));
    }
  }
}

// Rests before every run but the first of the session.
class Runner {
 public:
  explicit Runner(const Experiment& e, ExperimentHost& host) : e_(e), host_(host) {}
  bool rest() {
    if (started_ && e_.options.rest_s > 0 && !host_.stop()) host_.sleep_s(e_.options.rest_s);
    started_ = true;
    return !host_.stop();
  }

 private:
  const Experiment& e_;
  ExperimentHost& host_;
  bool started_ = false;
};

}  // namespace

std::string_view name(OutlierRule r) { return r == OutlierRule::none ? "none" : "three_sigma"; }

OutlierRule outlier_rule_from_name(std::string_view s) {
  for (const OutlierRule r : {OutlierRule::none, OutlierRule::three_sigma}) {
    if (s == name(r)) return r;
  }
  throw value_error(str("outlier rule: found '", s, "', expected none or three_sigma"));
}

std::vector<PlannedRun> plan_runs(size_t variants, const ExperimentOptions& options) {
  std::vector<PlannedRun> plan;
  for (int round = 0; round < options.repetitions; ++round) {
    const auto order =
        permutation(variants, options.seed, shuffle_stream, static_cast<uint64_t>(round));
    for (const size_t v : order) {
      plan.push_back({round, v, draw(options.seed, seed_stream, plan.size())});
    }
  }
  return plan;
}

Experiment new_experiment(const std::vector<Variant>& variants, const ExperimentOptions& options) {
  Experiment e;
  e.options = options;
  for (const Variant& v : variants) e.variants.push_back({v.name, v.what});
  check(e);
  return e;
}

void check_samples(const Experiment& e) {
  check(e);
  const auto plan = plan_runs(e.variants.size(), e.options);
  if (e.samples.size() > plan.size()) {
    throw value_error(
        str("experiment: found ", e.samples.size(), " samples, expected at most ", plan.size()));
  }
  for (size_t i = 0; i < e.samples.size(); ++i) {
    const Sample& s = e.samples[i];
    if (s.order == static_cast<int>(i) && s.round == plan[i].round &&
        s.variant == plan[i].variant && s.seed == plan[i].seed)
      continue;
    const std::string found =
        s.variant < e.variants.size() ? e.variants[s.variant].name : str("number ", s.variant);
    throw value_error(str("experiment: sample ", i, " is run ", s.order, " of variant ", found,
                          " with seed ", s.seed, ", expected run ", i, " of variant ",
                          e.variants[plan[i].variant].name, " with seed ", plan[i].seed,
                          ": the samples belong to another experiment"));
  }
}

void require_same_plan(const Experiment& before, const Experiment& now) {
  const auto differ = [](const std::string& what, const std::string& was, const std::string& is) {
    throw value_error(str("experiment: cannot continue: ", what, " was ", was, " before and is ",
                          is, " now; expected the same, or another folder"));
  };
  const ExperimentOptions &a = before.options, &b = now.options;
  const auto number = [&](const char* what, auto was, auto is) {
    if (was != is) differ(what, str(was), str(is));
  };
  number("the number of variants", before.variants.size(), now.variants.size());
  for (size_t i = 0; i < before.variants.size(); ++i) {
    const auto &was = before.variants[i], &is = now.variants[i];
    if (was.name != is.name) differ(str("the name of variant ", i + 1), was.name, is.name);
    if (was.what != is.what) differ(str("variant ", was.name), was.what, is.what);
  }
  number("repetitions", a.repetitions, b.repetitions);
  number("warm-up", a.warmup, b.warmup);
  number("rest", a.rest_s, b.rest_s);
  number("seed", a.seed, b.seed);
  number("the outlier rule", std::string(name(a.outliers)), std::string(name(b.outliers)));
}

bool run_experiment(Experiment& e, const std::vector<Variant>& variants, ExperimentHost& host) {
  require_same_plan(e, new_experiment(variants, e.options));
  check_samples(e);
  if (e.complete()) return true;
  Runner runner(e, host);
  for (int round = 0; round < e.options.warmup; ++round) {
    const auto order = permutation(variants.size(), e.options.seed, warmup_order_stream,
                                   static_cast<uint64_t>(round));
    for (const size_t v : order) {
      if (!runner.rest()) return false;
      variants[v].work->run(draw(e.options.seed, warmup_seed_stream, static_cast<uint64_t>(round)));
    }
  }
  const auto plan = plan_runs(variants.size(), e.options);
  while (e.samples.size() < plan.size()) {
    if (!runner.rest()) return false;
    const PlannedRun& p = plan[e.samples.size()];
    Sample s;
    s.order = static_cast<int>(e.samples.size()), s.round = p.round, s.variant = p.variant;
    s.seed = p.seed, s.start_s = host.now_s(), s.temperature_c = host.temperature_c();
    s.result = variants[p.variant].work->run(p.seed);
    check_result(s.result);
    e.samples.push_back(std::move(s));
    host.sample_taken(e);
  }
  return true;
}

}  // namespace wattle::green
