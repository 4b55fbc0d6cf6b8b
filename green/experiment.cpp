#include "green/experiment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/rng.h"

namespace wattle::green {
namespace {

std::vector<std::string> names_of(const std::vector<Sample>& samples) {
  std::vector<std::string> names;
  for (const Sample& s : samples)
    if (std::find(names.begin(), names.end(), s.variant) == names.end()) names.push_back(s.variant);
  std::sort(names.begin(), names.end());
  return names;
}

std::string percent(double ratio) {
  char buf[32];
  std::snprintf(buf, sizeof buf, "%+.1f %%", 100 * (ratio - 1));
  return buf;
}

std::string number(double v, const char* format = "%.2g") {
  char buf[32];
  std::snprintf(buf, sizeof buf, format, v);
  return buf;
}

std::string sentence_of(const Comparison& c, const std::string& quantity, double alpha) {
  const std::string interval = str(percent(c.ratio.mid), " ", quantity, " (95 % interval ",
                                   percent(c.ratio.lo), " to ", percent(c.ratio.hi), ")");
  const std::string test =
      str(c.by_ranks ? "Mann-Whitney" : "Welch", ", Holm-corrected p = ", number(c.p_holm),
          ", d = ", number(c.d), " (", magnitude_of_d(c.d), "), A12 = ", number(c.a12, "%.2f"));
  if (std::isnan(c.p_holm)) return str(c.b, " against ", c.a, ": no test is possible");
  if (c.p_holm < alpha) return str(c.b, " takes ", interval, " against ", c.a, "; ", test);
  return str("No difference shown between ", c.b, " and ", c.a, ": ", interval, "; ", test);
}

Comparison compare(const Distribution& a, const Distribution& b) {
  Comparison c;
  c.a = a.variant;
  c.b = b.variant;
  c.welch = welch(b.values, a.values);
  c.ranks = mann_whitney(b.values, a.values);
  c.by_ranks = !a.normal() || !b.normal();
  c.p = c.by_ranks ? c.ranks.p : c.welch.p;
  c.d = cohens_d(b.values, a.values);
  c.a12 = a12(b.values, a.values);
  c.ratio = bootstrap_ratio(b.values, a.values, false);
  return c;
}

Distribution distribution(const std::string& variant, const Vec& all, const ExperimentOptions& o) {
  Distribution d;
  d.variant = variant;
  for (const size_t i : within_sigmas(all, o.outlier_sigmas)) d.values.push_back(all[i]);
  d.removed = static_cast<int>(all.size() - d.values.size());
  d.shapiro_p = shapiro_wilk(d.values).p;
  return d;
}

template <class F>
QuantityAnalysis analyse(const std::string& quantity, const std::string& unit,
                         const std::vector<Sample>& samples, const ExperimentOptions& o, F value) {
  QuantityAnalysis q;
  q.quantity = quantity;
  q.unit = unit;
  for (const std::string& name : names_of(samples)) {
    Vec all;
    for (const Sample& s : samples)
      if (s.variant == name) all.push_back(value(s));
    q.variants.push_back(distribution(name, all, o));
    const Distribution& d = q.variants.back();
    if (double(d.values.size()) < double(all.size()) * 25 / 30)
      q.warnings.push_back(str(name, ": ", d.removed, " of ", static_cast<int64_t>(all.size()),
                               " samples are outliers: find the cause before trusting the rest"));
    if (!d.normal() && !std::isnan(d.shapiro_p))
      q.warnings.push_back(str(name, ": not normally distributed (Shapiro-Wilk p = ",
                               number(d.shapiro_p), "), compared by ranks"));
  }
  return q;
}

void add_pairs(QuantityAnalysis& q, const ExperimentOptions& o) {
  Vec p;
  for (size_t i = 0; i < q.variants.size(); ++i)
    for (size_t j = i + 1; j < q.variants.size(); ++j) {
      q.pairs.push_back(compare(q.variants[i], q.variants[j]));
      p.push_back(q.pairs.back().p);
    }
  const Vec corrected = holm(p);
  for (size_t k = 0; k < q.pairs.size(); ++k) {
    q.pairs[k].p_holm = corrected[k];
    q.pairs[k].sentence = sentence_of(q.pairs[k], q.quantity, o.alpha);
  }
}

std::string refusal(const std::vector<Sample>& samples, const QuantityAnalysis& q) {
  std::set<std::string> kinds;
  for (const Sample& s : samples) {
    if (!s.joules.available())
      return str("the energy of ", s.variant, ", round ", s.round, " is not known");
    kinds.insert(std::string(energy::name(s.joules.kind)));
  }
  if (kinds.size() > 1)
    return str("kinds of joules differ (", *kinds.begin(), " and ", *kinds.rbegin(),
               "): they cannot be compared");
  const bool modelled = !kinds.empty() && kinds.begin()->starts_with("modelled");
  if (modelled && std::all_of(q.variants.begin(), q.variants.end(),
                              [](const Distribution& d) { return !(sd(d.values) > 0); }))
    return "joules are modelled and do not vary: repetitions of the same computation are no "
           "evidence";
  return {};
}

}  // namespace

std::vector<size_t> round_order(size_t variants, uint64_t seed, int round) {
  std::vector<size_t> order(variants);
  for (size_t i = 0; i < variants; ++i) order[i] = i;
  const uint64_t stream = static_cast<uint64_t>(round) * variants;
  for (size_t i = variants; i > 1; --i)
    std::swap(order[i - 1], order[static_cast<size_t>(below_at(seed, stream + i, i))]);
  return order;
}

void run_experiment(const std::vector<Variant>& variants, const ExperimentOptions& o,
                    const ExperimentWorld& world, std::vector<Sample>& samples) {
  if (variants.size() < 2 || o.repetitions < 2)
    throw value_error(str("experiment: found ", static_cast<int64_t>(variants.size()),
                          " variants and ", o.repetitions,
                          " repetitions, expected at least 2 of both"));
  const double begin = world.now_s();
  const auto perform = [&](size_t v, int round) {
    if (o.rest_s > 0) world.sleep_s(o.rest_s);
    Sample s;
    s.variant = variants[v].name;
    s.round = round;
    s.celsius = world.celsius();
    s.started_s = world.now_s() - begin;
    variants[v].run(s);
    return s;
  };
  const auto held = [&](const std::string& name, int round) {
    return std::any_of(samples.begin(), samples.end(),
                       [&](const Sample& s) { return s.variant == name && s.round == round; });
  };
  for (int w = 0; w < o.warmup; ++w)
    for (const size_t v : round_order(variants.size(), o.seed, -1 - w)) perform(v, -1 - w);
  for (int round = 0; round < o.repetitions; ++round)
    for (const size_t v : round_order(variants.size(), o.seed, round)) {
      if (held(variants[v].name, round)) continue;
      Sample s = perform(v, round);
      s.order = static_cast<int>(samples.size());
      samples.push_back(s);
      if (world.done) world.done(s);
    }
}

ExperimentAnalysis analyse_experiment(const std::vector<Sample>& samples,
                                      const ExperimentOptions& o) {
  ExperimentAnalysis a;
  a.seconds = analyse("seconds", "s", samples, o, [](const Sample& s) { return s.seconds; });
  add_pairs(a.seconds, o);
  a.joules = analyse("joules", "J", samples, o, [](const Sample& s) { return s.joules.joules(); });
  a.joules.refused = refusal(samples, a.joules);
  if (a.joules.refused.empty()) add_pairs(a.joules, o);
  else a.joules.warnings.clear();
  if (!samples.empty() && samples[0].joules.kind == JouleKind::tdp_estimate)
    a.joules.warnings.push_back(
        "joules are estimated from TDP and CPU time: they say what CPU time says, no more");
  a.energy_sentence = samples.empty() ? "Joules: no sample."
                      : !samples[0].joules.available()
                          ? "Joules: not available, nothing on this host measures them."
                          : str("Joules: ", samples[0].joules.origin(), ".");
  return a;
}

}  // namespace wattle::green
