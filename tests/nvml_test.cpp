// NVIDIA's library through a stand-in with scripted GPUs (tests/fake_nvml).
#include "energy/nvml.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "energy/gpu_watch.h"
#include "energy/test_kit.h"
#include "energy/window.h"

namespace wattle::energy {
namespace {

class Nvidia : public ::testing::Test {
 protected:
  void script(const std::string& text) {
    std::ofstream(path_) << text;
    ::setenv("WATTLE_FAKE_NVML", path_.c_str(), 1);
  }
  std::shared_ptr<Meter> probe() {
    return Meter::probe({.nvml_library = WATTLE_FAKE_NVML_LIB}, host);
  }
  std::string reason(const Meter& m) {
    for (const SourceReport& r : m.sources())
      if (r.name == "nvml") return r.reason;
    return "";
  }
  void TearDown() override {
    std::filesystem::remove(path_);
    for (const char* v : {"WATTLE_FAKE_NVML", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})
      ::unsetenv(v);
  }
  std::shared_ptr<FakeHost> host = fake_cloud();

 private:
  const std::string path_ =
      std::filesystem::temp_directory_path() /
      ("wattle_nvml_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
       std::to_string(::getpid()));
};

const std::string two_gpus =
    "gpu GPU-aaaaaaaa-1111 H100\nenergy 1000 1000 5000\n"
    "gpu GPU-bbbbbbbb-2222 H100\nenergy 2000 2000 9000\n";

TEST_F(Nvidia, EnergyCounterInMillijoules) {
  // probe reads once to see whether there is a counter, then begin, two ends.
  script("gpu GPU-aaaaaaaa-1111 H100\nenergy 1000 1000 1000 4500\n");
  auto m = probe();
  EXPECT_EQ(m->describe(), "nvml H100 GPU-aaaaaaaa");
  Window first(*m, "no step yet"), second(*m, "step");
  EXPECT_EQ(first.end().gross.uj, 3'500'000);
  EXPECT_EQ(second.end().gross.uj, 3'500'000);
}

TEST_F(Nvidia, NoStepIsZeroWithItsUncertaintyAndNoFault) {
  script("gpu GPU-aaaaaaaa-1111 H100\nenergy 1000\n");
  auto m = probe();
  Window w(*m, "w");
  host->advance(0.05);
  const WindowResult r = w.end();
  EXPECT_TRUE(r.gross.available());
  EXPECT_EQ(r.gross.uj, 0);
}

// CUDA's device 0 may be NVML's last: what is asked for is found by its UUID, whatever the order,
// and whatever CUDA_VISIBLE_DEVICES hides from others.
TEST_F(Nvidia, TheGpuInUseIsFoundByUuidInAnyOrder) {
  const std::string a = "gpu GPU-aaaaaaaa-1111 H100\nenergy 1000 1000 5000\n";
  const std::string b = "gpu GPU-bbbbbbbb-2222 H200\nenergy 2000 2000 9000\n";
  for (const std::string& order : {a + b, b + a}) {
    script(order);
    const auto m =
        Meter::probe({.nvml_library = WATTLE_FAKE_NVML_LIB, .gpu_uuid = "GPU-bbbbbbbb-2222"}, host);
    EXPECT_EQ(m->describe(), "nvml H200 GPU-bbbbbbbb");
    Window w(*m, "w");
    EXPECT_EQ(w.end().gross.uj, 7'000'000);
  }
  script(a + b);
  const auto none =
      Meter::probe({.nvml_library = WATTLE_FAKE_NVML_LIB, .gpu_uuid = "GPU-cccccccc"}, host);
  EXPECT_FALSE(none->available());
  EXPECT_EQ(reason(*none), "no GPU has the UUID GPU-cccccccc");
}

TEST_F(Nvidia, GpusAddUpAndVisibleOnesAreTakenByUuid) {
  script(two_gpus);
  EXPECT_EQ(probe()->counters().size(), 2u);
  ::setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb", 1);
  EXPECT_EQ(probe()->describe(), "nvml H100 GPU-bbbbbbbb");
  ::setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  EXPECT_EQ(probe()->counters().size(), 2u);  // CUDA's own order: a number cannot be mapped
  ::setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
  EXPECT_EQ(probe()->describe(), "nvml H100 GPU-bbbbbbbb");
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_FALSE(probe()->available());
}

TEST_F(Nvidia, WithoutACounterPowerIsIntegrated) {
  script("gpu GPU-aaaaaaaa-1111 P100\npower 250000\n");
  auto m = probe();
  Window w(*m, "w");
  for (int k = 0; k < 10; ++k) host->advance(0.1), m->read();
  EXPECT_NEAR(w.end().gross.joules(), 250, 1e-6);
}

TEST_F(Nvidia, BackwardsIsAFault) {
  script("gpu GPU-aaaaaaaa-1111 H100\nenergy 5000 5000 4000\n");
  auto m = probe();
  Window w(*m, "w");
  EXPECT_FALSE(w.end().gross.available());
}

TEST_F(Nvidia, ErrorsAndMigAreRefusedInWords) {
  script("gpu GPU-aaaaaaaa-1111 H100\nenergy 1\npower 1\nmig\n");
  EXPECT_NE(reason(*probe()).find("MIG"), std::string::npos);
  script("gpu GPU-aaaaaaaa-1111 H100\nerror energy 4\nerror fields 4\nerror power 4\n");
  EXPECT_NE(reason(*probe()).find("Insufficient Permissions"), std::string::npos);
  script("error init 9\n");
  EXPECT_NE(reason(*probe()).find("Driver Not Loaded"), std::string::npos);
  script("error count 4\n");
  EXPECT_NE(reason(*probe()).find("nvmlDeviceGetCount_v2"), std::string::npos);
  script("");
  EXPECT_EQ(reason(*probe()), "no visible GPU");
}

TEST_F(Nvidia, AbsentOrForeignLibrary) {
  std::string why;
  EXPECT_EQ(Nvml::load("/nonexistent/libnvidia-ml.so", &why), nullptr);
  EXPECT_NE(why.find("cannot be loaded"), std::string::npos);
  why.clear();
  EXPECT_EQ(Nvml::load("libz.so.1", &why), nullptr);  // loads, but has none of the functions
  EXPECT_NE(why.find("lacks"), std::string::npos) << why;
}

TEST_F(Nvidia, TemperatureAndPowerForLogs) {
  script("gpu GPU-aaaaaaaa-1111 H100\npower 312500\ntemperature 61\n");
  std::string why;
  auto n = Nvml::load(WATTLE_FAKE_NVML_LIB, &why);
  ASSERT_TRUE(n) << why;
  const auto d = n->devices(&why);
  EXPECT_EQ(n->instant_watts(d[0], &why), 312.5);
  EXPECT_EQ(n->temperature_c(d[0], &why), 61);
  EXPECT_FALSE(n->energy_mj(d[0], &why));
  EXPECT_NE(why.find("Not Supported"), std::string::npos);
}

TEST_F(Nvidia, AWatchSamplesTheGpuWithTheUuid) {
  script(
      "gpu GPU-aaaaaaaa-1111 H100\npower 100000\n"
      "gpu GPU-bbbbbbbb-2222 H200\npower 250000 300000 310000\ntemperature 55\n"
      "clocks 1980 3201\n");
  GpuWatch watch("GPU-bbbbbbbb-2222", 1, WATTLE_FAKE_NVML_LIB);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::vector<GpuSample> s = watch.stop();
  ASSERT_GE(s.size(), 3u);
  EXPECT_EQ(s[0].watts, 250);
  EXPECT_EQ(s[1].watts, 300);
  EXPECT_EQ(s.back().watts, 310);
  EXPECT_EQ(s[0].celsius, 55);
  EXPECT_EQ(s[0].sm_mhz, 1980);
  EXPECT_EQ(s[0].memory_mhz, 3201);
  EXPECT_GT(s.back().ns, s[0].ns);
  EXPECT_EQ(watch.stop().size(), s.size());
  GpuWatch other("GPU-aaaaaaaa-1111", 1, WATTLE_FAKE_NVML_LIB);
  const GpuSample first = other.stop().at(0);
  EXPECT_EQ(first.watts, 100);
  EXPECT_TRUE(std::isnan(first.sm_mhz));  // this one does not tell
  EXPECT_TRUE(GpuWatch("GPU-cccccccc-3333", 1, WATTLE_FAKE_NVML_LIB).stop().empty());
  EXPECT_TRUE(GpuWatch("GPU-aaaaaaaa-1111", 1, "/nowhere.so").stop().empty());
}

}  // namespace
}  // namespace wattle::energy
