// What the runs of the study say about the claims of the DeepSeekMoE paper at this scale.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "green/moe_study.h"
#include "green/report_text.h"

namespace wattle::green {
namespace {

constexpr int64_t kEnough = 5;  // paired seeds below which nothing is asserted

struct Pair {
  std::vector<double> gaps;  // loss of b minus loss of a, seeds that both have
  int wins = 0;              // a below b
};

Pair pair(const MoeStudy& s, const std::string& a, const std::string& b) {
  Pair p;
  const auto other = losses_of(s, b);
  for (const auto& [seed, loss] : losses_of(s, a))
    for (const auto& [seed2, loss2] : other)
      if (seed == seed2) p.gaps.push_back(loss2 - loss), p.wins += loss < loss2;
  return p;
}

std::string found(const Pair& p) {
  return str("median ", fixed(median(p.gaps), 4), " nats lower, lower in ", p.wins, " of ",
             p.gaps.size(), " seeds");
}

MoeClaim::Verdict verdict(bool holds, size_t seeds, bool asserted) {
  if (!asserted) return MoeClaim::reported;
  if (static_cast<int64_t>(seeds) < kEnough) return MoeClaim::open;
  return holds ? MoeClaim::holds : MoeClaim::fails;
}

class Claims {
 public:
  explicit Claims(const MoeStudy& s) : s_(s) {}

  // a is below b by at least `gap` in the median, in at least `share` of the seeds.
  void below(const char* text, const char* a, const char* b, bool asserted, double gap = 0,
             double share = 0.5) {
    const Pair p = pair(s_, a, b);
    if (p.gaps.empty()) return;
    const bool good = median(p.gaps) >= gap && p.wins >= share * static_cast<double>(p.gaps.size());
    add(text, found(p), verdict(good, p.gaps.size(), asserted), asserted);
  }

  void every_moe_beats_dense() {
    double least = HUGE_VAL;
    size_t seeds = 0;
    std::string who;
    for (const std::string& arm : s_.options.arms) {
      if (!moe_arm(arm).model.moe || arm == "switch") continue;  // top 1 has half the active FLOPs
      const Pair p = pair(s_, arm, "dense2");
      if (p.gaps.empty()) continue;
      seeds = p.gaps.size();
      const double worst = *std::min_element(p.gaps.begin(), p.gaps.end());
      if (worst < least) least = worst, who = arm;
    }
    if (who.empty()) return;
    add("Every mixture of equal active FLOPs beats the dense layer by at least 0.08 nats",
        str("least gap of any seed ", fixed(least, 4), " nats (", who, ")"),
        verdict(least >= 0.08, seeds, true), true);
  }

  void bias_balances() {
    std::vector<double> ratio;
    for (const MoeRun& a : s_.runs)
      for (const MoeRun& b : s_.runs)
        if (a.arm == "auxfree" && b.arm == "m4" && a.seed == b.seed)
          ratio.push_back(b.max_vio / a.max_vio);
    if (ratio.empty()) return;
    const Pair p = pair(s_, "auxfree", "m4");
    add("Bias balancing without a loss cuts the global MaxVio at least 1.5 times, at no more than "
        "0.005 nats",
        str("median ", fixed(median(ratio), 2), " times, loss ", fixed(-median(p.gaps), 4),
            " nats higher"),
        verdict(median(ratio) >= 1.5 && median(p.gaps) >= -0.005, ratio.size(), true), true);
  }

  // Losses of a probe of an arm by seed.
  std::vector<double> probe(const std::string& arm, const std::string& what) const {
    std::vector<double> out;
    for (const MoeRun& r : s_.runs)
      for (const MoeProbePoint& p : r.probes)
        if (r.arm == arm && p.what == what) out.push_back(p.loss);
    return out;
  }

