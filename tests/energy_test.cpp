// Joules: kinds, exact sums, table model against the published figures.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "core/error.h"
#include "energy/joules.h"
#include "energy/table_model.h"

namespace wattle::energy {
namespace {

Joules modelled(int64_t uj, double sd, std::string source = "horowitz45") {
  return {uj, sd, JouleKind::modelled_table, std::move(source)};
}

TEST(Joules, DefaultIsUnavailableNotZero) {
  const Joules j;
  EXPECT_FALSE(j.available());
  EXPECT_EQ(j.str(), "-");
  EXPECT_TRUE(std::isnan(j.joules()));
  EXPECT_EQ(j.json(), R"({"uj":null,"sd_uj":null,"kind":"unavailable","source":""})");
  EXPECT_FALSE(sum({}).available());
}

TEST(Joules, PrintsItsKind) {
  EXPECT_EQ(modelled(1234, 400).str(), "1.234 mJ +- 400 uJ (modelled, table horowitz45)");
  EXPECT_EQ((Joules{56, 0, JouleKind::measured, "rapl package-0"}).str(),
            "56 uJ +- 0 uJ (measured, rapl package-0)");
  EXPECT_EQ((Joules{2'500'000'000, 1e6, JouleKind::tdp_estimate, ""}).str(),
            "2.5 kJ +- 1 J (estimated from TDP)");
  EXPECT_EQ(energy_text(999.96), "1 mJ");
  EXPECT_EQ(energy_text(-1500), "-1.5 mJ");  // a negative net of idle survives
  for (int k = 0; k <= static_cast<int>(JouleKind::unavailable); ++k) {
    const auto kind = static_cast<JouleKind>(k);
    EXPECT_EQ(joule_kind_from_name(name(kind)), kind);
    const std::string text = Joules{1, 1, kind, "s"}.str();
    if (kind != JouleKind::unavailable) { EXPECT_NE(text.find(word(kind)), std::string::npos); }
  }
  EXPECT_THROW(joule_kind_from_name("meassured"), value_error);
}

TEST(Joules, JsonEscapesAndKeepsDoubles) {
  EXPECT_EQ((Joules{-7, 0.1, JouleKind::ratio, "a\"b\\\n"}).json(),
            R"({"uj":-7,"sd_uj":0.1,"kind":"ratio","source":"a\"b\\\u000a"})");
}

TEST(Joules, SumKeepsWeakestKindAndAddsVariances) {
  const Joules meter{100, 3, JouleKind::measured, "rapl"};
  const Joules total = meter + modelled(50, 4);
  EXPECT_EQ(total.uj, 150);
  EXPECT_DOUBLE_EQ(total.sd_uj, 5);
  EXPECT_EQ(total.kind, JouleKind::modelled_table);
  EXPECT_EQ(total.source, "horowitz45+rapl");
  EXPECT_EQ((total + meter).source, "horowitz45+rapl");
  EXPECT_EQ((total + Joules{}).str(), "-");
  EXPECT_EQ((Joules{} + total).kind, JouleKind::unavailable);
}

TEST(Joules, ErrorsOfOneTableDoNotAverageOut) {
  EXPECT_DOUBLE_EQ(sum({modelled(10, 3), modelled(10, 4)}).sd_uj, 7);
  EXPECT_DOUBLE_EQ(sum({modelled(10, 3), modelled(10, 4, "tpu7")}).sd_uj, 5);
  EXPECT_DOUBLE_EQ(add_correlated(modelled(1, 3), modelled(1, 4)).sd_uj, 7);
}

TEST(Joules, OverflowIsAnError) {
  EXPECT_THROW(modelled(INT64_MAX, 0) + modelled(1, 0), value_error);
  EXPECT_EQ((modelled(INT64_MAX, 0) + modelled(-1, 0)).uj, INT64_MAX - 1);
}

TEST(Joules, MeanRoundsHalfToEven) {
  EXPECT_EQ(mean_of(modelled(5, 2), 2).uj, 2);
  EXPECT_EQ(mean_of(modelled(7, 2), 2).uj, 4);
  EXPECT_EQ(mean_of(modelled(-5, 2), 2).uj, -2);
  EXPECT_EQ(mean_of(modelled(8, 2), 3).uj, 3);
  EXPECT_DOUBLE_EQ(mean_of(modelled(5, 2), 2).sd_uj, 1);
  EXPECT_THROW(mean_of(modelled(5, 2), 0), value_error);
}

// energy.md 3.7: every published entry of both tables, in pJ.
TEST(TableModel, EntriesAreThePublishedOnes) {
  struct Entry {
    const char* dtype;
    double add45, mul45, add7, mul7;
  };
  for (const Entry& e : {Entry{"i8", .03, .2, .007, .07}, Entry{"i32", .1, 3.1, .03, 1.48},
                         Entry{"f16", .4, 1.1, .16, .34}, Entry{"f32", .9, 3.7, .38, 1.31}}) {
    EXPECT_EQ(horowitz45().find(e.dtype)->add_fj, std::llround(e.add45 * 1000)) << e.dtype;
    EXPECT_EQ(horowitz45().find(e.dtype)->mul_fj, std::llround(e.mul45 * 1000)) << e.dtype;
    EXPECT_EQ(tpu7().find(e.dtype)->add_fj, std::llround(e.add7 * 1000)) << e.dtype;
    EXPECT_EQ(tpu7().find(e.dtype)->mul_fj, std::llround(e.mul7 * 1000)) << e.dtype;
    EXPECT_TRUE(horowitz45().find(e.dtype)->published);
  }
  EXPECT_EQ(tpu7().find("bf16")->add_fj, 110);
  EXPECT_EQ(tpu7().find("bf16")->mul_fj, 210);
}

TEST(TableModel, UnpublishedWidthsFollowTheirPowerLaws) {
  struct Law {
    const Table* table;
    const char *dtype, *lo, *hi;
    double bits, lo_bits, hi_bits;
  };
  const auto at = [](double lo, double hi, const Law& l) {
    return lo * std::pow(l.bits / l.lo_bits, std::log(hi / lo) / std::log(l.hi_bits / l.lo_bits));
  };
  for (const Table* t : {&horowitz45(), &tpu7()}) {
    for (const Law& l :
         {Law{t, "f64", "f16", "f32", 53, 11, 24}, Law{t, "bf16", "f16", "f32", 8, 11, 24},
          Law{t, "fp8_e4m3", "f16", "f32", 4, 11, 24}, Law{t, "fp8_e5m2", "f16", "f32", 3, 11, 24},
          Law{t, "i64", "i8", "i32", 64, 8, 32}, Law{t, "i16", "i8", "i32", 16, 8, 32},
          Law{t, "i4", "i8", "i32", 4, 8, 32}}) {
      const TableRow* r = t->find(l.dtype);
      if (r->published) continue;  // bf16 at 7 nm is in the table
      const TableRow *lo = t->find(l.lo), *hi = t->find(l.hi);
      EXPECT_NEAR(r->mul_fj, at(lo->mul_fj, hi->mul_fj, l), 0.51) << t->name << " " << l.dtype;
      EXPECT_NEAR(r->add_fj, at(lo->add_fj, hi->add_fj, l), 0.51) << t->name << " " << l.dtype;
    }
  }
}

TEST(TableModel, MacIsMulPlusAdd) {
  const auto fj = [](Cost c, const char* dtype) {
    return static_cast<int64_t>(femtojoules_of(c, dtype, horowitz45()).fj);
  };
  EXPECT_EQ(fj({.mac = 1}, "f32"), 4600);  // E_MAC 4.6 pJ, E_AC 0.9 pJ (energy.md 3.7)
  EXPECT_EQ(fj({.add = 1}, "f32"), 900);
  EXPECT_EQ(fj({.mac = 1}, "f16"), 1500);
  EXPECT_EQ(fj({.mac = 1}, "i8"), 230);
  EXPECT_EQ(fj({.mac = 1}, "i32"), 3200);
  EXPECT_EQ(fj({.cmp = 1}, "f32"), 100);  // as an int32 addition
  EXPECT_EQ(fj({.special = 1}, "f32"), 12 * 4600);
  EXPECT_EQ(fj({.iop = 2}, "i8"), 230);  // an integer MAC counted as two operations
}

TEST(TableModel, DramAccessIs64BitsWide) {
  // 1300..2600 pJ per 64 bits -> 162.5..325 pJ per byte, middle 243.75
  EXPECT_EQ(static_cast<int64_t>(femtojoules_of({.read = 8}, "f32", horowitz45()).fj), 1'950'000);
  EXPECT_EQ(static_cast<int64_t>(femtojoules_of({.written = 1}, "f32", horowitz45()).fj), 243'750);
  EXPECT_NEAR(femtojoules_of({.read = 8}, "f32", horowitz45()).sd_fj, 1'300'000 / std::sqrt(12.0),
              1e-6);
  EXPECT_EQ(static_cast<int64_t>(femtojoules_of({.read = 8}, "f32", tpu7()).fj), 1'300'000);
  EXPECT_TRUE(femtojoules_of({.read = 8}, "no such dtype", tpu7()).available);
}

TEST(TableModel, UnknownDtypeIsUnavailable) {
  const Joules j = joules_of({.mac = 1'000'000'000}, "posit16", horowitz45());
  EXPECT_EQ(j.kind, JouleKind::unavailable);
  EXPECT_EQ(j.str(), "-");
  EXPECT_THROW(table_from_name("horowitz7"), value_error);
  EXPECT_EQ(&table_from_name("tpu7"), &tpu7());
  EXPECT_THROW(joules_of({.mac = -1}, "f32", horowitz45()), value_error);
}

TEST(TableModel, PartsAddUpToTheirSumExactly) {
  std::mt19937_64 rng(7);
  const auto draw = [&] { return static_cast<int64_t>(rng() % 1'000'000'007); };
  for (const char* dtype : {"f32", "f64", "i8", "i4", "i64", "bf16"}) {
    for (const Table* t : {&horowitz45(), &tpu7()}) {
      Cost total;
      int128 parts = 0;
      for (int i = 0; i < 100; ++i) {
        const Cost c{draw(), draw(), draw(), draw(), draw(), draw(), draw(), draw()};
        total += c, parts += femtojoules_of(c, dtype, *t).fj;
      }
      EXPECT_TRUE(parts == femtojoules_of(total, dtype, *t).fj) << dtype << " " << t->name;
    }
  }
}

TEST(TableModel, LargeCountsDoNotOverflow) {
  // 1e18 MAC x 4600 fJ = 4.6e21 fJ, beyond 64 bits, = 4.6e12 uJ
  EXPECT_EQ(joules_of({.mac = 1'000'000'000'000'000'000}, "f32", horowitz45()).uj,
            4'600'000'000'000);
}

TEST(TableModel, RoundsHalfToEvenOnce) {
  EXPECT_EQ(microjoules(500'000'000), 0);
  EXPECT_EQ(microjoules(500'000'001), 1);
  EXPECT_EQ(microjoules(1'500'000'000), 2);
  EXPECT_EQ(microjoules(2'500'000'000), 2);
  EXPECT_EQ(microjoules(-1'500'000'000), -2);
  EXPECT_EQ(microjoules(-500'000'000), 0);
  const Joules j = joules_of({.mac = 1'000'000, .read = 4096}, "f32", horowitz45());
  EXPECT_EQ(j.uj, 6);  // 4.6 + 0.9984 uJ
  EXPECT_EQ(j.kind, JouleKind::modelled_table);
  EXPECT_NEAR(j.sd_uj, std::hypot(2.3, 0.9984 / 1950 * 1300 / std::sqrt(12.0)), 1e-9);
}

TEST(LargestRemainder, KnownSplits) {
  using V = std::vector<int64_t>;
  EXPECT_EQ(largest_remainder(std::vector<double>{1, 1, 1}, 10), (V{4, 3, 3}));
  EXPECT_EQ(largest_remainder(std::vector<double>{0.5, 0.25, 0.25}, 1), (V{1, 0, 0}));
  EXPECT_EQ(largest_remainder(std::vector<double>{0, 0}, 5), (V{3, 2}));
  EXPECT_EQ(largest_remainder(std::vector<double>{0, 2}, 5), (V{0, 5}));
  EXPECT_EQ(largest_remainder(std::vector<double>{3, 1}, -4), (V{-3, -1}));
  EXPECT_EQ(largest_remainder(std::vector<double>{1}, 1), (V{1}));
  EXPECT_EQ(largest_remainder(std::vector<double>{}, 0), V{});
  EXPECT_THROW(largest_remainder(std::vector<double>{}, 1), value_error);
  EXPECT_THROW(largest_remainder(std::vector<double>{1, -1}, 1), value_error);
  EXPECT_THROW(largest_remainder(std::vector<double>{NAN}, 1), value_error);
}

TEST(LargestRemainder, ConservesOnTenThousandWindows) {
  std::mt19937_64 rng(11);
  for (int trial = 0; trial < 10'000; ++trial) {
    std::vector<double> w(1 + rng() % 40);
    for (double& x : w)
      x = std::ldexp(static_cast<double>(rng() % 1000), static_cast<int>(rng() % 60) - 30);
    const auto total = static_cast<int64_t>(rng() >> (1 + rng() % 60));
    const std::vector<int64_t> part = largest_remainder(w, total);
    ASSERT_EQ(std::accumulate(part.begin(), part.end(), int64_t{0}), total);
    const double all = std::accumulate(w.begin(), w.end(), 0.0);
    for (size_t i = 0; i < w.size() && all > 0; ++i) {
      const double exact = static_cast<double>(total) * w[i] / all;
      // below one, plus the 2^-56 of the largest weight to which weights are kept
      ASSERT_NEAR(static_cast<double>(part[i]), exact,
                  1.0 + 1e-12 * exact + std::ldexp(static_cast<double>(total), -55));
    }
  }
}

TEST(LargestRemainder, FemtojouleWeightsBeyond64Bits) {
  const int128 big = static_cast<int128>(1) << 100;
  const std::vector<int64_t> part = largest_remainder(std::vector<int128>{big, 3 * big}, INT64_MAX);
  EXPECT_EQ(part[0] + part[1], INT64_MAX);
  EXPECT_NEAR(static_cast<double>(part[1]) / static_cast<double>(part[0]), 3, 1e-9);
}

}  // namespace
}  // namespace wattle::energy
