// From a meter to a calibrated run, on a host whose energy follows known coefficients.
#include "green/calibrate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/counters.h"
#include "core/rng.h"
#include "energy/test_kit.h"
#include "green/energy_session.h"
#include "green/trainer.h"
#include "ops/ops.h"

namespace wattle::green {
namespace {

constexpr double watts = 9, operation = 80e-12, byte = 200e-12;
const std::string counter = "/sys/class/powercap/intel-rapl:0/energy_uj";

struct Bench {
  std::shared_ptr<energy::FakeHost> host = std::make_shared<energy::FakeHost>();
  std::shared_ptr<energy::Meter> meter;
  Bench() {
    energy::add_zone(*host, "intel-rapl:0", "package-0", watts);
    host->file("/proc/cpuinfo", {"model name\t: Synthetic\n"});
    host->file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", {"performance\n"});
    meter = energy::Meter::probe({.nvml_library = "/nonexistent.so"}, host);
  }
  // A tenth of a second of work at an intensity, credited to a real op's row.
  CalibrationKernel load(double intensity) {
    return {"intensity " + std::to_string(intensity), [this, intensity] {
              const double bytes = std::min(2e9, 10e9 / intensity);
              spend(static_cast<int64_t>(bytes * intensity), static_cast<int64_t>(bytes), 0.1);
            }};
  }
  void spend(int64_t ops, int64_t bytes, double seconds) {
    Cost c;
    c.add = ops;
    c.read = bytes;
    counters().add({counters().current, &find_op("add"), "ref", DType::f32, Phase::forward}, c, c,
                   seconds * 1e9);
    host->advance(seconds);
    host->spend(counter, 1e6 * (operation * double(ops) + byte * double(bytes)));
  }
  std::vector<CalibrationKernel> loads() {
    std::vector<CalibrationKernel> out;
    for (int i = 0; i < 9; ++i) out.push_back(load(0.25 * std::pow(2, i)));
    return out;
  }
};

TEST(Calibrate, FindsTheHostsCoefficients) {
  Bench b;
  std::vector<std::string> order;
  const auto windows =
      calibration_windows(*b.meter, b.loads(), {}, [&](int, int n, const std::string& kernel) {
        EXPECT_EQ(n, 33);
        order.push_back(kernel);
      });
  EXPECT_EQ(windows.size(), 33u);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  const auto fit = energy::fit_host_model(windows, this_host(*b.meter));
  ASSERT_EQ(fit.refused, "");
  EXPECT_NEAR(fit.model.coef[0] / watts, 1, 0.001);
  EXPECT_NEAR(fit.model.coef[1] / byte, 1, 0.001);
  EXPECT_NEAR(fit.model.coef[2] / operation, 1, 0.001);
  EXPECT_EQ(fit.model.host.cpu, "Synthetic");
  EXPECT_EQ(fit.model.host.governor, "performance");
}

TEST(Calibrate, LeavesTheCountersAlone) {
  Bench b;
  counters() = Counters();
  b.spend(10, 20, 0.1);
  const int64_t calls = counters().total().calls;
  calibration_windows(*b.meter, {b.load(1)}, {.repeats = 1, .idle_windows = 1});
  EXPECT_EQ(counters().total().calls, calls);
}

TEST(Calibrate, NeedsAMeter) {
  auto cloud = energy::Meter::probe({.nvml_library = "/nonexistent.so"}, energy::fake_cloud());
  EXPECT_THROW(calibration_windows(*cloud, {}, {}), device_error);
}

TEST(Calibrate, AFailingMeterIsAnError) {
  Bench b;
  b.host->fails(counter, 5);
  EXPECT_THROW(calibration_windows(*b.meter, {b.load(1)}, {.repeats = 1}), io_error);
}

// The real kernels must be able to tell time, bytes and operations apart: intensities from 0 to
// 100.
TEST(Calibrate, RealWorkloadsSpreadTheirIntensity) {
  double lowest = 1e9, highest = 0;
  for (const CalibrationKernel& w : default_workloads()) {
    counters() = Counters();
    w.once();
    const Cost& c = counters().total().executed;
    const double intensity = energy::operations_of(c) / double(counters().total().cost.bytes());
    lowest = std::min(lowest, intensity);
    highest = std::max(highest, intensity);
  }
  EXPECT_EQ(lowest, 0);
  EXPECT_GT(highest, 100);
}

TEST(Replay, RepeatsUntilTheCounterHasMovedOften) {
  Bench b;
  const Replay r =
      replay(*b.meter, [&] { b.spend(1'000'000'000, 0, 0.01); }, 0.1, {true, watts, 0.1, 5});
  EXPECT_GE(r.repeats, 10);
  EXPECT_NEAR(r.seconds, 0.01, 1e-9);
  EXPECT_NEAR(r.gross.joules(), 0.09 + 0.08, 1e-5);
  EXPECT_NEAR(r.net.joules(), 0.08, 1e-5);
  EXPECT_EQ(r.gross.kind, JouleKind::measured);
  auto cloud = energy::Meter::probe({.nvml_library = "/nonexistent.so"}, energy::fake_cloud());
  int n = 0;
  const Replay none = replay(
      *cloud, [&] { ++n, cloud->io().sleep_s(0.2); }, 0.5);
  EXPECT_FALSE(none.gross.available());
  EXPECT_EQ(none.note, "no meter on this host");
}

// ---- sessions: measured, calibrated, or from the table; and they say which ----

struct CalibrationFile {
  const std::string path = std::filesystem::temp_directory_path() /
                           ("wattle_calibration_" + std::to_string(::getpid()) + ".json");
  explicit CalibrationFile(Bench& b) {
    auto fit =
        energy::fit_host_model(calibration_windows(*b.meter, b.loads(), {}), this_host(*b.meter));
    fit.model.date = "2026-05-06T07:08:09Z";
    std::ofstream(path) << energy::to_json(fit.model);
    ::setenv("WATTLE_CALIBRATION", path.c_str(), 1);
  }
  ~CalibrationFile() {
    std::filesystem::remove(path);
    ::setenv("WATTLE_CALIBRATION", "/nonexistent", 1);
  }
};

int64_t row_sum(const Ledger& l) {
  int64_t uj = 0;
  for (const LedgerRow& r : l.rows) uj += r.joules.uj;
  return uj;
}

TEST(Session, SharesAMeasuredRunOutExactly) {
  Bench b;
  const CalibrationFile file(b);
  EnergySession session(1, b.meter);
  EXPECT_NE(session.sentence().find("measured by powercap package-0"), std::string::npos);
  EXPECT_NE(session.sentence().find("2026-05-06"), std::string::npos);
  counters() = Counters();
  EnergyRun run;
  for (int epoch = 0; epoch < 2; ++epoch) {
    session.begin(run, "epoch");
    {
      const Scope s("conv");
      b.spend(10'000'000'000, 800'000'000, 0.1);
    }
    {
      const Scope s("relu");
      b.spend(500'000'000, 2'000'000'000, 0.1);
    }
    b.host->advance(0.05);  // nobody's
    run.end();
    b.host->advance(10);  // evaluation: outside
  }
  const Ledger l = session.ledger(counters(), {}, run);
  const double conv = watts * 0.2 + 2 * (operation * 1e10 + byte * 8e8);
  const double relu = watts * 0.2 + 2 * (operation * 5e8 + byte * 2e9);
  EXPECT_EQ(row_sum(l), l.joules.uj);
  EXPECT_EQ(l.joules.kind, JouleKind::measured);
  EXPECT_NEAR(l.joules.joules(), conv + relu + watts * 0.1, 1e-4);
  ASSERT_EQ(l.rows.size(), 3u);
  EXPECT_NEAR(l.rows[0].joules.joules() / conv, 1, 0.01);
  EXPECT_NEAR(l.rows[1].joules.joules() / relu, 1, 0.01);
  EXPECT_EQ(l.rows[2].layer, unattributed_row);
  EXPECT_NEAR(l.rows[2].joules.joules(), watts * 0.1, 0.02);
  EXPECT_EQ(l.rows[0].joules.kind, JouleKind::attributed);
  EXPECT_NEAR(l.kappa, 1, 0.01);
  EXPECT_EQ(l.warning, "");
  EXPECT_NEAR(l.net.joules(), conv + relu - watts * 0.4, 0.01);
  ASSERT_EQ(l.ops.size(), 1u);
  EXPECT_EQ(l.ops[0].joules.uj + l.rows[2].joules.uj, l.joules.uj);
}

TEST(Session, WithoutAMeterTheCalibrationModels) {
  Bench b;
  const CalibrationFile file(b);
  auto host = energy::fake_cloud();
  host->file("/proc/cpuinfo", {"model name\t: Synthetic\n"});
  host->file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", {"performance\n"});
  EnergySession session(1, energy::Meter::probe({.nvml_library = "/nonexistent.so"}, host));
  EXPECT_NE(session.sentence().find("modelled by the calibration"), std::string::npos);
  counters() = Counters();
  EnergyRun run;
  session.begin(run, "w");
  b.spend(1'000'000'000, 1'000'000, 0.1);
  b.spend(2'000'000'000, 3'000'000, 0.2);
  run.end();
  const Ledger l = session.ledger(counters(), {}, run);
  EXPECT_EQ(l.joules.kind, JouleKind::modelled_calibrated);
  EXPECT_EQ(row_sum(l), l.joules.uj);
  EXPECT_NEAR(l.joules.joules(), watts * 0.3 + operation * 3e9 + byte * 4e6, 0.01);
}

TEST(Session, ACalibrationOfAnotherHostIsNotUsedAndThatIsSaid) {
  Bench b;
  const CalibrationFile file(b);
  auto m = energy::Meter::probe({.nvml_library = "/nonexistent.so"}, energy::fake_cloud());
  EnergySession session(1, m);
  EXPECT_EQ(session.calibration(), nullptr);
  EXPECT_NE(session.sentence().find("is not used: calibrated with CPU 'Synthetic'"),
            std::string::npos)
      << session.sentence();
  EXPECT_NE(session.sentence().find("modelled by published energies"), std::string::npos);
}

TEST(Session, ABrokenCalibrationFileIsNamed) {
  const std::string path = std::filesystem::temp_directory_path() / "wattle_broken.json";
  std::ofstream(path) << "{";
  ::setenv("WATTLE_CALIBRATION", path.c_str(), 1);
  auto m = energy::Meter::probe({.nvml_library = "/nonexistent.so"}, energy::fake_cloud());
  try {
    EnergySession s(1, m);
    ADD_FAILURE() << "accepted";
  } catch (const value_error& e) { EXPECT_EQ(std::string(e.what()).find(path), 0u) << e.what(); }
  ::setenv("WATTLE_CALIBRATION", "/nonexistent", 1);
  std::filesystem::remove(path);
}

// A real training step: nothing that it does may lie outside the calibrated model.
TEST(Session, ACalibrationCoversATrainingStep) {
  Bench b;
  const CalibrationFile file(b);
  EnergySession session(1, b.meter);
  manual_seed(1);
  const auto net = make_net({"cnn", 3, 1}, image_spec("fashion-mnist"));
  const auto opt = nn::make_optimizer("adam", net->named_parameters(), 1e-3);
  const Tensor x = Tensor::zeros({4, 1, 28, 28}, DType::u8), y = Tensor::zeros({4}, DType::i64);
  counters() = Counters();
  EnergyRun run;
  session.begin(run, "step");
  train_step(*net, *opt, x, y);
  b.host->advance(0.5);
  run.end();
  const Ledger l = session.ledger(counters(), module_kinds(*net), run);
  EXPECT_EQ(row_sum(l), l.joules.uj);
  EXPECT_EQ(l.rows[0].joules.kind, JouleKind::attributed);
  for (const Row& r : counters().rows())
    EXPECT_TRUE(session.calibration()
                    ->predict(energy::work_of(r.executed, std::string(name(r.key.dtype)), 0))
                    .available())
        << r.key.op->name << " " << name(r.key.dtype);
}

}  // namespace
}  // namespace wattle::green
