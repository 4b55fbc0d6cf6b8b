// Meters on scripted hosts: what they may add up, and what they must refuse.
#include "energy/meter.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "energy/counter_parts.h"
#include "tests/meter_probe.h"

namespace wattle::energy {
namespace {

// ---- numbers out of files ----

TEST(CounterParts, NumbersAreStrict) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("262143328850\n"), 262143328850);
  EXPECT_EQ(parse_integer("9223372036854775807"), INT64_MAX);
  for (const char* bad : {"", "\n", "-1", "+1", " 1", "1 ", "1x", "0x10", "1\n2", "1.5",
                          "9223372036854775808", "nan"})
    EXPECT_FALSE(parse_integer(bad)) << bad;
  EXPECT_EQ(parse_decimal("12.5\n"), 12.5);
  for (const char* bad : {"", "-1.0", "1e3", "inf", "1.2.3", "1,5", "J 5"})
    EXPECT_FALSE(parse_decimal(bad)) << bad;
}

// ---- wraps ----

Reading after(Unroller u, std::vector<std::pair<double, double>> value_at_second) {
  Tally t;
  for (const auto& [value, s] : value_at_second) u.update(value, static_cast<int64_t>(s * 1e9), t);
  return t.reading(0);
}

TEST(Wrap, OneIsUnrolled) {
  const Unroller u(262143328850, 1, 1000);
  const Reading r = after(u, {{262143000000, 0}, {500000, 1}});
  EXPECT_EQ(r.uj, 828850);
  EXPECT_EQ(r.faults, 0);
}

TEST(Wrap, WithoutAKnownRangeIsAFault) {
  const Reading r = after(Unroller(0, 1, 1000), {{262143000000, 0}, {500000, 1}});
  EXPECT_EQ(r.uj, 0);
  EXPECT_EQ(r.faults, 1);
  EXPECT_TRUE(contains(r.fault, "backwards")) << r.fault;
}

TEST(Wrap, TwoPossibleOnesAreAFault) {
  const Unroller u(65532610987, 1, 200);  // half of the range is 164 s at 200 W
  EXPECT_NEAR(u.poll_s(), 163.8, 0.1);
  EXPECT_EQ(after(u, {{0, 0}, {1000, 163}}).faults, 0);
  const Reading r = after(u, {{0, 0}, {1000, 165}});
  EXPECT_EQ(r.faults, 1);
  EXPECT_EQ(r.uj, 0);
}

TEST(Wrap, ClockJumpsAndNonsenseAreFaults) {
  const Unroller u(1000, 1, 0);
  EXPECT_EQ(after(u, {{10, 5}, {20, 4}}).faults, 1);
  EXPECT_EQ(after(u, {{5000, 0}, {20, 1}}).faults, 1);  // was beyond its own range
}

TEST(Wrap, PowercapZoneWithOneInAWindow) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 15, 262143328850 - 2e6);
  auto m = probe(h);
  EXPECT_NEAR(watts(*m, *h), 15, 1e-4);
}

// ---- integration of power ----

TEST(PowerIntegral, IsTheTrapezoid) {
  PowerIntegral p(2);
  Tally t;
  const std::vector<std::pair<double, double>> steps{{10, 0}, {20, 1}, {0, 1.5}};
  for (const auto& [w, s] : steps) p.update(w, static_cast<int64_t>(s * 1e9), t);
  EXPECT_EQ(t.reading(0).uj, 20'000'000);
  EXPECT_EQ(t.reading(0).faults, 0);
}

