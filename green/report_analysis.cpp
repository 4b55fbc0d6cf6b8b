#include "green/report_analysis.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"

namespace wattle::green {
namespace {

std::vector<NetKey> net_order(const StudyResult& s) {
  std::vector<NetKey> order;
  const auto add = [&](const NetKey& k) {
    if (std::find(order.begin(), order.end(), k) == order.end()) order.push_back(k);
  };
  for (const NetKey& k : s.settings.nets) add(k);
  for (const StudyRun& r : s.runs) add(r.key);
  // nets that were asked for but not reached have nothing to show
  std::erase_if(order, [&](const NetKey& k) {
    return std::none_of(s.runs.begin(), s.runs.end(),
                        [&](const StudyRun& r) { return r.key == k; });
  });
  return order;
}

void add_layers(NetSummary& n, const StudyResult& s) {
  for (const LayerRow& r : s.layers) {
    if (r.key != n.key) continue;
    n.has_layers = true;
    const auto type = static_cast<size_t>(r.type), phase = static_cast<size_t>(r.phase);
    const double runs = n.runs, joules = r.joules.joules() / runs, ms = r.ms / runs;
    n.type_flops[type] += static_cast<double>(r.flops_all) / runs;
    if (std::isfinite(joules)) n.type_joules[type] += joules, n.phase_joules[phase] += joules;
    if (std::isfinite(ms)) n.type_ms[type] += ms, n.phase_ms[phase] += ms;
  }
}

NetSummary summarise(const NetKey& key, const StudyResult& s) {
  NetSummary n;
  n.key = key, n.label = label(key);
  std::vector<Joules> terms;
  Vec weighted, all, bytes;
  for (const StudyRun& r : s.runs) {
    if (r.key != key) continue;
    n.runs += 1, n.diverged += r.diverged, n.params = r.params;
    if (r.diverged) continue;
    n.accuracy.push_back(r.accuracy), n.seconds.push_back(r.seconds);
    n.joules.push_back(r.joules.joules()), terms.push_back(r.joules);
    weighted.push_back(static_cast<double>(r.flops_weighted));
    all.push_back(static_cast<double>(r.flops_all)), bytes.push_back(static_cast<double>(r.bytes));
  }
  if (!terms.empty()) {
    n.energy = energy::mean_of(energy::sum(terms), static_cast<int64_t>(terms.size()));
  }
  n.flops_weighted = mean(weighted), n.flops_all = mean(all), n.bytes = mean(bytes);
  add_layers(n, s);
  return n;
}

int factor_of(const NetKey& k, size_t f) { return f == 0 ? k.linear : f == 1 ? k.conv : k.relu; }
void set_factor(NetKey& k, size_t f, int v) { (f == 0 ? k.linear : f == 1 ? k.conv : k.relu) = v; }

bool usable(const StudyRun& r) { return r.key.net == "cnn" && !r.diverged; }

// Lowest and highest level of a factor among the CNN runs.
std::array<int, 2> level_range(const StudyResult& s, size_t f) {
  std::array<int, 2> range = {0, 0};
  bool first = true;
  for (const StudyRun& r : s.runs) {
    if (!usable(r)) continue;
    const int v = factor_of(r.key, f);
    range = first ? std::array<int, 2>{v, v}
                  : std::array<int, 2>{std::min(range[0], v), std::max(range[1], v)};
    first = false;
  }
  return range;
}

FactorEffect effect(const StudyResult& s, size_t f, const char* name) {
  const auto [low, high] = level_range(s, f);
  FactorEffect e;
  e.name = name, e.low = low, e.high = high;
  std::map<std::pair<NetKey, uint64_t>, const StudyRun*> runs;
  for (const StudyRun& r : s.runs) {
    if (usable(r)) runs[{r.key, r.seed}] = &r;
  }
  Vec joules_low, joules_high, seconds_low, seconds_high;
  int better = 0;
  for (const auto& [at, a] : runs) {
    NetKey other = a->key;
    set_factor(other, f, high);
    const auto found = runs.find({other, at.second});
    if (low == high || factor_of(a->key, f) != low || found == runs.end()) continue;
    const StudyRun* b = found->second;
    e.accuracy_points.push_back(100 * (b->accuracy - a->accuracy));
    e.joules.push_back(b->joules.joules() - a->joules.joules());
    e.seconds.push_back(b->seconds - a->seconds);
    joules_low.push_back(a->joules.joules()), joules_high.push_back(b->joules.joules());
    seconds_low.push_back(a->seconds), seconds_high.push_back(b->seconds);
    better += b->accuracy > a->accuracy;
  }
  e.pairs = static_cast<int>(e.joules.size());
  if (e.pairs == 0) return e;
  e.high_better = static_cast<double>(better) / e.pairs;
  e.joules_ratio = bootstrap_ratio(joules_low, joules_high, true);
  e.seconds_ratio = bootstrap_ratio(seconds_low, seconds_high, true);
  return e;
}

bool repeats_vary(const std::vector<NetSummary>& nets) {
  return std::any_of(nets.begin(), nets.end(), [](const NetSummary& n) {
    return std::any_of(n.joules.begin(), n.joules.end(),
                       [&](double j) { return std::fabs(j - n.joules[0]) > 1.5e-6; });
  });
}

std::vector<Predictor> predictors(const Analysis& a) {
  Vec flops, all, bytes, seconds, joules;
  for (const NetSummary& n : a.nets) {
    if (n.accuracy.empty()) continue;
    flops.push_back(n.flops_weighted), all.push_back(n.flops_all), bytes.push_back(n.bytes);
    seconds.push_back(mean(n.seconds)), joules.push_back(mean(n.joules));
  }
  struct Question {
    const char *target, *from;
    const Vec* y;
    std::vector<const Vec*> x;
  };
  std::vector<Question> questions = {{"seconds", "FLOPs (weighted)", &seconds, {&flops}},
                                     {"seconds", "FLOPs (all)", &seconds, {&all}},
                                     {"seconds", "bytes", &seconds, {&bytes}},
                                     {"seconds", "FLOPs (all) + bytes", &seconds, {&all, &bytes}}};
  if (a.has_joules) {
    questions.push_back({"seconds", "joules", &seconds, {&joules}});
    questions.push_back({"joules", "FLOPs (weighted)", &joules, {&flops}});
    questions.push_back({"joules", "FLOPs (all)", &joules, {&all}});
    questions.push_back({"joules", "bytes", &joules, {&bytes}});
    questions.push_back({"joules", "FLOPs (all) + bytes", &joules, {&all, &bytes}});
    questions.push_back({"joules", "seconds", &joules, {&seconds}});
  }
  std::vector<Predictor> out;
  for (const Question& q : questions) {
    Predictor p;
    p.target = q.target, p.from = q.from;
    std::vector<Vec> x;
    for (const Vec* v : q.x) x.push_back(*v);
    // as many coefficients as nets fit anything
    if (q.y->size() > x.size() + 1) p.r2 = least_squares(x, *q.y).r2;
    if (x.size() == 1 && q.y->size() > 2) {
      p.pearson = pearson(x[0], *q.y), p.spearman = spearman(x[0], *q.y);
    }
    p.by_construction = a.modelled && p.target == "joules" && p.from != "seconds";
    out.push_back(p);
  }
  return out;
}

}  // namespace

Analysis analyse(const StudyResult& s) {
  Analysis a;
  a.study = &s;
  for (const NetKey& k : net_order(s)) a.nets.push_back(summarise(k, s));
  Vec accuracy, joules;
  std::vector<Joules> energies;
  a.has_joules = !a.nets.empty();
  for (const NetSummary& n : a.nets) {
    accuracy.push_back(mean(n.accuracy)), joules.push_back(n.energy.joules());
    if (!n.accuracy.empty()) a.has_joules = a.has_joules && n.energy.available();
  }
  for (const size_t i : pareto_front(accuracy, joules)) a.nets[i].on_front = true;
  for (const StudyRun& r : s.runs) {
    energies.push_back(r.joules);
    if (std::isfinite(r.seconds)) a.total_seconds += r.seconds;
  }
  a.total_energy = energy::sum(energies);
  a.modelled = a.has_joules && a.total_energy.kind == JouleKind::modelled_table;
  const bool exact = !repeats_vary(a.nets);
  for (size_t f = 0; f < 3; ++f) {
    constexpr const char* names[] = {"linear", "conv", "relu"};
    a.factors.push_back(effect(s, f, names[f]));
    a.factors.back().exact_joules = exact;
  }
  a.predictors = predictors(a);
  a.broken_sums = check_conservation(s);
  return a;
}

Design cnn_design(const StudyResult& s) {
  std::array<std::array<int, 2>, 3> range;
  for (size_t f = 0; f < 3; ++f) range[f] = level_range(s, f);
  Design d;
  for (const StudyRun& r : s.runs) {
    if (!usable(r)) continue;
    std::array<int, 3> level;
    bool inside = true;  // only the two outer levels of a factor belong to the design
    for (size_t f = 0; f < 3; ++f) {
      const int v = factor_of(r.key, f);
      inside = inside && (v == range[f][0] || v == range[f][1]);
      level[f] = v != range[f][0];
    }
    if (inside) d.levels.push_back(level), d.runs.push_back(&r);
  }
  return d;
}

}  // namespace wattle::green
