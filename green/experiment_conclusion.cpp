// The sentences of an experiment: what a pair's figures allow to be said, and no more.
#include <cmath>

#include "core/error.h"
#include "green/experiment_analysis.h"
#include "green/report_text.h"

namespace wattle::green {
namespace {

constexpr double relevant = 0.01;  // below 1 % a difference is called small whatever its p

bool modelled(JouleKind k) {
  return k == JouleKind::modelled_calibrated || k == JouleKind::modelled_table ||
         k == JouleKind::ratio || k == JouleKind::tdp_estimate;
}

// "A needs 12.3 % more joules than B", "A has a higher accuracy than B (0.912 against 0.905)".
std::string by_means(const Quantity& q, const PairResult& p) {
  const std::string &a = q.variants[p.a].name, &b = q.variants[p.b].name;
  const bool cost = q.name == "joules" || q.name == "seconds", more = p.difference > 0;
  const double r = p.ratio.mid;
  if (cost && r >= 10) return str(a, " needs ", significant(r), " times the ", q.name, " of ", b);
  if (cost && r > 0 && std::isfinite(r)) {
    return str(a, " needs ", significant(100 * std::fabs(r - 1)), " % ", more ? "more " : "fewer ",
               q.name, " than ", b);
  }
  return str(a, " has a ", more ? "higher " : "lower ", q.name, " than ", b, " (",
             significant(q.variants[p.a].mean), " against ", significant(q.variants[p.b].mean),
             ")");
}

// Mann and Whitney's test is about which run is the larger one, not about means, and a few extreme
// runs can make the two disagree.
std::string by_ranks(const Quantity& q, const PairResult& p) {
  const bool cost = q.name == "joules" || q.name == "seconds", more = p.a12 > 0.5;
  const char* verb = cost ? (more ? " needs more " : " needs fewer ")
                          : (more ? " has a higher " : " has a lower ");
  return str("A run of ", q.variants[p.a].name, verb, q.name, " than one of ", q.variants[p.b].name,
             " in ", percent(more ? p.a12 : 1 - p.a12), " of all pairs");
}

std::string direction(const Quantity& q, const PairResult& p) {
  return p.test == "Mann-Whitney" ? by_ranks(q, p) : by_means(q, p);
}

std::string interval(const PairResult& p) {
  if (!std::isfinite(p.ratio.lo)) return "";
  return str("ratio of means ", significant(p.ratio.mid, 4), ", 95 % interval ",
             significant(p.ratio.lo, 4), " to ", significant(p.ratio.hi, 4));
}

std::string test_text(const PairResult& p, size_t pairs) {
  std::string s = str(p.test, " p = ", p_text(p.p));
  if (pairs > 1) s += str(", corrected for ", pairs, " pairs ", p_text(p.p_holm));
  return s;
}

std::string effect_text(const PairResult& p) {
  if (p.effect == "unknown") return "";
  return p.test == "Welch" ? str("; ", p.effect, " effect, d = ", fixed(p.d, 2))
                           : str("; ", p.effect, " effect, A12 = ", fixed(p.a12, 2));
}

std::string no_scatter(const Quantity& q, const PairResult& p) {
  const VariantSummary &a = q.variants[p.a], &b = q.variants[p.b];
  const bool equal = a.mean == b.mean;
  const std::string what =
      equal ? str(a.name, " and ", b.name, " have the same ", q.name) : direction(q, p);
  if (q.name == "joules" && modelled(q.kind)) {
    return str(what, ": the joules are ", q.origin,
               ", and repeats do the same work, so they do not vary (deterministic). There is "
               "nothing to test; the ratio is as good as the model.");
  }
  return str(what,
             ", and neither varies between runs: without scatter there is no test. If this is "
             "a meter, its steps are too coarse for these runs.");
}

}  // namespace

std::string conclusion_of(const Quantity& q, const PairResult& p, size_t pairs) {
  const VariantSummary &a = q.variants[p.a], &b = q.variants[p.b];
  if (a.kept.empty() || b.kept.empty()) {
    return str("No statement about ", a.name, " and ", b.name, ": ",
               a.kept.empty() ? a.name : b.name, " has no ", q.name, ".");
  }
  if (p.test == "none") return no_scatter(q, p);
  const std::string ratio = interval(p);
  std::string s;
  if (p.significant) {
    s = str(direction(q, p), ratio.empty() ? "" : str(" (", ratio, ")"), ": significant, ",
            test_text(p, pairs), effect_text(p), ".");
    if (std::fabs(p.ratio.mid - 1) < relevant) {
      s += " It is less than 1 %: ask whether that matters in practice.";
    }
  } else {
    s = str("No difference in ", q.name, " between ", a.name, " and ", b.name,
            " is shown: ", test_text(p, pairs), effect_text(p),
            ratio.empty() ? "" : str(" (", ratio, ")"), ". That does not prove them equal.");
  }
  if (q.name != "joules") return s;
  if (q.kind == JouleKind::tdp_estimate) {
    return s +
           " The joules are estimated from TDP and time: no power was seen, so variants that "
           "draw more or less of it look alike.";
  }
  if (modelled(q.kind))
    return s + " The joules are " + q.origin +
           ": the test is about the "
           "scatter of repeats, not about the error of the model.";
  return s;
}

}  // namespace wattle::green
