// The headline sentences of the report, each computed from the runs.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "green/report_parts.h"
#include "green/report_text.h"

namespace wattle::green::report {
namespace {

std::string head(const std::string& s) { return str("<b>", s, "</b> "); }

std::string points(double pp) { return fixed(std::fabs(pp), 2) + "\u00a0accuracy points"; }

// "costs 0.84 accuracy points (12 pairs, sd 0.20, same sign in 92 %)": going from high to low.
std::string accuracy_price(const FactorEffect& e) {
  const double lost = mean(e.accuracy_points), spread = sd(e.accuracy_points);
  const double agree = lost >= 0 ? e.high_better : 1 - e.high_better;
  std::string s = str(lost >= 0 ? "costs " : "gains ", points(lost), " (", e.pairs,
                      e.pairs == 1 ? " pair" : " pairs");
  if (std::isfinite(spread)) {
    s += str(", sd ", fixed(spread, 2), ", same sign in ", percent(agree, 0));
  }
  return s + ")";
}

// Change of a cost when going from high to low: "saves 17.2 J per run, 54 % (modelled)". `ratio` is
// low / high; its interval is given when it is wider than three points.
std::string saving(const Vec& high_minus_low, const Interval& ratio, const std::string& unit,
                   std::string_view kind) {
  const double saved = mean(high_minus_low);
  const double sign = saved >= 0 ? 1 : -1;
  std::string s = str(saved >= 0 ? "saves " : "adds ", si(std::fabs(saved), unit), " per run, ",
                      percent(sign * (1 - ratio.mid), 0));
  if (ratio.hi - ratio.lo > 0.03) {
    const double a = sign * (1 - ratio.hi), b = sign * (1 - ratio.lo);
    s += str(", 95\u00a0% interval ", percent(std::min(a, b), 0), " to ",
             percent(std::max(a, b), 0));
  }
  return str(s, " (", kind, ")");
}

std::string factor_title(const FactorEffect& e) {
  if (e.name == "relu") return "Leaving ReLU out.";
  const std::string things = e.name == "conv" ? "convolution blocks" : "linear layers";
  const bool half = e.high >= 2 * e.low;
  return str(half ? "Halving the network: " : "Shrinking the network: ", e.high, " to ", e.low, " ",
             things, ".");
}

std::string factor_finding(const Analysis& a, const FactorEffect& e) {
  const std::string_view kind = energy::word(a.total_energy.kind);
  std::string s = head(factor_title(e));
  s += e.name == "relu" ? "Paired with the same net and seed, the net without ReLU "
                        : "Paired with the same net and seed, the smaller one ";
  s += accuracy_price(e) + ". It ";
  if (a.has_joules) s += saving(e.joules, e.joules_ratio, "J", kind) + " and ";
  s += saving(e.seconds, e.seconds_ratio, "s", "measured") + ".";
  const double lost = mean(e.accuracy_points), gained = mean(e.joules);
  const char* larger = e.name == "relu" ? "ReLU" : "the larger net";
  if (a.has_joules && lost > 0.005 && gained > 0) {
    s += str(" Each accuracy point that ", larger, " brings costs ", si(gained / lost, "J"), " (",
             kind, ").");
  } else if (lost < 0 && gained > 0) {
    s += str(" Here ", larger, " pays more for less.");
  }
  return s;
}

std::string front_finding(const Analysis& a) {
  std::string on;
  int n = 0, seven = 0, seven_on = 0;
  int top = 0;
  for (const NetSummary& s : a.nets) top = std::max(top, s.key.net == "cnn" ? s.key.linear : 0);
  int left = 0;
  for (const NetSummary& s : a.nets) left += s.on_front;
  for (const NetSummary& s : a.nets) {
    if (s.on_front) left -= 1, on += str(n++ == 0 ? "" : left ? "; " : " or ", s.label);
    if (s.key.net == "cnn" && s.key.linear == top) seven += 1, seven_on += s.on_front;
  }
  if (n == 0) return "";
  std::string s = head(str("The Pareto front has ", n, " of ", a.nets.size(), " nets."));
  s += str("No other net is as accurate as ", escape_html(on), " for fewer joules (",
           energy::word(a.total_energy.kind), ").");
  if (seven > 0 && seven_on == 0 && top > 3) {
    s += str(" Every CNN with ", top, " linear layers is dominated.");
  }
  return s;
}

struct TypeShares {
  std::array<double, layer_type_count> joules{}, ms{}, flops{};
};

void normalise(std::array<double, layer_type_count>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  for (double& x : v) x = sum > 0 ? x / sum : 0;
}

TypeShares type_shares(const Analysis& a) {
  TypeShares t;
  for (const NetSummary& n : a.nets) {
    for (size_t k = 0; k < layer_type_count; ++k) {
      t.joules[k] += n.type_joules[k], t.ms[k] += n.type_ms[k], t.flops[k] += n.type_flops[k];
    }
  }
  normalise(t.joules), normalise(t.ms), normalise(t.flops);
  return t;
}

std::string type_word(size_t k) {
  constexpr const char* words[] = {"convolution",   "linear layers", "ReLU",
                                   "batch norm",    "pooling",       "the loss",
                                   "the optimiser", "data loading",  "the rest"};
  return words[k];
}

std::string layer_finding(const Analysis& a) {
  if (std::none_of(a.nets.begin(), a.nets.end(), [](auto& n) { return n.has_layers; })) return "";
  const TypeShares t = type_shares(a);
  const auto& cost = a.has_joules ? t.joules : t.ms;
  const auto top = static_cast<size_t>(std::max_element(cost.begin(), cost.end()) - cost.begin());
  std::string title = type_word(top);
  title[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(title[0])));
  const std::string kind =
      a.has_joules ? str("joules (", energy::word(a.total_energy.kind), ")") : "the measured time";
  std::string s = head(str(title, " cost most: ", percent(cost[top], 0), " of ", kind, "."));
  if (top == 0 || top == 2 || top == 3 || top == 4) {  // singular nouns
    s = head(str(title, " costs most: ", percent(cost[top], 0), " of ", kind, "."));
  }
  s += str("Over all nets it does ", percent(t.flops[top], 0), " of the FLOPs in ",
           percent(t.ms[top], 0), " of the measured layer time.");
  size_t odd = 0;  // the type whose time its FLOPs explain least
  for (size_t k = 0; k < layer_type_count; ++k) {
    if (t.ms[k] - t.flops[k] > t.ms[odd] - t.flops[odd]) odd = k;
  }
  if (t.ms[odd] - t.flops[odd] > 0.05) {
    s += str(" FLOPs hide most about ", type_word(odd), ": ", percent(t.flops[odd]),
             " of the FLOPs, ", percent(t.ms[odd], 0), " of the time");
    if (a.has_joules) {
      s += str(", ", percent(t.joules[odd], 0), " of the joules (",
               energy::word(a.total_energy.kind), ")");
    }
    s += ".";
  }
  return s;
}

// The pair of nets whose order by FLOPs contradicts the clock most.
std::string contradiction(const Analysis& a) {
  const NetSummary *less = nullptr, *more = nullptr;
  double worst = 1.02;
  int wrong = 0, pairs = 0;
  for (const NetSummary& x : a.nets) {
    for (const NetSummary& y : a.nets) {
      if (!(x.flops_weighted < y.flops_weighted)) continue;
      pairs += 1;
      const double ratio = mean(x.seconds) / mean(y.seconds);
      wrong += ratio > 1;
      if (ratio > worst) worst = ratio, less = &x, more = &y;
    }
  }
  if (!less) return str(" No pair of nets is in a different order by FLOPs and by time.");
  return str(" In ", wrong, " of ", pairs, " pairs of nets the one with fewer FLOPs takes longer; ",
             "at worst ", escape_html(less->label), " needs ",
             percent(less->flops_weighted / more->flops_weighted, 0), " of the FLOPs of ",
             escape_html(more->label), " and ", fixed(worst, 2), "\u00d7 its time.");
}

std::string predictor_finding(const Analysis& a) {
  double flops = not_known, bytes = not_known;
  for (const Predictor& p : a.predictors) {
    if (p.target != "seconds") continue;
    if (p.from == "FLOPs (weighted)") flops = p.r2;
    if (p.from == "bytes") bytes = p.r2;
  }
  if (!std::isfinite(flops) || !std::isfinite(bytes)) return "";
  const std::string title = flops > 0.9     ? "FLOPs tell the time well here."
                            : flops > bytes ? "FLOPs tell the time better than bytes, but not well."
                                            : "FLOPs are a poor clock.";
  return str(head(title), "Across ", a.nets.size(), " nets FLOPs (weighted) explain ",
             percent(flops, 0), " of the variance of the measured time, bytes ", percent(bytes, 0),
             ".", contradiction(a));
}

std::string phase_finding(const Analysis& a) {
  std::array<double, phase_count> ms{}, joules{};
  double all_ms = 0, all_joules = 0;
  for (const NetSummary& n : a.nets) {
    for (size_t k = 0; k < phase_count; ++k) {
      ms[k] += n.phase_ms[k], joules[k] += n.phase_joules[k];
      all_ms += n.phase_ms[k], all_joules += n.phase_joules[k];
    }
  }
  if (!(all_ms > 0)) return "";
  std::string s =
      head(str("The backward pass takes ", percent(ms[1] / all_ms, 0), " of the time."));
  s += str("Forward ", percent(ms[0] / all_ms, 0), ", optimiser ", percent(ms[2] / all_ms, 0),
           ", data ", percent(ms[3] / all_ms, 0), " of the measured layer time");
  if (all_joules > 0) {
    s += str("; by joules (", energy::word(a.total_energy.kind), ") backward ",
             percent(joules[1] / all_joules, 0), ", forward ", percent(joules[0] / all_joules, 0),
             ", optimiser ", percent(joules[2] / all_joules, 0));
  }
  return s + ".";
}

}  // namespace

std::string energy_origin(const Analysis& a) {
  return a.total_energy.available() ? a.total_energy.origin() : "unavailable";
}

std::vector<std::string> findings(const Analysis& a) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& s) {
    if (!s.empty()) out.push_back(s);
  };
  for (const size_t f : {1, 0, 2}) {  // conv, linear, relu
    if (a.factors[f].pairs > 0) add(factor_finding(a, a.factors[f]));
  }
  if (a.has_joules && a.nets.size() > 1) add(front_finding(a));
  add(layer_finding(a));
  add(phase_finding(a));
  add(predictor_finding(a));
  return out;
}

}  // namespace wattle::green::report
