#include "green/experiment_analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "green/report_text.h"

namespace wattle::green {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr int advised_repetitions = 30;

double value_of(const RunResult& r, const std::string& quantity) {
  if (quantity == "joules") return r.energy.joules();
  if (quantity == "seconds") return r.seconds;
  for (const auto& [name, v] : r.values) {
    if (name == quantity) return v;
  }
  return nan;
}

std::vector<VariantSummary> collect(const Experiment& e, const std::string& quantity) {
  std::vector<VariantSummary> out(e.variants.size());
  for (size_t i = 0; i < out.size(); ++i) out[i].name = e.variants[i].name;
  for (const Sample& s : e.samples) {
    VariantSummary& v = out.at(s.variant);
    const double x = value_of(s.result, quantity);
    if (std::isfinite(x)) v.values.push_back(x), v.order.push_back(s.order);
    else ++v.missing;
  }
  return out;
}

// Joules of two kinds are no sample of one quantity. Different sources are only warned about: a
// calibration may have been renamed, but the reader has to know.
void check_kinds(const Experiment& e, Quantity& q) {
  std::set<std::string> sources;
  const Joules* first = nullptr;
  size_t first_variant = 0;
  for (const Sample& s : e.samples) {
    const Joules& j = s.result.energy;
    if (!j.available()) continue;
    if (!first) first = &j, first_variant = s.variant;
    if (j.kind != first->kind) {
      throw value_error(str("experiment: joules of ", e.variants[first_variant].name, " are ",
                            first->origin(), " and joules of ", e.variants[s.variant].name, " are ",
                            j.origin(), "; expected one kind, these are not compared"));
    }
    sources.insert(j.source);
  }
  if (!first) return;
  q.kind = first->kind, q.origin = first->origin();
  if (sources.size() < 2) return;
  std::string all;
  for (const std::string& s : sources) all += (all.empty() ? "" : "; ") + s;
  q.origin = str(energy::word(q.kind), ", several sources");
  q.warnings.push_back(str("Joules come from different sources (", all,
                           "): a difference may be one between sources."));
}

void summarise(VariantSummary& v) {
  v.kept.clear();
  for (size_t i = 0; i < v.values.size(); ++i) {
    if (v.keep[i]) v.kept.push_back(v.values[i]);
  }
  v.mean = mean(v.kept), v.sd = sd(v.kept);
  v.median = v.kept.empty() ? nan : quantile(v.kept, 0.5);
  v.normality = shapiro_wilk(v.kept);
}

// All variants or none: cutting one sample alone would move its mean against the others'.
void apply_outlier_rule(Quantity& q, OutlierRule rule) {
  bool all_normal = true;
  for (VariantSummary& v : q.variants) {
    v.keep.assign(v.values.size(), true);
    v.normality_all = shapiro_wilk(v.values);
    all_normal = all_normal && !(v.normality_all.p <= significance);
  }
  q.outliers_removed = rule == OutlierRule::three_sigma && !all_normal;
  for (VariantSummary& v : q.variants) {
    if (q.outliers_removed) v.keep = within_three_sigma(v.values);
    summarise(v);
    v.drift = spearman_test(Vec(v.order.begin(), v.order.end()), v.values);
  }
}

PairResult compare(const Quantity& q, size_t a, size_t b, uint64_t seed) {
  const VariantSummary &va = q.variants[a], &vb = q.variants[b];
  const Vec &x = va.kept, &y = vb.kept;
  PairResult p;
  p.a = a, p.b = b;
  p.welch = welch_t(x, y), p.mann_whitney = mann_whitney(x, y);
  const bool normal = va.normal() && vb.normal(), still = va.constant() && vb.constant();
  p.test = still || x.empty() || y.empty() ? "none" : normal ? "Welch" : "Mann-Whitney";
  p.p = p.test == "none" ? nan : normal ? p.welch.p : p.mann_whitney.p;
  p.difference = va.mean - vb.mean;
  p.ratio = bootstrap_ratio(x, y, false, 2000, 1 - significance, seed);
  p.d = cohens_d(x, y), p.g = hedges_g(x, y);
  p.a12 = vargha_delaney_a12(x, y), p.cliff = cliffs_delta(x, y);
  p.effect = normal ? d_magnitude(p.d) : cliff_magnitude(p.cliff);
  return p;
}

void compare_all(Quantity& q, uint64_t seed) {
  Vec p;
  for (size_t a = 0; a < q.variants.size(); ++a) {
    for (size_t b = a + 1; b < q.variants.size(); ++b) {
      q.pairs.push_back(compare(q, a, b, seed));
      p.push_back(q.pairs.back().p);
    }
  }
  const Vec corrected = holm(p);
  for (size_t i = 0; i < q.pairs.size(); ++i) {
    q.pairs[i].p_holm = corrected[i];
    q.pairs[i].significant = corrected[i] < significance;
    q.pairs[i].conclusion = conclusion_of(q, q.pairs[i], q.pairs.size());
  }
}

void warn(Quantity& q, int repetitions) {
  for (const VariantSummary& v : q.variants) {
    const auto add = [&](const std::string& text) {
      q.warnings.push_back(str(v.name, ", ", q.name, ": ", text));
    };
    const size_t all = v.values.size() + static_cast<size_t>(v.missing), kept = v.kept.size();
    if (v.missing) add(str(v.missing, " of ", all, " runs have no value."));
    if (6 * kept < 5 * all) {  // 25 of 30
      add(str("only ", kept, " of ", all,
              " runs are left, fewer than 25 of 30: find what disturbs them."));
    }
    if (v.normality.p <= significance) {
      add(str("the values are not normal (Shapiro-Wilk p = ", p_text(v.normality.p),
              q.outliers_removed ? ", after the outlier rule" : "",
              "): look for a cause; pairs are compared by Mann-Whitney."));
    }
    // a share of variants drifts by chance, so this asks for more than 5 %
    if (v.values.size() >= 8 && v.drift.p < 0.01) {
      add(str("the values ", v.drift.rho > 0 ? "rise" : "fall",
              " with the order of running (Spearman ", fixed(v.drift.rho, 2),
              ", p = ", p_text(v.drift.p), "): longer warm-up or rests would help."));
    }
  }
  if (repetitions < advised_repetitions && q.name == "seconds") {
    q.warnings.push_back(str(repetitions, repetitions == 1 ? " repetition" : " repetitions",
                             ", the protocol asks for ", advised_repetitions, "."));
  }
}

std::string energy_line(const Quantity* joules) {
  if (!joules) return "Joules: not available, no meter could be read. Only time is compared.";
  if (!joules->refused.empty()) return "Joules: of different kinds, not compared.";
  const std::string line = str("Joules: ", joules->origin, ".");
  switch (joules->kind) {
    case JouleKind::measured: return line;
    case JouleKind::attributed: return line + " A measured total was handed out by a model.";
    case JouleKind::tdp_estimate:
      return line + " Nothing was measured; errors of 50 % and more are common.";
    default: return line + " Nothing was measured.";
  }
}

}  // namespace

