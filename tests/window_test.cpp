// Windows: gross, idle and net; nested and concurrent; devices that still run.
#include "energy/window.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "core/error.h"
#include "energy/test_kit.h"

namespace wattle::energy {
namespace {

struct Bench {
  std::shared_ptr<FakeHost> host = std::make_shared<FakeHost>();
  std::shared_ptr<Meter> meter;
  const std::string counter = "/sys/class/powercap/intel-rapl:0/energy_uj";
  Bench() {
    add_zone(*host, "intel-rapl:0", "package-0", 10);
    meter = Meter::probe({.nvml_library = "/nonexistent.so"}, host);
  }
  void work(double seconds, double joules) {
    host->advance(seconds);
    host->spend(counter, joules * 1e6);
  }
};

TEST(Window, GrossIdleAndNet) {
  Bench b;
  const IdleBaseline idle = measure_idle(*b.meter, 5);
  ASSERT_TRUE(idle.known);
  EXPECT_NEAR(idle.watts, 10, 1e-4);
  Window w(*b.meter, "epoch", idle);
  b.work(2, 7);
  const WindowResult r = w.end();
  EXPECT_EQ(r.name, "epoch");
  EXPECT_NEAR(r.seconds, 2, 1e-9);
  EXPECT_NEAR(r.gross.joules(), 27, 1e-5);
  EXPECT_EQ(r.gross.kind, JouleKind::measured);
  EXPECT_NEAR(r.idle.joules(), 20, 1e-3);
  EXPECT_NEAR(r.net.joules(), 7, 1e-3);
  EXPECT_EQ(r.gross.uj, r.idle.uj + r.net.uj);
  EXPECT_EQ(r.net.kind, JouleKind::attributed);
  EXPECT_GE(r.net.sd_uj, r.gross.sd_uj);
}

TEST(Window, ANegativeNetStaysNegative) {
  Bench b;
  Window w(*b.meter, "colder", {true, 12, 0.1, 5});
  b.work(2, 0);
  EXPECT_NEAR(w.end().net.joules(), -4, 1e-4);
}

TEST(Window, NestedAndOverlapping) {
  Bench b;
  Window outer(*b.meter, "outer");
  b.work(1, 1);
  Window inner(*b.meter, "inner"), across(*b.meter, "across");
  b.work(1, 2);
  const double i = inner.end().gross.joules();
  b.work(1, 4);
  const double o = outer.end().gross.joules();
  b.work(1, 8);
  const double a = across.end().gross.joules();
  EXPECT_NEAR(i, 12, 1e-5);
  EXPECT_NEAR(o, 37, 1e-5);
  EXPECT_NEAR(a, 44, 1e-5);
}

TEST(Window, OnManyThreads) {
  Bench b;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) {
        Window w(*b.meter, "w");
        b.work(0.01, 0.001);
        EXPECT_GT(w.end().gross.uj, 0);
      }
    });
  for (std::thread& t : threads) t.join();
}

TEST(Window, EndsOnce) {
  Bench b;
  Window w(*b.meter, "w");
  w.end();
  EXPECT_THROW(w.end(), value_error);
}

// A device whose work is only done, and paid for, when it is waited for.
TEST(Window, WaitsForDevicesAtBothEnds) {
  Bench b;
  double queued = 0;
  set_device_sync([&] {
    b.work(queued, 3 * queued);
    queued = 0;
  });
  queued = 1;  // belongs to what came before
  Window w(*b.meter, "w");
  queued = 2;
  const WindowResult r = w.end();
  set_device_sync({});
  EXPECT_NEAR(r.seconds, 2, 1e-9);
  EXPECT_NEAR(r.gross.joules(), 26, 1e-4);
}

TEST(Window, UncertaintyFollowsFromTheCounter) {
  // 1 ms over 100 ms 0.41 %, 100 ms over 5 s 0.82 %
  EXPECT_NEAR(gain_sd_uj(1e6, 0.1, 0.001, 0) / 1e6, 0.0041, 0.00005);
  EXPECT_NEAR(gain_sd_uj(1e6, 5, 0.1, 0) / 1e6, 0.0082, 0.0001);
  EXPECT_NEAR(gain_sd_uj(1e6, 5, 0.1, 0.05) / 1e6, std::hypot(0.05, 0.008165), 1e-6);
  EXPECT_EQ(gain_sd_uj(1e6, 0.05, 0.1, 0), 1e6);  // shorter than an update: nothing is known
}

TEST(Idle, UnknownWithoutAMeterAndRefusesNonsense) {
  auto m = Meter::probe({.nvml_library = "/nonexistent.so"}, fake_cloud());
  EXPECT_FALSE(measure_idle(*m, 1).known);
  EXPECT_THROW(measure_idle(*m, 0), value_error);
  EXPECT_THROW(measure_idle(*m, 1, 1), value_error);
}

}  // namespace
}  // namespace wattle::energy
