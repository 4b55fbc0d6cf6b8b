// The experiment protocol with a made-up world.
#include "green/experiment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "core/error.h"

namespace wattle::green {
namespace {

struct World {
  double now = 0, slept = 0;
  std::mt19937_64 rng{5};
  std::vector<std::string> ran;
  JouleKind kind_a = JouleKind::measured, kind_b = JouleKind::measured;
  double noise = 2, mean_a = 100, mean_b = 100;

  ExperimentWorld interface() {
    return {[this](double s) { now += s, slept += s; },
            [this] { return 40 + 0.01 * now; },
            [this] { return now; },
            {}};
  }
  std::vector<Variant> variants() {
    const auto make = [this](const std::string& name, double World::*m, JouleKind World::*k) {
      return Variant{name, [this, name, m, k](Sample& s) {
                       ran.push_back(name);
                       const double j =
                           this->*m +
                           (noise > 0 ? std::normal_distribution<double>(0, noise)(rng) : 0);
                       now += j / 10;
                       s.seconds = j / 10;
                       s.joules = {std::llround(j * 1e6), 1, this->*k, "fake"};
                     }};
    };
    return {make("a", &World::mean_a, &World::kind_a), make("b", &World::mean_b, &World::kind_b)};
  }
  ExperimentAnalysis run(const ExperimentOptions& o, std::vector<Sample>* out = nullptr) {
    std::vector<Sample> samples;
    run_experiment(variants(), o, interface(), samples);
    if (out) *out = samples;
    return analyse_experiment(samples, o);
  }
};

TEST(Experiment, RoundsAreShuffledRestedAndWarmedUp) {
  World w;
  std::vector<Sample> samples;
  w.run({.repetitions = 30, .warmup = 2, .rest_s = 3, .seed = 7}, &samples);
  ASSERT_EQ(samples.size(), 60u);
  EXPECT_EQ(w.ran.size(), 64u);
  EXPECT_EQ(w.slept, 3 * 64);
  std::set<std::string> first;
  for (int round = 0; round < 30; ++round) {
    std::set<std::string> in_round;
    for (const Sample& s : samples)
      if (s.round == round) in_round.insert(s.variant);
    EXPECT_EQ(in_round.size(), 2u);
    first.insert(samples[size_t(2 * round)].variant);
  }
  EXPECT_EQ(first.size(), 2u);  // not always the same one first
  EXPECT_GT(samples.back().celsius, samples.front().celsius);
}

TEST(Experiment, OrdersArePermutationsOfTheirSeed) {
  std::map<std::vector<size_t>, int> seen;
  for (int round = 0; round < 600; ++round) {
    std::vector<size_t> order = round_order(3, 1, round);
    EXPECT_EQ(order, round_order(3, 1, round));
    ++seen[order];
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, (std::vector<size_t>{0, 1, 2}));
  }
  EXPECT_EQ(seen.size(), 6u);
  for (const auto& [order, n] : seen) EXPECT_NEAR(n, 100, 40);
  int differ = 0;
  for (int round = 0; round < 100; ++round)
    differ += round_order(2, 1, round) != round_order(2, 2, round);
  EXPECT_NEAR(differ, 50, 25);
}

// Two names for the same thing: differences may be claimed in 5 % of experiments, +- 1.5 points.
TEST(Experiment, TwoThousandAAExperimentsClaimFivePercent) {
  World w;
  int joules = 0;
  for (int e = 0; e < 2000; ++e) {
    const auto a = w.run({.repetitions = 12, .warmup = 0, .rest_s = 0, .seed = uint64_t(e)});
    ASSERT_EQ(a.joules.pairs.size(), 1u);
    joules += a.joules.pairs[0].p_holm < 0.05;
  }
  EXPECT_GE(joules, 70);
  EXPECT_LE(joules, 130);
  RecordProperty("rejected", joules);
}

TEST(Experiment, ARealDifferenceIsFoundAndSaid) {
  World w;
  w.mean_b = 103;
  const auto a = w.run({.repetitions = 30, .rest_s = 0});
  const Comparison& c = a.joules.pairs[0];
  EXPECT_LT(c.p_holm, 0.001);
  EXPECT_NEAR(c.ratio.mid, 1.03, 0.01);
  EXPECT_GT(c.ratio.lo, 1.01);
  EXPECT_GT(c.d, 0.8);
  EXPECT_NE(c.sentence.find("b takes +"), std::string::npos) << c.sentence;
  w.mean_b = 100;
  EXPECT_NE(
      w.run({.repetitions = 30, .rest_s = 0}).joules.pairs[0].sentence.find("No difference shown"),
      std::string::npos);
}

TEST(Experiment, KindsOfJoulesDoNotMix) {
  World w;
  w.kind_b = JouleKind::modelled_table;
  const auto a = w.run({.repetitions = 5});
  EXPECT_TRUE(a.joules.pairs.empty());
  EXPECT_NE(a.joules.refused.find("kinds of joules differ"), std::string::npos);
  EXPECT_EQ(a.seconds.pairs.size(), 1u);
}

TEST(Experiment, UnknownAndUnvaryingJoulesProveNothing) {
  World w;
  w.kind_a = w.kind_b = JouleKind::unavailable;
  EXPECT_NE(w.run({.repetitions = 5}).joules.refused.find("not known"), std::string::npos);
  w.kind_a = w.kind_b = JouleKind::modelled_table;
  w.noise = 0;
  w.mean_b = 101;
  EXPECT_NE(w.run({.repetitions = 5}).joules.refused.find("do not vary"), std::string::npos);
  w.kind_a = w.kind_b = JouleKind::tdp_estimate;
  w.noise = 1;
  const auto a = w.run({.repetitions = 5});
  EXPECT_TRUE(std::any_of(a.joules.warnings.begin(), a.joules.warnings.end(),
                          [](const std::string& s) { return s.find("TDP") != s.npos; }));
}

TEST(Experiment, OutliersGoFromEverySampleAlike) {
  World w;
  std::vector<Sample> samples;
  w.run({.repetitions = 30}, &samples);
  for (Sample& s : samples)
    if (s.round == 4) s.joules.uj *= 3;  // both variants
  const auto a = analyse_experiment(samples, {});
  for (const Distribution& d : a.joules.variants) {
    EXPECT_EQ(d.removed, 1);
    EXPECT_EQ(d.values.size(), 29u);
  }
  for (Sample& s : samples)
    if (s.variant == "a" && s.round % 4 == 0) s.seconds = 50 + s.round;
  EXPECT_FALSE(analyse_experiment(samples, {}).seconds.warnings.empty());  // not normal
}

TEST(Experiment, ContinuesInTheOrderItWouldHaveHad) {
  World whole, parts;
  const ExperimentOptions o{.repetitions = 8, .warmup = 0, .rest_s = 0, .seed = 3};
  std::vector<Sample> all, some;
  run_experiment(whole.variants(), o, whole.interface(), all);
  auto broken = parts.variants();
  int left = 7;
  for (Variant& v : broken)
    v.run = [&left, run = v.run](Sample& s) {
      if (left-- == 0) throw io_error("the machine was switched off");
      run(s);
    };
  EXPECT_THROW(run_experiment(broken, o, parts.interface(), some), io_error);
  EXPECT_EQ(some.size(), 7u);
  some = samples_from_csv(samples_csv(some), "samples.csv");
  run_experiment(parts.variants(), o, parts.interface(), some);
  ASSERT_EQ(some.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(some[i].variant, all[i].variant);
    EXPECT_EQ(some[i].round, all[i].round);
    EXPECT_EQ(some[i].order, all[i].order);
    EXPECT_EQ(some[i].joules.uj, all[i].joules.uj);
  }
}

TEST(Experiment, SamplesSurviveTheirFile) {
  Sample s;
  s.variant = "a, \"b\"\nc";
  s.seconds = 0.1 + 0.2;
  s.joules = {1234567, 89.5, JouleKind::measured, "powercap package-0"};
  s.celsius = NAN;
  Sample unknown;
  unknown.variant = "u";
  const auto back = samples_from_csv(samples_csv({s, unknown}), "f");
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].variant, s.variant);
  EXPECT_EQ(back[0].seconds, s.seconds);
  EXPECT_EQ(back[0].joules, s.joules);
  EXPECT_TRUE(std::isnan(back[0].celsius));
  EXPECT_FALSE(back[1].joules.available());
  const std::string good = samples_csv({unknown});
  EXPECT_THROW(samples_from_csv("x\n", "f"), value_error);
  EXPECT_THROW(samples_from_csv(good + "a,b\n", "f"), value_error);
  EXPECT_THROW(samples_from_csv(good + "u,x,0,0,0,,,unavailable,,\n", "f"), value_error);
  EXPECT_THROW(samples_from_csv(good + "u,0,0,0,0,1,1,guessed,,\n", "f"), value_error);
}

TEST(Experiment, NeedsTwoOfEach) {
  World w;
  std::vector<Sample> samples;
  EXPECT_THROW(run_experiment({w.variants()[0]}, {}, w.interface(), samples), value_error);
  EXPECT_THROW(run_experiment(w.variants(), {.repetitions = 1}, w.interface(), samples),
               value_error);
}

TEST(Experiment, PageAndJsonSayWhereTheJoulesComeFrom) {
  World w;
  std::vector<Sample> samples;
  const ExperimentOptions o{.repetitions = 6};
  const auto a = w.run(o, &samples);
  const std::string html = experiment_html(a, samples, o), text = experiment_json(a, o);
  EXPECT_LT(html.find("Joules: measured, fake."), html.find("<h1>"));
  EXPECT_NE(text.find("\"energy\": \"Joules: measured, fake.\""), std::string::npos);
  EXPECT_EQ(html.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace wattle::green