bool VariantSummary::constant() const {
  return std::adjacent_find(kept.begin(), kept.end(), std::not_equal_to<>()) == kept.end();
}

std::vector<std::string> quantity_names(const Experiment& e) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& n) {
    if (std::find(names.begin(), names.end(), n) == names.end()) names.push_back(n);
  };
  for (const Sample& s : e.samples) {
    if (s.result.energy.available()) add("joules");
  }
  add("seconds");
  for (const Sample& s : e.samples) {
    for (const auto& v : s.result.values) add(v.first);
  }
  return names;
}

Quantity analyse_quantity(const Experiment& e, const std::string& quantity) {
  const auto names = quantity_names(e);
  if (std::find(names.begin(), names.end(), quantity) == names.end()) {
    std::string known;
    for (const std::string& n : names) known += " " + n;
    throw value_error(
        str("experiment: found no quantity '", quantity, "', expected one of:", known));
  }
  Quantity q;
  q.name = quantity;
  q.unit = quantity == "joules" ? "J" : quantity == "seconds" ? "s" : "";
  if (quantity == "joules") check_kinds(e, q);
  q.variants = collect(e, quantity);
  apply_outlier_rule(q, e.options.outliers);
  compare_all(q, e.options.seed);
  warn(q, e.options.repetitions);
  return q;
}

ExperimentAnalysis analyse(const Experiment& e) {
  ExperimentAnalysis a;
  for (const std::string& n : quantity_names(e)) {
    try {
      a.quantities.push_back(analyse_quantity(e, n));
    } catch (const value_error& refusal) {
      Quantity q;
      q.name = n, q.refused = refusal.what();
      a.quantities.push_back(std::move(q));
    }
  }
  const bool has_joules = a.quantities.front().name == "joules";
  a.energy_line = energy_line(has_joules ? &a.quantities.front() : nullptr);
  if (!e.complete()) {
    a.warnings.push_back(str("The experiment is not complete: ", e.samples.size(), " of ",
                             e.variants.size() * static_cast<size_t>(e.options.repetitions),
                             " runs. Tests of an unfinished experiment are provisional."));
  }
  for (const Quantity& q : a.quantities) {
    if (!q.refused.empty()) a.warnings.push_back(q.refused);
    a.warnings.insert(a.warnings.end(), q.warnings.begin(), q.warnings.end());
  }
  return a;
}

}  // namespace wattle::green
