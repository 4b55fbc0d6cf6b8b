#include "energy/attribution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"

namespace wattle::energy {
namespace {

// An end of a span, on the way through time.
struct Edge {
  int64_t at;
  size_t span;
  bool begins;
};

void check(const WindowEnergy& w, const std::vector<Load>& loads) {
  const auto refuse = [](const char* what, double found) {
    throw value_error(str("attribute: found ", what, " ", found, ", expected a finite one >= 0"));
  };
  const auto good = [](double v) { return v >= 0 && std::isfinite(v); };
  if (w.energy.available() && w.energy.uj < 0)
    refuse("a window of microjoules", double(w.energy.uj));
  if (!good(w.seconds)) refuse("a window of seconds", w.seconds);
  if (!good(w.idle_watts)) refuse("idle watts", w.idle_watts);
  for (const Load& l : loads) {
    if (!good(l.seconds)) refuse("seconds of an item", l.seconds);
    if (!good(l.dynamic_j)) refuse("joules of an item", l.dynamic_j);
    if (!good(l.sd_j)) refuse("a standard deviation of", l.sd_j);
  }
}

// The model's figure and variance of every item and, last, of the time beside them.
struct Modelled {
  std::vector<double> s, variance;
  double sum = 0, variance_sum = 0;
};

Modelled model(const WindowEnergy& w, const std::vector<Load>& loads) {
  Modelled m;
  double busy = 0;
  for (const Load& l : loads) {
    busy += l.seconds;
    m.s.push_back(w.idle_watts * l.seconds + l.dynamic_j);
    m.variance.push_back(l.sd_j * l.sd_j);
  }
  const double gap = std::max(0.0, w.seconds - busy);
  m.s.push_back(w.idle_watts * gap);
  m.variance.push_back(w.sd_idle_watts * gap * w.sd_idle_watts * gap);
  for (const double s : m.s) m.sum += s;
  for (const double v : m.variance) m.variance_sum += v;
  return m;
}

std::vector<double> weights_of(const WindowEnergy& w, const Modelled& m, AttributionMethod method) {
  std::vector<double> weight = m.s;
  const double sd_w = w.energy.sd_uj * 1e-6;
  const double spread = m.variance_sum + sd_w * sd_w;
  if (method == AttributionMethod::proportional || !(spread > 0) || !std::isfinite(spread))
    return weight;
  const double residual = static_cast<double>(w.energy.uj) * 1e-6 - m.sum;
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] = std::max(0.0, weight[i] + m.variance[i] / spread * residual);
  // A residual below -sum s leaves nothing to share by: the plain model then has the say.
  const bool any = std::any_of(weight.begin(), weight.end(), [](double x) { return x > 0; });
  return any ? weight : m.s;
}

std::string warning_of(double kappa) {
  if (std::isnan(kappa)) return "the model gives nothing to share by: all is unattributed";
  if (kappa > 0 && std::fabs(std::log(kappa)) <= std::log(1.5)) return {};
  return str("measured over modelled energy is ", kappa,
             ", outside 0.67..1.5: the shares rest on a model that does not fit this host");
}

}  // namespace

SharedTime share_time(const std::vector<Span>& spans, Span window) {
  if (window.end < window.begin)
    throw value_error(str("share_time: found a window from ", window.begin, " to ", window.end));
  std::vector<Edge> edges;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].end < spans[i].begin)
      throw value_error(
          str("share_time: found a span from ", spans[i].begin, " to ", spans[i].end));
    const int64_t begin = std::clamp(spans[i].begin, window.begin, window.end);
    const int64_t end = std::clamp(spans[i].end, window.begin, window.end);
    if (begin == end) continue;
    edges.push_back({begin, i, true});
    edges.push_back({end, i, false});
  }
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.at < b.at; });
  SharedTime out;
  out.seconds.resize(spans.size());
  std::set<size_t> active;
  int64_t at = window.begin;
  const auto advance = [&](int64_t to) {
    const double seconds = static_cast<double>(to - at) * 1e-9;
    for (const size_t i : active) out.seconds[i] += seconds / static_cast<double>(active.size());
    if (active.empty()) out.idle_seconds += seconds;
    at = to;
  };
  for (const Edge& e : edges) {
    advance(e.at);
    if (e.begins) active.insert(e.span);
    else active.erase(e.span);
  }
  advance(window.end);
  return out;
}

Attribution attribute(const WindowEnergy& w, const std::vector<Load>& loads,
                      AttributionMethod method) {
  check(w, loads);
  Attribution out;
  for (const Load& l : loads) {
    out.static_j.push_back(w.idle_watts * l.seconds);
    out.dynamic_j.push_back(l.dynamic_j);
  }
  out.items.resize(loads.size());
  if (!w.energy.available()) {
    out.kappa = std::numeric_limits<double>::quiet_NaN();
    out.warning = "the window was not measured";
    return out;
  }
  const Modelled m = model(w, loads);
  out.kappa = m.sum > 0 ? static_cast<double>(w.energy.uj) * 1e-6 / m.sum
                        : std::numeric_limits<double>::quiet_NaN();
  out.warning = warning_of(out.kappa);
  std::vector<double> weight(m.s.size());
  if (m.sum > 0) weight = weights_of(w, m, method);
  else weight.back() = 1;
  const std::vector<int64_t> uj = largest_remainder(weight, w.energy.uj);
  // A share is as uncertain as the window in proportion, and as the model that cut it off.
  const auto share = [&](size_t i) {
    const double part = w.energy.uj > 0 ? double(uj[i]) / double(w.energy.uj) : 0;
    const double others = m.variance_sum - m.variance[i];
    const double cut = m.variance_sum > 0 ? m.variance[i] * others / m.variance_sum : 0;
    const double sd = std::hypot(part * w.energy.sd_uj, std::sqrt(std::max(0.0, cut)) * 1e6);
    return Joules{uj[i], sd, std::max(w.energy.kind, JouleKind::attributed), w.energy.source};
  };
  for (size_t i = 0; i < loads.size(); ++i) out.items[i] = share(i);
  out.unattributed = share(loads.size());
  return out;
}

Reconciled reconcile(int64_t parent_uj, const std::vector<int64_t>& children_uj) {
  int128 sum = 0;
  for (const int64_t c : children_uj) {
    if (c < 0) throw value_error(str("reconcile: found a child of ", c, " uJ, expected >= 0"));
    sum += c;
  }
  if (parent_uj < 0)
    throw value_error(str("reconcile: found a parent of ", parent_uj, " uJ, expected >= 0"));
  if (sum <= parent_uj) return {children_uj, static_cast<int64_t>(parent_uj - sum), false};
  std::vector<int128> weights(children_uj.begin(), children_uj.end());
  return {largest_remainder(weights, parent_uj), 0, true};
}

}  // namespace wattle::energy
