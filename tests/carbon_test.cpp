// Carbon, SCI, ACT, TDP guesses and the schedule, against figures worked out by hand.
#include "energy/carbon.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/error.h"
#include "energy/carbon_schedule.h"
#include "energy/tdp.h"

namespace wattle::energy {
namespace {

void near(double found, double expected) {
  EXPECT_NEAR(found, expected, 1e-6 * std::fabs(expected)) << "expected " << expected;
}

Joules measured(double j) {
  return {std::llround(j * 1e6), 0.01 * j * 1e6, JouleKind::measured, "meter"};
}

TEST(Carbon, OneKilowattHour) {
  const Intensity at{"X", 445, 2024, "mean", "test"};
  near(operational(measured(3.6e6), at).g, 445);
  near(operational(measured(3.6e6), at).sd_g, 4.45);
  near(operational(measured(3.6e6), at, 1.2).g, 445 * 1.2);
}

TEST(Carbon, ScalesWithTheRegionExactly) {
  const double nl = operational(measured(1e6), intensity_of("NL")).g;
  const double fr = operational(measured(1e6), intensity_of("FR")).g;
  near(nl / fr, 267.6 / 56.0);
  EXPECT_NEAR(nl / fr, 4.776, 0.003);
  EXPECT_EQ(intensities().size(), 34u);
  for (const Intensity& i : intensities()) {
    EXPECT_GT(i.g_per_kwh, 20);
    EXPECT_LT(i.g_per_kwh, 900);
    EXPECT_FALSE(i.source.empty());
  }
}

TEST(Carbon, KeepsTheKindOfItsJoules) {
  const Grams g =
      operational({5'000'000, 0, JouleKind::modelled_table, "horowitz45"}, intensity_of("WORLD"));
  EXPECT_EQ(g.kind, JouleKind::modelled_table);
  EXPECT_NE(g.str().find("modelled"), std::string::npos);
  const Grams none = operational({}, intensity_of("NL"));
  EXPECT_FALSE(none.available());
  EXPECT_EQ(none.str(), "-");
  const Grams both = operational(measured(1), intensity_of("NL")) + g;
  EXPECT_EQ(both.kind, JouleKind::modelled_table);
}

TEST(Carbon, RefusesNonsense) {
  EXPECT_THROW(intensity_of("XX"), value_error);
  EXPECT_THROW(operational(measured(1), intensity_of("NL"), 0.9), value_error);
  EXPECT_THROW(operational(measured(1), {"X", -1}), value_error);
  EXPECT_THROW(embodied_share(1, 1, 0), value_error);
  EXPECT_THROW(sci({}, {}, 0), value_error);
}

TEST(Carbon, EmbodiedShareOfAServer) {
  near(embodied_share(1e6, 1, 4).g, 1e6 / (4 * 8760.0));  // 28.54 g
  EXPECT_NEAR(embodied_share(1e6, 1, 4).g, 28.54, 0.005);
  near(embodied_share(181000, 1, 4).g, 5.165525114155251);
  near(embodied_share(181000, 1, 4, 0.5).g, 5.165525114155251 / 2);
}

TEST(Carbon, SoftwareCarbonIntensity) {
  // 10 Wh at 268 g/kWh, one hour of a server of 181 kg and 4 years.
  const Grams op = operational(measured(36000), {"X", 268, 2024, "mean", "test"});
  near(op.g, 2.68);
  const Grams s = sci(op, embodied_share(181000, 1, 4), 1);
  near(s.g, 2.68 + 5.165525114155251);
  EXPECT_EQ(s.kind, JouleKind::ratio);
  near(sci(op, embodied_share(181000, 1, 4), 100).g, 0.07845525114155251);
  // PUE is the data centre's electricity: it does not multiply what making the machine cost.
  const Grams hot = operational(measured(36000), {"X", 268, 2024, "mean", "test"}, 1.5);
  near(sci(hot, embodied_share(181000, 1, 4), 1).g, 2.68 * 1.5 + 5.165525114155251);
}

TEST(Carbon, ActVectors) {
  near(act_carbon_per_area(7, 583), (583 * 2.15 + 275 + 500) / 0.875);
  EXPECT_NEAR(act_carbon_per_area(7, 583), 2318.23, 0.005);
  EXPECT_NEAR(act_chip(826, 7, 583), 19298.6, 0.05);
  EXPECT_NEAR(act_chip(698, 28, 820, 2, 95), 11571.7, 0.05);
  near(act_chip(698, 28, 820, 2, 95), 6.98 * (820 * 0.9 + 175 + 500) / 0.875 + 300);
  EXPECT_EQ(act_dram_per_gb("ddr4"), 65);
  EXPECT_THROW(act_carbon_per_area(8, 583), value_error);
  EXPECT_THROW(act_carbon_per_area(7, 583, 98), value_error);
  EXPECT_THROW(act_dram_per_gb("ddr9"), value_error);
}

TEST(Carbon, RatioIsTheWeakestKindThatIsKnown) {
  const Grams op = operational(measured(3.6e6), {"X", 300, 2024, "mean", "test"});
  const Grams e = embodied_by_ratio(op);
  near(e.g, 700);
  EXPECT_EQ(e.kind, JouleKind::ratio);
  EXPECT_EQ((op + e).kind, JouleKind::ratio);
  EXPECT_THROW(embodied_by_ratio(op, 1), value_error);
}

TEST(Carbon, LifeCycleKeepsItsPhasesApart) {
  LifeCycle c;
  EXPECT_FALSE(c.total().available());
  c.training = operational(measured(3.6e6), {"X", 100, 2024, "mean", "test"});
  c.inference = operational(measured(7.2e6), {"X", 100, 2024, "mean", "test"});
  near(c.total().g, 300);
  EXPECT_FALSE(c.data.available());
}

TEST(Carbon, RedAiAgainstTheMeter) {
  const RedAi r{0.002, 60000, 3, 20};
  near(r.joules(), 7200);
  near(r.difference(measured(6000)), 0.2);
  EXPECT_TRUE(std::isnan(r.difference({})));
}

// ---- guesses ----

TEST(Tdp, KnownFormulas) {
  const double expected[] = {8.5, 9.6953125, 18.0625, 40.7734375, 85};
  for (int i = 0; i < 5; ++i) near(watts_by_cubic_load(85, i / 4.0), expected[i]);
  near(watts_by_process(85, 30, 60, 4), 85 * 0.5 / 4);
  near(watts_constant(85), 42.5);
  near(watts_by_sdia(65, 0.65), 65);
  near(memory_watts(1), 10);
  near(memory_watts(4), 20);
  near(memory_watts(8), 38);
  near(memory_watts(20), 20 + 18 + 32 + 14);
}

TEST(Tdp, IsLabelledAsTheGuessItIs) {
  const Joules j = tdp_estimate(10, 20, 4, 100);
  EXPECT_EQ(j.kind, JouleKind::tdp_estimate);
  EXPECT_EQ(j.uj, 500'000'000);
  near(j.sd_uj, 250e6);
  const Joules unknown = tdp_estimate(10, 20, 4);
  EXPECT_EQ(unknown.uj, 80'000'000);
  EXPECT_NE(unknown.str().find("not known"), std::string::npos);
  EXPECT_THROW(tdp_estimate(-1, 0, 1), value_error);
  EXPECT_THROW(tdp_estimate(1, NAN, 1), value_error);
  EXPECT_THROW(watts_by_cubic_load(85, 1.1), value_error);
}

// ---- when to run ----

TEST(Schedule, ReadsAForecastAndNamesBadLines) {
  EXPECT_EQ(parse_intensity_csv("time,g_per_kwh\n00:00,300\n01:00, 250.5\r\n\n", "f.csv"),
            (std::vector<double>{300, 250.5}));
  EXPECT_EQ(parse_intensity_csv("g\n1\n2\n", "f.csv").size(), 2u);
  for (const char* bad : {"", "g\n", "g\n1\nx\n", "g\n-1\n", "g\nnan\n", "g\n1,\n"})
    EXPECT_THROW(parse_intensity_csv(bad, "f.csv"), value_error) << bad;
  try {
    parse_intensity_csv("g\n1\nx\n", "f.csv");
  } catch (const value_error& e) {
    EXPECT_STREQ(e.what(), "f.csv line 3: found 'x', expected grams per kWh >= 0");
  }
}

// Starts on a grid of a hundredth of an hour cannot be better than the answer.
TEST(Schedule, BestStartAgainstAGrid) {
  std::mt19937_64 rng(9);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<double> g(24);
    for (double& v : g) v = 50 + double(rng() % 500);
    const double hours = 0.25 * double(1 + rng() % 40), deadline = hours + double(rng() % 12);
    if (deadline > 24) continue;
    const Schedule s = best_start(g, hours, deadline);
    const auto mean = [&](double start) {
      double sum = 0;
      for (int k = 0; k < 1000; ++k)
        sum += g[std::min<size_t>(23, size_t(start + hours * (k + 0.5) / 1000))];
      return sum / 1000;
    };
    EXPECT_NEAR(mean(s.start_hour), s.mean_g_per_kwh, 3);
    for (double start = 0; start <= deadline - hours; start += 0.01)
      EXPECT_GE(mean(start), s.mean_g_per_kwh - 3);
  }
}

TEST(Schedule, KnownAnswers) {
  const std::vector<double> g{500, 400, 100, 100, 300, 50};
  EXPECT_EQ(best_start(g, 2, 6).start_hour, 2);
  near(best_start(g, 2, 6).mean_g_per_kwh, 100);
  near(best_start(g, 2, 6).saved(), 1 - 100 / 450.0);
  EXPECT_EQ(best_start(g, 1.5, 6).start_hour, 2);
  EXPECT_EQ(best_start(g, 1, 6).start_hour, 5);
  EXPECT_EQ(best_start(g, 6, 6).start_hour, 0);
  EXPECT_EQ(best_hours(g, 3, 6).hours, (std::vector<int>{2, 3, 5}));
  near(best_hours(g, 3, 6).mean_g_per_kwh, 250 / 3.0);
  EXPECT_EQ(best_hours(g, 1, 3).hours, (std::vector<int>{2}));
  EXPECT_THROW(best_start(g, 7, 6), value_error);
  EXPECT_THROW(best_start(g, 2, 9), value_error);
  EXPECT_THROW(best_hours(g, 0, 3), value_error);
}

}  // namespace
}  // namespace wattle::energy