  void fewer_experts() {
    const auto four = probe("m4", "active 4");
    if (four.empty()) return;
    bool monotone = true;
    std::string curve;
    double before = 0;
    for (int k = 7; k >= 1; --k) {
      const double loss = median(probe("m4", str("active ", k)));
      monotone = monotone && loss >= before - 1e-9;
      before = loss;
      curve += str(curve.empty() ? "" : " ", fixed(loss, 3));
    }
    add("Fewer active experts at inference cost more, step by step", "7 to 1 of m4: " + curve,
        verdict(monotone, four.size(), true), true);
    std::vector<double> gaps;  // by seed, as in every comparison of arms here
    for (const MoeRun& r : s_.runs)
      for (const auto& [seed, loss] : losses_of(s_, "gshard"))
        for (const MoeProbePoint& p : r.probes)
          if (r.arm == "m4" && r.seed == seed && p.what == "active 4")
            gaps.push_back(p.loss - loss);
    if (gaps.empty()) return;
    const auto within = std::count_if(gaps.begin(), gaps.end(), [](double g) { return g <= 0.01; });
    add("With 4 of its 7 routed experts m4 stays within 0.01 nats of GShard",
        str("median ", fixed(median(gaps), 4), " nats above, within 0.01 in ", within, " of ",
            gaps.size(), " seeds"),
        verdict(median(gaps) <= 0.01, gaps.size(), true), true);
  }

  void disabled_experts() {
    bool above = true;
    size_t seeds = 0;
    std::string text;
    for (int r = 1; r <= 4; ++r) {
      const auto m4 = probe("m4", str("disable ", r, "/16")),
                 gshard = probe("gshard", str("disable ", r, "/16"));
      if (m4.empty() || gshard.empty()) return;
      seeds = std::min(m4.size(), gshard.size());
      above = above && median(m4) >= median(gshard);
      text += str(text.empty() ? "" : ", ", fixed(median(m4), 2), " / ", fixed(median(gshard), 2));
    }
    add("Without its best experts m4 loses more than GShard: less redundancy",
        "1/16 to 4/16, m4 / GShard: " + text, verdict(above, seeds, true), true);
  }

  void shared_off() {
    const auto off = probe("m4", "shared off");
    if (off.empty()) return;
    std::vector<double> on;
    for (const auto& [seed, loss] : losses_of(s_, "m4")) on.push_back(loss);
    add("The shared expert cannot be replaced by one more routed one (paper: 1.808 to 2.414)",
        str(fixed(median(on), 3), " to ", fixed(median(off), 3)), MoeClaim::reported, false);
  }

  std::vector<MoeClaim> all;

 private:
  void add(const std::string& text, const std::string& what, MoeClaim::Verdict v, bool asserted) {
    all.push_back({text, what, v, asserted});
  }
  const MoeStudy& s_;
};

}  // namespace

std::vector<std::pair<int64_t, double>> losses_of(const MoeStudy& s, const std::string& arm) {
  std::vector<std::pair<int64_t, double>> out;
  for (const MoeRun& r : s.runs)
    if (r.arm == arm) out.emplace_back(r.seed, r.loss);
  std::sort(out.begin(), out.end());
  return out;
}

double median(std::vector<double> v) {
  if (v.empty()) return std::nan("");
  std::sort(v.begin(), v.end());
  const size_t n = v.size();
  return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

std::vector<MoeClaim> claims_of(const MoeStudy& s) {
  Claims c(s);
  c.every_moe_beats_dense();
  c.below("GShard (top 2) beats Switch (top 1, half its active FFN FLOPs)", "gshard", "switch",
          true);
  c.below("Fine segments beat GShard in at least 4 of 5 seeds, by 0.003 nats in the median", "m4",
          "gshard", true, 0.003, 0.8);
  c.bias_balances();
  c.fewer_experts();
  c.disabled_experts();
  c.below("A shared expert helps at 16 experts (paper: yes)", "shared", "gshard", false);
  c.below("Finer still: 31 halves against GShard", "m2", "gshard", false);
  c.below("m4 reaches GShard with experts of 1.5 times the size (paper: equal)", "m4", "gshard15",
          false);
  c.below("m4 reaches a dense layer with all 16 experts' weights (paper: equal)", "m4", "dense16",
          false);
  c.below("Switch beats a hash of the byte (paper: yes)", "switch", "hash", false);
  c.below("Shared isolation helps with fine segments", "m4", "segments", false);
  c.below("The balance loss helps the loss", "m4", "noaux", false);
  c.shared_off();
  return c.all;
}

}  // namespace wattle::green
