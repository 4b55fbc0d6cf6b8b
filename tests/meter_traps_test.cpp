// Hosts that invite a meter to count a joule twice, to invent one, or to overlook one.
#include <gtest/gtest.h>

#include <cerrno>

#include "energy/counter_parts.h"
#include "tests/meter_probe.h"

namespace wattle::energy {
namespace {

std::string reason(const Meter& m, const std::string& name) { return report(m, name).reason; }

const std::string zone0 = "/sys/class/powercap/intel-rapl:0/energy_uj";

TEST(Traps, ACounterSetAnewIsNoWrap) {
  // From 100 kJ to 1 kJ within a second: as a wrap that would be 163 kJ, or 163 kW.
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 15, 100e9);
  auto m = probe(h);
  const Reading before = m->read()[0];
  h->advance(1);
  h->file(zone0, {"1000000000\n", "1000000000\n", "1000000007\n"});
  const Reading after = m->read()[0];
  EXPECT_EQ(after.uj, before.uj);
  EXPECT_EQ(after.faults, before.faults + 1);
  EXPECT_TRUE(contains(after.fault, "set anew")) << after.fault;
  m->read();
  EXPECT_EQ(m->read()[0].uj, before.uj + 7);  // and goes on from there
}

TEST(Traps, ARangeThatCannotBeReadStillLimitsTheGap) {
  // The counter may be one of the smallest range, and have started over unseen.
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 15, 100e9);
  h->fails("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", EACCES);
  auto m = probe(h);
  EXPECT_GT(m->counters()[0]->poll_s(), 0);
  const Reading before = m->read()[0];
  h->advance(20);
  EXPECT_EQ(m->read()[0].faults, before.faults);
  h->advance(3600);
  EXPECT_EQ(m->read()[0].faults, before.faults + 1);
}

TEST(Traps, TheGraphicsPartOfAProcessorIsInsideItsPackage) {
  auto h = fake_laptop();
  const std::string f = "/sys/class/hwmon/hwmon2/";
  h->file(f + "name", {"amdgpu\n"});
  h->file(f + "power1_average", {"9000000\n"});
  h->file(f + "in0_label", {"vddgfx\n"});
  EXPECT_TRUE(contains(probe(h)->describe(), "amdgpu"));  // a board: beside the processor
  h->file(f + "in1_label", {"vddnb\n"});                  // only processors have this voltage
  EXPECT_EQ(probe(h)->describe(), "powercap package-0 + powercap package-0/dram");
}

TEST(Traps, ABoardsChipIsInsideTheBoard) {
  auto h = fake_laptop();
  const std::string f = "/sys/class/hwmon/hwmon2/";
  h->file(f + "name", {"xe\n"});
  h->file(f + "energy1_label", {"card\n"});
  h->counter(f + "energy1_input", 60);
  h->file(f + "energy2_label", {"pkg\n"});
  h->counter(f + "energy2_input", 45);
  auto m = probe(h);
  EXPECT_TRUE(contains(m->describe(), "xe/card")) << m->describe();
  EXPECT_FALSE(contains(m->describe(), "xe/pkg")) << m->describe();
}

TEST(Traps, AZoneThatIsAlwaysZeroIsNotMeasured) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 15);
  add_zone(*h, "intel-rapl:0:0", "dram", 0);
  auto m = probe(h);
  EXPECT_EQ(m->describe(), "powercap package-0");
  EXPECT_TRUE(contains(reason(*m, "powercap"), "dram")) << reason(*m, "powercap");
}

TEST(Traps, AVirtualMachinesRegisterThatMovesOnceASecondIsAMeter) {
  // QEMU hands the host's registers on once a second (MSR_ENERGY_THREAD_SLEEP_US).
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 15);
  std::vector<std::string> texts(6, "5000000\n");
  texts.push_back("20000000\n");
  h->file(zone0, texts);
  auto m = probe(h);
  EXPECT_EQ(m->describe(), "powercap package-0") << reason(*m, "powercap");
}

