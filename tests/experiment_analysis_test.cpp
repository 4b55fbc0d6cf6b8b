// What an experiment may say, and what it must not.
#include "green/experiment_analysis.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "green/experiment_report.h"
#include "tests/experiment_samples.h"

namespace wattle::green {
namespace {

TEST(Analysis, ProtocolVector) {
  const Experiment e =
      with_joules({{100.2, 99.8, 101.1, 100.5, 99.9, 100.7}, {98.1, 97.5, 98.9, 98.4, 97.9, 98.6}});
  const ExperimentAnalysis a = analyse(e);
  EXPECT_EQ(a.energy_line, "Joules: measured, powercap package-0.");
  const PairResult& p = only_pair(a);
  EXPECT_EQ(p.test, "Welch");
  EXPECT_NEAR(p.welch.t, 7.380250, 1e-6);
  EXPECT_NEAR(p.welch.df, 9.997454, 1e-6);
  EXPECT_NEAR(p.p, 2.3721e-5, 1e-9);
  EXPECT_EQ(p.p_holm, p.p) << "one pair needs no correction";
  EXPECT_NEAR(p.d, 4.260989, 1e-6);
  EXPECT_NEAR(p.g, 3.933221, 1e-6);
  EXPECT_EQ(p.a12, 1);
  EXPECT_TRUE(p.significant);
  EXPECT_NEAR(p.ratio.mid, 602.2 / 589.4, 1e-12);
  EXPECT_LT(p.ratio.lo, p.ratio.mid);
  EXPECT_GT(p.ratio.hi, p.ratio.mid);
  EXPECT_NE(p.conclusion.find("A needs 2.17 % more joules than B"), std::string::npos);
  EXPECT_NE(p.conclusion.find("significant, Welch p = "), std::string::npos);
  EXPECT_NE(p.conclusion.find("large effect"), std::string::npos);
  EXPECT_TRUE(mentions(a.warnings, "6 repetitions, the protocol asks for 30"));
}

TEST(Analysis, KindsOfJoulesAreNotMixed) {
  const Vec x = {1, 2, 3, 4, 5, 6}, y = {11, 12, 13, 14, 15, 16};
  const Experiment e = with_joules({x, y}, {JouleKind::measured, JouleKind::modelled_table});
  try {
    analyse_quantity(e, "joules");
    FAIL() << "measured and modelled joules were compared";
  } catch (const value_error& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("measured, powercap package-0"), std::string::npos) << what;
    EXPECT_NE(what.find("modelled, table horowitz45"), std::string::npos) << what;
  }
  const ExperimentAnalysis a = analyse(e);
  EXPECT_EQ(a.energy_line, "Joules: of different kinds, not compared.");
  EXPECT_TRUE(a.quantities[0].pairs.empty());
  EXPECT_FALSE(a.quantities[0].refused.empty());
  EXPECT_EQ(a.quantities[1].name, "seconds");
  EXPECT_EQ(a.quantities[1].pairs.size(), 1u) << "time is still compared";
  const std::string page = experiment_report_html(e, a);
  EXPECT_NE(page.find("these are not compared"), std::string::npos);
  for (const char* claim : {"significant,", "needs"}) {
    EXPECT_EQ(page.find(claim), std::string::npos) << claim;
  }
  EXPECT_THROW(analyse_quantity(e, "accuracy"), value_error);
}

TEST(Analysis, ModelledJoulesWithoutScatterAreNotTested) {
  const std::vector<JouleKind> kinds(2, JouleKind::modelled_table);
  const ExperimentAnalysis a = analyse(with_joules({Vec(30, 2.5), Vec(30, 2.0)}, kinds));
  const PairResult& p = only_pair(a);
  EXPECT_EQ(p.test, "none");
  EXPECT_TRUE(std::isnan(p.p));
  EXPECT_TRUE(std::isnan(p.p_holm));
  EXPECT_FALSE(p.significant);
  EXPECT_DOUBLE_EQ(p.ratio.mid, 1.25);
  EXPECT_NE(p.conclusion.find("deterministic"), std::string::npos);
  EXPECT_NE(p.conclusion.find("A needs 25.0 % more joules than B"), std::string::npos);
  EXPECT_EQ(p.conclusion.find("significant"), std::string::npos);
  EXPECT_NE(a.energy_line.find("Nothing was measured"), std::string::npos);
  const ExperimentAnalysis same = analyse(with_joules({Vec(3, 2.5), Vec(3, 2.5)}, kinds));
  EXPECT_NE(only_pair(same).conclusion.find("A and B have the same joules"), std::string::npos);
  // the same from a meter is a fault of the meter, not determinism
  const ExperimentAnalysis meter = analyse(with_joules({Vec(30, 2.5), Vec(30, 2.0)}));
  EXPECT_EQ(only_pair(meter).test, "none");
  EXPECT_EQ(only_pair(meter).conclusion.find("deterministic"), std::string::npos);
  EXPECT_NE(only_pair(meter).conclusion.find("too coarse"), std::string::npos);
}

TEST(Analysis, EstimatesSayThatTheyAreEstimates) {
  const std::vector<JouleKind> kinds(2, JouleKind::tdp_estimate);
  const ExperimentAnalysis a = analyse(with_joules({{1, 2, 3, 4, 5}, {21, 22, 23, 24, 25}}, kinds));
  EXPECT_NE(a.energy_line.find("estimated from TDP"), std::string::npos);
  EXPECT_NE(only_pair(a).conclusion.find("no power was seen"), std::string::npos);
}

TEST(Analysis, UnavailableJoulesAreAbsentNotZero) {
  Experiment e = finished(two());
  for (Sample& s : e.samples) s.result.energy = {};
  const ExperimentAnalysis none = analyse(e);
  EXPECT_EQ(none.quantities.size(), 1u);
  EXPECT_EQ(none.quantities[0].name, "seconds");
  EXPECT_NE(none.energy_line.find("not available"), std::string::npos);
  const ExperimentAnalysis some = analyse(with_joules({{1, 2, nan, 3, 4}, {5, 6, 7, 8, 9}}));
  EXPECT_EQ(some.quantities[0].variants[0].kept, (Vec{1, 2, 3, 4}));
  EXPECT_EQ(some.quantities[0].variants[0].missing, 1);
  EXPECT_TRUE(mentions(some.warnings, "1 of 5 runs have no value"));
  const ExperimentAnalysis half = analyse(with_joules({{nan, nan, nan}, {5, 6, 7}}));
  EXPECT_NE(only_pair(half).conclusion.find("No statement about A and B: A has no joules"),
            std::string::npos);
}

TEST(Analysis, OutlierRuleIsTheSameForAll) {
  std::mt19937_64 rng(3);
  std::normal_distribution<double> noise(100, 1);
  Vec a, b;
  for (int i = 0; i < 40; ++i) a.push_back(noise(rng)), b.push_back(noise(rng));
  ASSERT_GT(shapiro_wilk(a).p, 0.05);
  ASSERT_GT(shapiro_wilk(b).p, 0.05);
  b[5] = mean(b) + 3.6 * sd(b);  // far out in b, whose values still pass for normal
  ASSERT_GT(shapiro_wilk(b).p, 0.05);
  const Quantity untouched = analyse_quantity(with_joules({a, b}), "joules");
  EXPECT_FALSE(untouched.outliers_removed);
  EXPECT_EQ(untouched.variants[1].kept.size(), 40u);

  a[10] = 160;  // now a is not normal, and the rule goes through both
  const Experiment e = with_joules({a, b});
  const Quantity q = analyse_quantity(e, "joules");
  EXPECT_TRUE(q.outliers_removed);
  EXPECT_EQ(q.variants[0].kept.size(), 39u);
  EXPECT_FALSE(q.variants[0].keep[10]);
  EXPECT_EQ(q.variants[1].kept.size(), 39u);
  EXPECT_FALSE(q.variants[1].keep[5]);
  EXPECT_LT(q.variants[0].normality_all.p, 1e-6);
  EXPECT_GT(q.variants[0].normality.p, 0.05);
  EXPECT_EQ(q.pairs[0].test, "Welch");

  Experiment keep_all = e;
  keep_all.options.outliers = OutlierRule::none;
  const Quantity all = analyse_quantity(keep_all, "joules");
  EXPECT_FALSE(all.outliers_removed);
  EXPECT_EQ(all.variants[0].kept.size(), 40u);
  EXPECT_EQ(all.pairs[0].test, "Mann-Whitney");
}

TEST(Analysis, SkewedValuesAreComparedByRanks) {
  Vec a, b;
  for (int i = 0; i < 30; ++i) {
    a.push_back(-std::log((i + 0.5) / 30)), b.push_back(2 - std::log((i + 0.5) / 30));
  }
  const ExperimentAnalysis r = analyse(with_joules({a, b}));
  const PairResult& p = only_pair(r);
  EXPECT_EQ(p.test, "Mann-Whitney");
  EXPECT_EQ(p.p, p.mann_whitney.p);
  EXPECT_TRUE(p.significant);
  EXPECT_EQ(p.effect, "large");
  EXPECT_NE(p.conclusion.find("A run of A needs fewer joules than one of B in "),
            std::string::npos);
  EXPECT_TRUE(mentions(r.warnings, "A, joules: the values are not normal"));
}

TEST(Analysis, FewKeptAndDriftAreWarnedAbout) {
  Vec rising, flat;
  for (int i = 0; i < 30; ++i) rising.push_back(100 + i), flat.push_back(100 + i * 7 % 30);
  const ExperimentAnalysis a = analyse(with_joules({rising, flat}));
  EXPECT_TRUE(mentions(a.warnings, "A, joules: the values rise with the order of running"));
  EXPECT_FALSE(mentions(a.warnings, "B, joules: the values rise"));
  EXPECT_FALSE(mentions(a.warnings, "are left without outliers"));
  Vec gaps = flat;
  for (size_t i = 0; i < 5; ++i) gaps[i * 6] = nan;
  EXPECT_FALSE(mentions(analyse(with_joules({gaps, flat})).warnings, "only 25 of 30"));
  gaps[29] = nan;
  EXPECT_TRUE(mentions(analyse(with_joules({gaps, flat})).warnings,
                       "A, joules: only 24 of 30 runs are left"));
}

TEST(Analysis, PairsAreCorrectedByHolm) {
  const std::vector<Variant> v = {constant_power("A", 100), constant_power("B", 100.2),
                                  constant_power("C", 110)};
  const ExperimentAnalysis a = analyse(finished(v));
  const auto& pairs = a.quantities[0].pairs;
  ASSERT_EQ(pairs.size(), 3u);
  const Vec corrected = holm({pairs[0].p, pairs[1].p, pairs[2].p});
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pairs[i].p_holm, corrected[i]);
    EXPECT_EQ(pairs[i].significant, corrected[i] < 0.05);
  }
  EXPECT_FALSE(pairs[0].significant);
  EXPECT_TRUE(pairs[1].significant && pairs[2].significant);
  EXPECT_NE(pairs[0].conclusion.find("No difference in joules between A and B is shown"),
            std::string::npos);
  EXPECT_NE(pairs[1].conclusion.find("corrected for 3 pairs"), std::string::npos);
}

// The whole way from the run to the sentence: equal variants differ in 5 % of experiments, a real
// difference is found.
TEST(Analysis, RatesOfWholeExperiments) {
  int equal = 0, real = 0;
  constexpr int trials = 2000;
  for (int trial = 0; trial < trials; ++trial) {
    const ExperimentOptions o{.repetitions = 30, .seed = static_cast<uint64_t>(trial)};
    equal += only_pair(analyse(finished(two(100, 100), o))).significant;
    if (trial < 100) real += only_pair(analyse(finished(two(100, 101), o))).significant;
  }
  EXPECT_NEAR(equal / double(trials), 0.05, 0.015);
  EXPECT_GT(real, 90);  // d = 1 with 30 runs each: power 97 %
}

}  // namespace
}  // namespace wattle::green
