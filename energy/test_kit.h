// A host made of text, to test what reads meters without having any: files with scripted contents
// and errors, registers, perf events and a clock. For Wattle's tests and for yours.
//
//     auto host = std::make_shared<FakeHost>();
//     host->file("/sys/class/powercap/intel-rapl:0/name", {"package-0\n"});
//     host->counter("/sys/class/powercap/intel-rapl:0/energy_uj", 15);   // 15 W
//     auto meter = Meter::probe({.nvml_library = "none"}, host);
#pragma once
#include <map>
#include <mutex>

#include "energy/host_io.h"

namespace wattle::energy {

class FakeHost final : public HostIo {
 public:
  /// Every read of the file gives the next text; the last one repeats.
  void file(const std::string& path, std::vector<std::string> texts);
  /// Opening the file fails with this errno.
  void fails(const std::string& path, int error);
  /// The file counts the microjoules of `watts` on this host's clock, from `start`, and starts
  /// again at 0 after `modulus` (0 = never).
  void counter(const std::string& path, double watts, double start = 0, double modulus = 0);
  /// The same as a perf event of this type and config on this CPU, in counts of `unit_j` joules.
  void perf(uint32_t type, uint64_t config, int cpu, double watts, double unit_j);
  void perf_fails(int error) { perf_error_ = error; }
  /// A register of /dev/cpu/CPU/msr: fixed, or counting `watts` in units of `unit_j`, 32 bits.
  void msr(int cpu, uint64_t address, uint64_t value);
  void msr_counter(int cpu, uint64_t address, double watts, double unit_j);
  /// run() gives these texts in turn.
  void command(const std::string& command, std::vector<std::string> texts) {
    file("command:" + command, std::move(texts));
  }
  /// Moves the clock; negative values turn it back.
  void advance(double seconds);
  /// Extra energy for a counter made by counter(), in microjoules: work that was done.
  void spend(const std::string& path, double uj);

  FileText read_file(const std::string& path) override;
  std::vector<std::string> list(const std::string& path, int* error) override;
  int read_at(const std::string& path, uint64_t offset, void* to, size_t bytes) override;
  int perf_open(uint32_t type, uint64_t config, int cpu) override;
  int perf_read(int fd, uint64_t* value) override;
  void perf_close(int fd) override;
  FileText run(const std::string& command, double timeout_s) override;
  int64_t now_ns() override;
  void sleep_s(double seconds) override { advance(seconds); }

  /// Writes the tree to a folder as it is now, for HostIo::real(folder). Scripts give their first
  /// text. Throws io_error.
  void write_to(const std::string& folder);

 private:
  struct Ramp {
    double watts = 0, start_uj = 0, modulus = 0, unit_uj = 1;
    int64_t born_ns = 0;
  };
  struct File {
    std::vector<std::string> texts;
    size_t next = 0;
    int error = 0;
    bool is_counter = false;
    Ramp ramp;
  };
  double value(const Ramp& r) const;
  std::string text_of(File& f);
  std::recursive_mutex lock_;  // the meter's poller reads too
  std::map<std::string, File> files_;
  std::map<std::pair<int, uint64_t>, File> registers_;
  std::map<std::string, Ramp> events_;  // "type:config:cpu"
  std::vector<Ramp> open_;
  int perf_error_ = 0;
  int64_t ns_ = 1'000'000'000;
};

/// Hosts as they are met. A laptop: psys 30 W, package-0 15 W with core and uncore, dram 1.5 W, and
/// the mmio twin of the package. A server with two sockets: packages 100 and 90 W, drams 10 and 9
/// W. A cloud machine: nothing.
std::shared_ptr<FakeHost> fake_laptop();
std::shared_ptr<FakeHost> fake_two_sockets();
std::shared_ptr<FakeHost> fake_cloud();

/// Adds a powercap zone that counts `watts`: zone("intel-rapl:0:1", "dram", 1.5).
void add_zone(FakeHost& h, const std::string& zone, const std::string& name, double watts,
              double start_uj = 0, double modulus = 262143328850);

}  // namespace wattle::energy