TEST(PowerIntegral, GapsAndJumpsAreFaults) {
  PowerIntegral p(2);
  Tally t;
  p.update(10, 0, t);
  p.update(10, 3'000'000'000, t);
  EXPECT_EQ(t.reading(0).faults, 1);
  p.update(10, 2'500'000'000, t);
  EXPECT_EQ(t.reading(0).faults, 2);
  EXPECT_EQ(t.reading(0).uj, 0);
  p.update(10, 3'000'000'000, t);  // and goes on from there
  EXPECT_EQ(t.reading(0).uj, 5'000'000);
}

// ---- what is added up ----

TEST(Meter, LaptopCountsPackageAndDramOnce) {
  auto h = fake_laptop();
  auto m = probe(h);
  EXPECT_EQ(m->describe(), "powercap package-0 + powercap package-0/dram");
  EXPECT_NEAR(watts(*m, *h), 16.5, 1e-4);
  const SourceReport& r = report(*m, "powercap");
  EXPECT_TRUE(r.available);
  EXPECT_EQ(r.domains.size(), 5u);  // the mmio twin is not a sixth
}

TEST(Meter, TwoSocketsAddUp) {
  auto h = fake_two_sockets();
  auto m = probe(h);
  EXPECT_NEAR(watts(*m, *h), 209, 1e-4);
}

TEST(Meter, DiesThatShareACounterCountOnce) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0-die-0", 68);
  add_zone(*h, "intel-rapl:1", "package-0-die-1", 68);
  auto m = probe(h);
  EXPECT_NEAR(watts(*m, *h), 68, 1e-4);
  EXPECT_TRUE(contains(report(*m, "powercap").reason, "once more"))
      << report(*m, "powercap").reason;
}

TEST(Meter, DiesOfTheirOwnBothCount) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0-die-0", 68);
  add_zone(*h, "intel-rapl:1", "package-0-die-1", 68.4);
  auto m = probe(h);
  EXPECT_NEAR(watts(*m, *h), 136.4, 1e-4);
}

TEST(Meter, MmioAloneIsUsed) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl-mmio:0", "package-0", 15);
  auto m = probe(h);
  EXPECT_NEAR(watts(*m, *h), 15, 1e-4);
}

TEST(Meter, PsysAloneIsUsed) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "psys", 30);
  EXPECT_NEAR(watts(*probe(h), *h), 30, 1e-4);
}

void add_pmu(FakeHost& h, const std::string& cpus) {
  const std::string pmu = "/sys/bus/event_source/devices/power";
  h.file(pmu + "/type", {"34\n"});
  h.file(pmu + "/cpumask", {cpus + "\n"});
  h.file(pmu + "/events/energy-pkg", {"event=0x02\n"});
  h.file(pmu + "/events/energy-pkg.scale", {"2.3283064365386962890625e-10\n"});
  h.file(pmu + "/events/energy-pkg.unit", {"Joules\n"});
}

TEST(Meter, PerfEventComesBeforePowercapAndIsNotAddedToIt) {
  auto h = fake_two_sockets();
  add_pmu(*h, "0,18");
  h->perf(34, 2, 0, 101, 0x1p-32);
  h->perf(34, 2, 18, 91, 0x1p-32);
  auto m = probe(h);
  EXPECT_EQ(m->describe(), "perf_event package-0 + perf_event package-1");
  EXPECT_NEAR(watts(*m, *h), 192, 1e-4);
  EXPECT_TRUE(contains(report(*m, "powercap").reason, "another source covers it"));
}

TEST(Meter, PerfEventWithoutTheRightSaysHowToGetIt) {
  auto h = std::make_shared<FakeHost>();
  add_pmu(*h, "0-1");
  h->perf_fails(EACCES);
  auto m = probe(h);
  EXPECT_FALSE(m->available());
  EXPECT_TRUE(contains(report(*m, "perf_event").reason, "perf_event_paranoid"));
}

TEST(Meter, PowercapWithoutTheRightSaysHowToGetIt) {
  auto h = fake_laptop();
  for (const char* zone : {"intel-rapl:0", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:0:2",
                           "intel-rapl:1", "intel-rapl-mmio:0"})
    h->fails(std::string("/sys/class/powercap/") + zone + "/energy_uj", EACCES);
  auto m = probe(h);
  EXPECT_FALSE(m->available());
  EXPECT_TRUE(contains(report(*m, "powercap").reason, "Permission denied"));
  EXPECT_TRUE(contains(report(*m, "powercap").reason, "chmod"));
}

TEST(Meter, GarbageIsNoReading) {
  for (const char* text : {"", "-5\n", "abc\n", "12 34\n"}) {
    auto h = std::make_shared<FakeHost>();
    add_zone(*h, "intel-rapl:0", "package-0", 15);
    h->file("/sys/class/powercap/intel-rapl:0/energy_uj", {text});
    EXPECT_FALSE(probe(h)->available()) << text;
  }
}

