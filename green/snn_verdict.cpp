// Which side takes fewer joules, and under which conditions that may be said at all.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "green/snn_study.h"

namespace wattle::green {
namespace {

constexpr double band = 0.005;  // half a point of accuracy

SnnLayer mean_of(const std::vector<const SnnLayer*>& seeds) {
  SnnLayer l = *seeds[0];
  const auto mean = [&](double SnnLayer::*field) {
    double sum = 0;
    for (const SnnLayer* s : seeds) sum += s->*field;
    l.*field = sum / static_cast<double>(seeds.size());
  };
  mean(&SnnLayer::ops), mean(&SnnLayer::rate), mean(&SnnLayer::any), mean(&SnnLayer::silent);
  return l;
}

// The point that takes the fewest joules of those within the band around `goal`.
const SnnCell* cheapest(const std::vector<const SnnCell*>& arm, double goal, const SnnVerdict& v) {
  const SnnCell* out = nullptr;
  double least = 0;
  for (const SnnCell* c : arm) {
    const double pj = snn_pj(c->layers, c->point.widths(), v.tier, v.batch);
    if (std::fabs(c->mean - goal) <= band && (!out || pj < least)) out = c, least = pj;
  }
  return out;
}

const SnnCell* most_accurate(const std::vector<const SnnCell*>& arm) {
  return *std::max_element(arm.begin(), arm.end(),
                           [](const SnnCell* a, const SnnCell* b) { return a->mean < b->mean; });
}

// What can be said of arms that do not meet in accuracy: the better one's best point beside the
// other's.
std::string dominance(const std::vector<const SnnCell*>& numbers,
                      const std::vector<const SnnCell*>& spikes, const SnnVerdict& v) {
  const SnnCell *a = most_accurate(numbers), *b = most_accurate(spikes);
  if (a->mean < b->mean) std::swap(a, b);
  const bool fewer = snn_pj(a->layers, a->point.widths(), v.tier, v.batch) <
                     snn_pj(b->layers, b->point.widths(), v.tier, v.batch);
  char points[32];
  std::snprintf(points, sizeof points, "%.2f", 100 * (a->mean - b->mean));
  return str(a->point.name, " is ", points, " points more accurate than ", b->point.name,
             fewer ? " and takes fewer joules" : " but takes more joules");
}

void add_sensitivity(SnnVerdict& v, const SnnCell& numbers, const SnnCell& spikes) {
  const auto wins = [&](const SnnFactors& f) {
    return snn_pj(spikes.layers, spikes.point.widths(), v.tier, v.batch, f) <
           snn_pj(numbers.layers, numbers.point.widths(), v.tier, v.batch, f);
  };
  for (const double x : {0.5, 2.0}) {
    v.sensitivity.emplace_back(str("products x", x), wins({.mac = x}));
    v.sensitivity.emplace_back(str("additions x", x), wins({.ac = x}));
    if (v.tier != SnnTier::compute)
      v.sensitivity.emplace_back(str("bytes x", x), wins({.bytes = x}));
  }
}

SnnVerdict compare(const std::vector<const SnnCell*>& numbers,
                   const std::vector<const SnnCell*>& spikes, SnnTier tier, int64_t batch) {
  SnnVerdict v;
  v.tier = tier, v.batch = batch;
  if (numbers.empty() || spikes.empty()) {
    v.why_not = "one of the two arms was not run";
    return v;
  }
  const double goal = std::min(most_accurate(numbers)->mean, most_accurate(spikes)->mean);
  const SnnCell* const n = cheapest(numbers, goal, v);
  const SnnCell* const s = cheapest(spikes, goal, v);
  if (!n || !s) {
    v.why_not = str("no equal-accuracy point: ", dominance(numbers, spikes, v));
    return v;
  }
  v.numbers = n->point.name, v.spikes = s->point.name;
  v.numbers_pj = snn_pj(n->layers, n->point.widths(), tier, batch);
  v.spikes_pj = snn_pj(s->layers, s->point.widths(), tier, batch);
  const SnnWidths a = n->point.widths(), b = s->point.widths();
  if (a.weight_bits != b.weight_bits)
    v.why_not = str("weights of ", a.weight_bits, " and ", b.weight_bits, " bits");
  for (size_t i = 0; i < n->layers.size(); ++i)
    if (n->layers[i].weights != s->layers[i].weights)
      v.why_not = str(n->layers[i].name, " has ", n->layers[i].weights, " and ",
                      s->layers[i].weights, " weights");
  v.equal = v.why_not.empty();
  if (v.equal) add_sensitivity(v, *n, *s);
  return v;
}

}  // namespace

std::vector<SnnCell> cells_of(const SnnStudy& s) {
  std::vector<SnnCell> out;
  std::vector<SnnPoint> points = snn_points(s.options);
  for (size_t i = 0, n = points.size(); i < n; ++i)
    if (points[i].activation.kind == SnnActivation::spikes) {
      SnnPoint p = points[i];
      p.name += ", int8", p.int8 = true;
      points.push_back(p);
    }
  for (const SnnPoint& p : points) {
    SnnCell c;
    c.point = p;
    std::vector<const SnnRun*> runs;
    for (const SnnRun& r : s.runs)
      if (r.point == p.name) runs.push_back(&r);
    if (runs.empty()) continue;
    const double n = static_cast<double>(runs.size());
    for (const SnnRun* r : runs) {
      c.accuracy.push_back(r->test);
      c.mean += r->test / n;
      c.ms1 += r->ms_batch1 / n, c.ms64 += r->ms_batch64 / n;
      c.train_j += r->train_joules.joules() / n;
      c.silenced += r->silenced / n;
    }
    for (const double a : c.accuracy) c.sd += (a - c.mean) * (a - c.mean);
    c.sd = runs.size() > 1 ? std::sqrt(c.sd / (n - 1)) : 0;
    for (size_t l = 0; l < runs[0]->layers.size(); ++l) {
      std::vector<const SnnLayer*> seeds;
      for (const SnnRun* r : runs) seeds.push_back(&r->layers[l]);
      c.layers.push_back(mean_of(seeds));
    }
    out.push_back(c);
  }
  return out;
}

std::vector<SnnVerdict> verdicts_of(const SnnStudy& s) {
  const std::vector<SnnCell> cells = cells_of(s);
  const auto arm = [&](char a) {
    std::vector<const SnnCell*> out;
    for (const SnnCell& c : cells)
      if (c.point.arm() == a) out.push_back(&c);
    return out;
  };
  std::vector<SnnVerdict> out;
  for (const auto& [numbers, spikes] : {std::pair{'A', 'C'}, {'B', 'D'}})
    for (const SnnTier tier : snn_tiers)
      for (const int64_t batch : {1, 64}) {
        out.push_back(compare(arm(numbers), arm(spikes), tier, batch));
        out.back().weight_bits = numbers == 'A' ? 32 : 8;
      }
  return out;
}

double checked_ratio(const SnnVerdict& v) {
  if (!v.equal)
    throw value_error(str("spikes against numbers: no ratio of unequal arms: ", v.why_not));
  return v.spikes_pj / v.numbers_pj;
}

namespace {
std::string weights_text(const SnnVerdict& v) {
  return v.weight_bits == 8 ? "int8 weights" : "f32 weights";
}
}  // namespace

std::string sentence(const SnnVerdict& v) {
  const std::string where = str(weights_text(v), ", ", name(v.tier), ", batch ", v.batch);
  if (!v.equal) return str(where, ": no ratio: ", v.why_not);
  const double ratio = checked_ratio(v);
  std::string turns;
  for (const auto& [what, wins] : v.sensitivity)
    if (wins != (ratio < 1)) turns += (turns.empty() ? "" : ", ") + what;
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", ratio);
  return str(
      where, ": ", v.spikes, " takes ", text, " times the joules of ", v.numbers, " (modelled); ",
      ratio < 1 ? "spikes" : "numbers", " win",
      turns.empty() ? ", with every constant halved or doubled, too" : ", but not with " + turns);
}

std::vector<std::string> verdict_sentences(const SnnStudy& s) {
  const std::vector<SnnVerdict> all = verdicts_of(s);
  std::vector<std::string> out;
  for (const int bits : {32, 8}) {
    std::vector<SnnVerdict> arm;
    for (const SnnVerdict& v : all)
      if (v.weight_bits == bits) arm.push_back(v);
    const bool same = std::all_of(arm.begin(), arm.end(), [&](const SnnVerdict& v) {
      return !v.equal && v.why_not == arm[0].why_not;
    });
    if (same)
      out.push_back(
          str(weights_text(arm[0]), ", every tier and batch: no ratio: ", arm[0].why_not));
    else
      for (const SnnVerdict& v : arm) out.push_back(sentence(v));
  }
  return out;
}

}  // namespace wattle::green
