#include "data/isolated.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>

#include "core/error.h"

namespace wattle::io {
namespace {

bool write_all(int fd, const char* p, size_t n) {
  while (n > 0) {
    const ssize_t w = ::write(fd, p, n);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return false;
    p += w, n -= static_cast<size_t>(w);
  }
  return true;
}

// The first byte says whether a result follows or the text of an error.
[[noreturn]] void child(int fd, const std::function<std::string()>& read, unsigned seconds) {
  for (const int s : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGALRM}) std::signal(s, SIG_DFL);
  ::alarm(seconds);
  if (const int null = ::open("/dev/null", O_WRONLY); null >= 0) ::dup2(null, STDERR_FILENO);
  std::string out;
  try {
    out = "r" + read();
  } catch (const std::exception& e) { out = std::string("e") + e.what(); }
  ::_exit(write_all(fd, out.data(), out.size()) ? 0 : 1);
}

}  // namespace

std::string isolated(const std::string& what, const std::function<std::string()>& read,
                     unsigned seconds) {
  int ends[2];
  if (::pipe(ends) != 0) throw io_error(str(what, ": pipe: ", std::strerror(errno)));
  const pid_t pid = ::fork();
  if (pid < 0) {
    ::close(ends[0]), ::close(ends[1]);
    throw io_error(str(what, ": fork: ", std::strerror(errno)));
  }
  if (pid == 0) {
    ::close(ends[0]);
    child(ends[1], read, seconds);
  }
  ::close(ends[1]);
  std::string out;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(ends[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    out.append(buffer, static_cast<size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
    throw io_error(str(what, ": is damaged: reading it took longer than ", seconds, " s"));
  if (WIFSIGNALED(status))
    throw io_error(
        str(what, ": is damaged: the library that reads it ended with signal ", WTERMSIG(status)));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || out.empty())
    throw io_error(str(what, ": is damaged: the process that reads it gave no result"));
  if (out[0] == 'e') throw io_error(out.substr(1));
  return out.substr(1);
}

}  // namespace wattle::io