TEST(Meter, AFaultInsideAWindowMakesItUnavailable) {
  auto h = fake_laptop();
  auto m = probe(h);
  Window w(*m, "w"), next(*m, "next");
  h->advance(1);
  h->fails("/sys/class/powercap/intel-rapl:0:2/energy_uj", EIO);
  const WindowResult r = w.end();
  EXPECT_FALSE(r.gross.available());
  EXPECT_TRUE(contains(r.note, "package-0/dram")) << r.note;
  EXPECT_TRUE(contains(r.note, "Input/output error")) << r.note;
  EXPECT_TRUE(r.parts[0].joules.available());
  EXPECT_FALSE(r.parts[1].joules.available());
  h->file("/sys/class/powercap/intel-rapl:0:2/energy_uj", {"7\n"});
  EXPECT_FALSE(next.end().gross.available());  // it was open during the fault
}

TEST(Meter, ACounterThatNeverMovesIsNoMeter) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 0);
  auto m = probe(h);
  EXPECT_FALSE(m->available());
  EXPECT_TRUE(contains(report(*m, "powercap").reason, "never moves"));
}

TEST(Meter, CloudMachineHasNothingAndSaysWhy) {
  auto h = fake_cloud();
  auto m = probe(h);
  EXPECT_FALSE(m->available());
  EXPECT_EQ(m->describe(), "none");
  EXPECT_EQ(m->sources().size(), 8u);
  for (const SourceReport& r : m->sources()) {
    EXPECT_FALSE(r.available) << r.name;
    EXPECT_GT(r.reason.size(), 10u) << r.name;
    EXPECT_TRUE(r.domains.empty());
  }
  Window w(*m, "w");
  h->advance(1);
  const WindowResult r = w.end();
  EXPECT_EQ(r.gross.kind, JouleKind::unavailable);
  EXPECT_EQ(r.gross.str(), "-");
  EXPECT_EQ(r.note, "no meter on this host");
}

TEST(Meter, EmptyRootOfTheRealHostHasNothing) {
  const std::string root = std::filesystem::temp_directory_path() / "wattle_empty_root";
  std::filesystem::create_directories(root);
  auto m = Meter::probe({.nvml_library = "/nonexistent.so", .root = root});
  EXPECT_FALSE(m->available());
  std::filesystem::remove_all(root);
}

TEST(Meter, ARootOnDiskIsReadLikeTheRealOne) {
  const std::string root = std::filesystem::temp_directory_path() / "wattle_fake_root";
  std::filesystem::remove_all(root);
  fake_laptop()->write_to(root);
  auto io = HostIo::real(root);
  EXPECT_EQ(io->list("/sys/class/powercap").size(), 7u);
  EXPECT_EQ(first_line(io->read_file("/sys/class/powercap/intel-rapl:0/name").text), "package-0");
  // Files do not move by themselves: no meter may come of it.
  auto m = Meter::probe({.nvml_library = "/nonexistent.so", .root = root});
  EXPECT_FALSE(m->available());
  EXPECT_TRUE(contains(report(*m, "powercap").reason, "never moves"));
  std::filesystem::remove_all(root);
}

// ---- polling ----

// Counts readings; needs polling every 10 ms.
struct Polled final : Counter {
  explicit Polled(std::atomic<int>& reads) : Counter("external", "x", Domain::board), n(reads) {}
  Reading read() override { return {++n, 0, 0, ""}; }
  double update_s() const override { return 0.01; }
  double poll_s() const override { return 0.01; }
  std::atomic<int>& n;
};

TEST(Meter, PollsByItself) {
  std::atomic<int> n{0};
  CounterList counters;
  counters.push_back(std::make_unique<Polled>(n));
  const auto m = Meter::of(std::move(counters), HostIo::real());
  for (int k = 0; k < 200 && n < 5; ++k) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_GE(n, 5);
}

TEST(Meter, OptionsComeFromTheEnvironment) {
  ::setenv("WATTLE_METER_UPDATE_S", "2.5", 1);
  ::setenv("WATTLE_ALLOW_MSR", "1", 1);
  EXPECT_EQ(probe_options_from_environment().external_update_s, 2.5);
  EXPECT_TRUE(probe_options_from_environment().allow_msr);
  ::setenv("WATTLE_METER_UPDATE_S", "-1", 1);
  EXPECT_ANY_THROW(probe_options_from_environment());
  ::unsetenv("WATTLE_METER_UPDATE_S");
  ::unsetenv("WATTLE_ALLOW_MSR");
}

}  // namespace
}  // namespace wattle::energy
