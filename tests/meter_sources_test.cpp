// Registers, boards, batteries and whatever prints joules, on scripted hosts.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/meter_probe.h"

namespace wattle::energy {
namespace {

// ---- registers ----

void add_cpus(FakeHost& h, const std::string& vendor, int model, std::vector<int> package_of_cpu) {
  h.file("/proc/cpuinfo", {"vendor_id\t: " + vendor +
                           "\ncpu family\t: 6\nmodel\t\t: " + std::to_string(model) + "\n"});
  for (size_t c = 0; c < package_of_cpu.size(); ++c)
    h.file("/sys/devices/system/cpu/cpu" + std::to_string(c) + "/topology/physical_package_id",
           {std::to_string(package_of_cpu[c]) + "\n"});
}

TEST(Msr, OnlyWhenAskedFor) {
  auto h = std::make_shared<FakeHost>();
  add_cpus(*h, "GenuineIntel", 158, {0, 0});
  h->msr(0, 0x606, 0xA0E03);
  h->msr_counter(0, 0x611, 20, 0x1p-14);
  EXPECT_FALSE(probe(h)->available());
  auto m = probe(h, {.allow_msr = true});
  EXPECT_NEAR(watts(*m, *h), 20, 0.001);
  EXPECT_EQ(m->describe(), "msr package-0");
}

TEST(Msr, ServerDramHasAUnitOfItsOwnAndEachPackageIsReadOnce) {
  auto h = std::make_shared<FakeHost>();
  add_cpus(*h, "GenuineIntel", 85, {0, 0, 1, 1});
  for (const int cpu : {0, 2}) {
    h->msr(cpu, 0x606, 0xA0E03);
    h->msr_counter(cpu, 0x611, 100 + cpu, 0x1p-14);
    h->msr_counter(cpu, 0x619, 10 + cpu, 0x1p-16);
  }
  auto m = probe(h, {.allow_msr = true});
  EXPECT_EQ(m->counters().size(), 4u);
  EXPECT_NEAR(watts(*m, *h), 100 + 102 + 10 + 12, 0.001);
}

TEST(Msr, AmdPackages) {
  auto h = std::make_shared<FakeHost>();
  add_cpus(*h, "AuthenticAMD", 1, {0});
  h->msr(0, 0xC0010299, 0xA1003);
  h->msr_counter(0, 0xC001029B, 65, 0x1p-16);
  EXPECT_NEAR(watts(*probe(h, {.allow_msr = true}), *h), 65, 0.001);
}

// ---- boards ----

TEST(Hwmon, EnergyOfAGraphicsBoardBesideTheProcessor) {
  auto h = fake_laptop();
  h->file("/sys/class/hwmon/hwmon3/name", {"i915\n"});
  h->counter("/sys/class/hwmon/hwmon3/energy1_input", 40);
  h->file("/sys/class/hwmon/hwmon4/name", {"nct6775\n"});
  h->file("/sys/class/hwmon/hwmon4/power1_input", {"5000000\n"});  // a rail: inside others
  auto m = probe(h);
  EXPECT_NEAR(watts(*m, *h), 56.5, 1e-4);
  EXPECT_EQ(report(*m, "hwmon").domains.size(), 2u);
}

TEST(Hwmon, DisabledSensorsAreLeftOut) {
  auto h = std::make_shared<FakeHost>();
  h->file("/sys/class/hwmon/hwmon0/name", {"i915\n"});
  h->counter("/sys/class/hwmon/hwmon0/energy1_input", 40);
  h->file("/sys/class/hwmon/hwmon0/energy1_enable", {"0\n"});
  EXPECT_FALSE(probe(h)->available());
}

TEST(Jetson, InputRailFromVoltsTimesAmperes) {
  auto h = std::make_shared<FakeHost>();
  const std::string f = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon2/";
  h->file(f + "in1_label", {"VDD_IN\n"});
  h->file(f + "in1_input", {"5000\n"});
  h->file(f + "curr1_input", {"2000\n"});
  h->file(f + "power1_input", {"10000\n"});  // milliwatts or microwatts? not read
  h->file(f + "in2_label", {"VDD_CPU_GPU_CV\n"});
  h->file(f + "in2_input", {"5000\n"});
  h->file(f + "curr2_input", {"900\n"});
  auto m = probe(h);
  EXPECT_EQ(m->describe(), "jetson VDD_IN");
  Window w(*m, "w");
  for (int k = 0; k < 10; ++k) h->advance(0.1), m->read();
  const WindowResult r = w.end();
  EXPECT_NEAR(r.gross.joules(), 10, 1e-6);
}

TEST(Battery, OnlyWhileDischarging) {
  auto h = std::make_shared<FakeHost>();
  const std::string f = "/sys/class/power_supply/BAT0/";
  h->file(f + "type", {"Battery\n"});
  h->file(f + "status", {"Charging\n"});
  h->file(f + "power_now", {"12000000\n"});
  auto m = probe(h);
  EXPECT_FALSE(m->available());
  EXPECT_TRUE(contains(report(*m, "battery").reason, "Charging"));
  h->file(f + "status", {"Discharging\n"});
  m = probe(h);
  Window w(*m, "w");
  for (int k = 0; k < 4; ++k) h->advance(1), m->read();
  EXPECT_NEAR(w.end().gross.joules(), 48, 1e-6);
  Window unplugged(*m, "plugged in meanwhile");
  h->file(f + "status", {"Charging\n"});
  h->advance(1);
  EXPECT_FALSE(unplugged.end().gross.available());
}

TEST(External, CommandAndFile) {
  auto h = fake_laptop();
  h->command("plug", {"100.5\n", "100.5\n", "112.5\n"});
  auto m = probe(h, {.external_command = "plug"});
  EXPECT_EQ(m->describe(), "external plug");  // it contains the processor: nothing is added to it
  Window w(*m, "w");
  h->advance(1);
  EXPECT_EQ(w.end().gross.uj, 12'000'000);
  auto file = fake_cloud();
  file->file("/run/joules", {"7\n", "7\n", "oops\n"});
  m = probe(file, {.external_file = "/run/joules"});
  Window bad(*m, "bad");
  EXPECT_FALSE(bad.end().gross.available());
  EXPECT_FALSE(probe(fake_cloud(), {.external_file = "/run/none"})->available());
}

TEST(External, ARealCommandWithATimeout) {
  auto io = HostIo::real();
  EXPECT_EQ(io->run("echo 42.5", 5).text, "42.5\n");
  EXPECT_NE(io->run("echo 1; exit 3", 5).error, 0);
  EXPECT_EQ(io->run("sleep 20 | cat", 0.1).error, ETIMEDOUT);
}

}  // namespace
}  // namespace wattle::energy
