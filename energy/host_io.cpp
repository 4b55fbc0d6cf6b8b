#include "energy/host_io.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace wattle::energy {
namespace {

constexpr size_t small_file = 1 << 16;

// The whole of a descriptor, up to small_file bytes; stops at `deadline` (0 = never).
FileText drain(int fd, int64_t deadline, int64_t (*now)()) {
  FileText out;
  char buf[4096];
  while (out.text.size() < small_file) {
    if (deadline != 0) {
      const int64_t left_ms = (deadline - now()) / 1'000'000;
      pollfd p{fd, POLLIN, 0};
      const int ready = left_ms <= 0 ? 0 : ::poll(&p, 1, static_cast<int>(left_ms));
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) {
        out.error = ETIMEDOUT;
        return out;
      }
    }
    const ssize_t n = ::read(fd, buf, sizeof buf);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) out.error = errno;
    if (n <= 0) break;
    out.text.append(buf, static_cast<size_t>(n));
  }
  return out;
}

int64_t monotonic_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

class RealHost final : public HostIo {
 public:
  explicit RealHost(std::string root) : root_(std::move(root)) {
    while (root_.ends_with('/')) root_.pop_back();
  }

  // By opening: a file may exist and still not be readable.
  FileText read_file(const std::string& path) override {
    const int fd = ::open((root_ + path).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {{}, errno};
    FileText t = drain(fd, 0, monotonic_ns);
    ::close(fd);
    return t;
  }

  std::vector<std::string> list(const std::string& path, int* error) override {
    std::vector<std::string> names;
    DIR* d = ::opendir((root_ + path).c_str());
    if (error) *error = d ? 0 : errno;
    if (!d) return names;
    while (const dirent* e = ::readdir(d))
      if (e->d_name[0] != '.') names.emplace_back(e->d_name);
    ::closedir(d);
    std::sort(names.begin(), names.end());
    return names;
  }

  int read_at(const std::string& path, uint64_t offset, void* to, size_t bytes) override {
    const int fd = ::open((root_ + path).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const ssize_t n = ::pread(fd, to, bytes, static_cast<off_t>(offset));
    const int why = n < 0 ? errno : (static_cast<size_t>(n) == bytes ? 0 : EIO);
    ::close(fd);
    return why;
  }

  int perf_open(uint32_t type, uint64_t config, int cpu) override {
    if (!root_.empty()) return -ENOENT;  // a folder of files has no kernel behind it
    perf_event_attr attr{};
    attr.size = sizeof attr;
    attr.type = type;
    attr.config = config;
    const long fd = ::syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : static_cast<int>(fd);
  }
  int perf_read(int fd, uint64_t* value) override {
    const ssize_t n = ::read(fd, value, sizeof *value);
    return n == sizeof *value ? 0 : (n < 0 ? errno : EIO);
  }
  void perf_close(int fd) override { ::close(fd); }

  FileText run(const std::string& command, double timeout_s) override {
    int pipe_fd[2];
    if (::pipe2(pipe_fd, O_CLOEXEC) != 0) return {{}, errno};
    const pid_t child = ::fork();
    if (child < 0) {
      const int why = errno;
      ::close(pipe_fd[0]), ::close(pipe_fd[1]);
      return {{}, why};
    }
    if (child == 0) {
      ::setpgid(0, 0);  // so that a pipeline can be stopped as a whole
      const int nothing = ::open("/dev/null", O_RDONLY);
      if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
      ::dup2(pipe_fd[1], STDOUT_FILENO);
      ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::setpgid(child, child);  // here as well: whoever comes first
    ::close(pipe_fd[1]);
    const int64_t deadline = monotonic_ns() + static_cast<int64_t>(timeout_s * 1e9);
    FileText t = drain(pipe_fd[0], deadline, monotonic_ns);
    ::close(pipe_fd[0]);
    int status = 0;
    pid_t ended = 0;
    // Its output may end long before it does.
    while (t.error == 0 && (ended = ::waitpid(child, &status, WNOHANG)) == 0) {
      if (monotonic_ns() > deadline) t.error = ETIMEDOUT;
      else sleep_s(0.001);
    }
    if (ended != child) {
      ::kill(-child, SIGKILL);
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    }
    if (t.error == 0 && status != 0) t.error = ECHILD;
    return t;
  }

  int64_t now_ns() override { return monotonic_ns(); }
  void sleep_s(double seconds) override {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }

 private:
  std::string root_;
};

}  // namespace

std::shared_ptr<HostIo> HostIo::real(std::string root) {
  return std::make_shared<RealHost>(std::move(root));
}

}  // namespace wattle::energy
