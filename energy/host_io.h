// What the meters see of the host: files, directories, devices and the clock. Replaced in tests by
// a folder with scripted files (energy/test_kit.h), so that no meter needs hardware to be tested.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace wattle::energy {

/// Text of a file, or the errno of the attempt.
struct FileText {
  std::string text;
  int error = 0;  ///< 0, ENOENT, EACCES, EIO, ...
};

class HostIo {
 public:
  virtual ~HostIo() = default;
  /// Opens and reads a small file; `path` is absolute on the host ("/sys/class/...").
  virtual FileText read_file(const std::string& path) = 0;
  /// Names in a directory, sorted; empty with `error` set when it cannot be listed.
  virtual std::vector<std::string> list(const std::string& path, int* error = nullptr) = 0;
  /// `bytes` at `offset` of a device file (MSR); errno, 0 = done.
  virtual int read_at(const std::string& path, uint64_t offset, void* to, size_t bytes) = 0;
  /// Opens a counting perf event for all processes on `cpu`; a descriptor, or -errno.
  virtual int perf_open(uint32_t type, uint64_t config, int cpu) = 0;
  virtual int perf_read(int fd, uint64_t* value) = 0;  ///< errno, 0 = done
  virtual void perf_close(int fd) = 0;
  /// Runs a command and returns what it prints; error ETIMEDOUT after `timeout_s`.
  virtual FileText run(const std::string& command, double timeout_s) = 0;
  virtual int64_t now_ns() = 0;  ///< monotonic
  virtual void sleep_s(double seconds) = 0;

  /// The real host. With a `root`, paths are looked up below that folder instead of "/".
  static std::shared_ptr<HostIo> real(std::string root = "");
};

}  // namespace wattle::energy