TEST(Traps, OneCounterUnderTwoNamesIsFoundAlthoughAnUpdateFellBetweenTheReadings) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0-die-0", 68);
  add_zone(*h, "intel-rapl:1", "package-0-die-1", 68);
  const auto script = [](std::vector<int64_t> values) {
    std::vector<std::string> texts;
    for (const int64_t v : values) texts.push_back(std::to_string(v) + "\n");
    return texts;
  };
  // The first value goes to the look whether the file can be read at all.
  h->file(zone0, script({1000, 1000, 2000, 3100, 4300, 5200, 6300}));
  h->file("/sys/class/powercap/intel-rapl:1/energy_uj",
          script({1000, 1000, 2060, 3100, 4300, 5200, 6300}));
  EXPECT_EQ(probe(h)->describe(), "powercap package-0-die-0");
}

TEST(Traps, EqualMemoryInTwoSocketsIsTwoMemories) {
  auto h = std::make_shared<FakeHost>();
  add_zone(*h, "intel-rapl:0", "package-0", 100);
  add_zone(*h, "intel-rapl:0:0", "dram", 10);
  add_zone(*h, "intel-rapl:1", "package-1", 90);
  add_zone(*h, "intel-rapl:1:0", "dram", 10);
  EXPECT_EQ(probe(h)->counters().size(), 4u) << probe(h)->describe();
}

TEST(Traps, TheMmioTwinStandsInForAZoneThatCannotBeRead) {
  auto h = fake_laptop();
  h->fails(zone0, EACCES);
  auto m = probe(h);
  EXPECT_EQ(m->describe(), "powercap package-0 + powercap package-0/dram");
}

TEST(Traps, EveryDieCounts) {
  // On Intel the registers belong to a die (kernel, arch/x86/events/rapl.c).
  auto h = std::make_shared<FakeHost>();
  h->file("/proc/cpuinfo", {"vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n"});
  for (int cpu = 0; cpu < 4; ++cpu) {
    const std::string f = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    h->file(f + "physical_package_id", {"0\n"});
    h->file(f + "die_id", {cpu < 2 ? "0\n" : "1\n"});
    h->msr(cpu, 0x606, 0xA0E03);
    h->msr_counter(cpu, 0x611, cpu < 2 ? 50 : 70, 0x1p-14);
  }
  EXPECT_EQ(probe(h, {.allow_msr = true})->counters().size(), 2u);
}

TEST(Traps, BatteriesOfEveryNameAndSign) {
  auto h = std::make_shared<FakeHost>();
  const std::string f = "/sys/class/power_supply/macsmc-battery/";
  h->file(f + "type", {"Battery\n"});
  h->file(f + "status", {"Discharging\n"});
  h->file(f + "current_now", {"-800000\n"});  // negative while it discharges, says the kernel
  h->file(f + "voltage_now", {"12000000\n"});
  const std::string mouse = "/sys/class/power_supply/hidpp_battery_0/";
  h->file(mouse + "type", {"Battery\n"});
  h->file(mouse + "scope", {"Device\n"});
  h->file(mouse + "status", {"Discharging\n"});
  h->file(mouse + "power_now", {"1000\n"});
  auto m = probe(h);
  ASSERT_EQ(m->describe(), "battery macsmc-battery");
  const int64_t before = m->read()[0].uj;
  h->advance(1);
  EXPECT_NEAR(static_cast<double>(m->read()[0].uj - before), 9.6e6, 1);
}

TEST(Traps, ACommandThatClosesItsOutputDoesNotHoldTheMeter) {
  auto io = HostIo::real();
  EXPECT_EQ(io->run("echo 7; exec >&-; sleep 20", 0.1).error, ETIMEDOUT);
  EXPECT_EQ(io->run("cat", 5).error, 0);  // finds no input instead of waiting for the keyboard
}

}  // namespace
}  // namespace wattle::energy
