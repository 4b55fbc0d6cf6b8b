#include "data/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::data {
namespace {

using Curl = std::unique_ptr<CURL, void (*)(CURL*)>;

Curl new_curl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  Curl c(curl_easy_init(), curl_easy_cleanup);
  if (!c) throw io_error("download: libcurl cannot start");
  return c;
}

// PATH.part, held by one process at a time.
class PartFile {
 public:
  explicit PartFile(const std::string& path) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) io::throw_errno(path, "create", errno);
    struct stat st {};
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw io_error(str(path, ": another process is downloading to it"));
    }
    ::fstat(fd_, &st);
    size_ = st.st_size;
  }
  ~PartFile() { ::close(fd_); }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  int64_t size() const { return size_; }
  // These two return errno, 0 when all went well.
  int append(const char* p, size_t n) {
    while (n > 0) {
      const ssize_t done = ::pwrite(fd_, p, n, size_);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return errno;
      p += done;
      n -= static_cast<size_t>(done);
      size_ += done;
    }
    return 0;
  }
  int restart() {
    if (::ftruncate(fd_, 0) != 0) return errno;
    size_ = 0;
    return 0;
  }

 private:
  int fd_ = -1;
  int64_t size_ = 0;
};

// One request, and what its callbacks need.
struct Transfer {
  CURL* curl;
  PartFile& part;
  const std::string& url;
  const DownloadOptions& options;
  int64_t start = 0;     // bytes of the part that the request leaves out
  int64_t total = -1;    // of the whole file, by the server
  bool checked = false;  // the status was looked at
  int write_error = 0;
  bool too_large = false;

  long status() const {
    long code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
  }
};

// A server that ignores the range sends the file from the start with status 200.
void look_at_status(Transfer& t) {
  if (t.checked) return;
  t.checked = true;
  if (t.start > 0 && t.status() != 206) {
    t.write_error = t.part.restart();
    t.start = 0;
  }
  curl_off_t length = -1;
  curl_easy_getinfo(t.curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  t.total = length < 0 ? -1 : t.start + length;
}

size_t on_data(char* p, size_t size, size_t count, void* user) {
  Transfer& t = *static_cast<Transfer*>(user);
  const size_t n = size * count;
  look_at_status(t);
  if (t.write_error) return 0;
  if (t.part.size() + static_cast<int64_t>(n) > t.options.max_bytes) {
    t.too_large = true;
    return 0;
  }
  t.write_error = t.part.append(p, n);
  if (t.write_error) return 0;
  if (t.options.progress) t.options.progress(t.options.user, t.url, t.part.size(), t.total);
  return n;
}

void set_options(Transfer& t) {
  CURL* c = t.curl;
  curl_easy_setopt(c, CURLOPT_URL, t.url.c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  curl_easy_setopt(c, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(c, CURLOPT_MAXREDIRS, 5L);
  curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, static_cast<long>(t.options.stall_seconds));
  curl_easy_setopt(c, CURLOPT_USERAGENT, "wattle");
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
}

enum class Outcome { complete, broken, nothing_left };

// One connection. Broken ones are worth another; everything else that is wrong throws.
Outcome attempt(const std::string& url, PartFile& part, const DownloadOptions& options,
                std::string& why) {
  const Curl curl = new_curl();
  Transfer t{
      .curl = curl.get(), .part = part, .url = url, .options = options, .start = part.size()};
  set_options(t);
  // Not CURLOPT_RESUME_FROM: that one gives up when the server ignores the range.
  const std::string range = str(t.start, "-");
  if (t.start > 0) curl_easy_setopt(t.curl, CURLOPT_RANGE, range.c_str());
  const CURLcode code = curl_easy_perform(t.curl);
  const long status = t.status();
  if (code == CURLE_OK) {
    look_at_status(t);  // no data, no callback
    if (!t.write_error) return Outcome::complete;
  }
  if (t.write_error) io::throw_errno(url + ".part", "write", t.write_error);
  if (t.too_large)
    throw io_error(
        str(url, ": found more than ", options.max_bytes, " bytes, expected at most so"));
  if (status == 416 && t.start > 0) return Outcome::nothing_left;
  const bool busy = status == 429 || status == 408 || status >= 500;
  if (status >= 400 && !busy)
    throw io_error(str(url, ": found HTTP status ", status, ", expected 200"));
  if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
    throw io_error(str(url, ": ", curl_easy_strerror(code), ", expected an http or https address"));
  why = status >= 400 ? str("found HTTP status ", status, ", expected 200")
                      : str(curl_easy_strerror(code), " after ", part.size(), " bytes",
                            t.total >= 0 ? str(" of ", t.total) : "");
  return Outcome::broken;
}

// Empty when the file is as published.
std::string mismatch(const std::string& path, const Checksum& expected) {
  for (const auto& [kind, digest] : {std::pair{"md5", expected.md5}, {"sha256", expected.sha256}}) {
    if (digest.empty()) continue;
    const std::string found = file_digest(path, kind);
    if (found != digest) return str("found ", kind, " ", found, ", expected ", digest);
  }
  return {};
}

// Connects until the file is whole. True when it began with bytes of an earlier call.
bool transfer(const std::string& url, PartFile& part, const DownloadOptions& options) {
  const bool resumed = part.size() > 0;
  std::string why;
  for (int broken = 0;;) {
    const int64_t before = part.size();
    if (attempt(url, part, options, why) != Outcome::broken) return resumed;
    // A connection that brought more than there was starts the count again.
    broken = part.size() > before ? 1 : broken + 1;
    if (broken >= options.attempts) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(options.pause_ms << (broken - 1)));
  }
  throw io_error(
      str(url, ": ", why,
          part.size() > 0 ? "; what arrived is kept, and the same command continues it" : ""));
}

}  // namespace

void download_file(const std::string& url, const std::string& path, const Checksum& expected,
                   const DownloadOptions& options) {
  const std::string part_path = path + ".part";
  PartFile part(part_path);
  std::string wrong;
  try {
    const bool resumed = transfer(url, part, options);
    wrong = mismatch(part_path, expected);
    if (!wrong.empty() && resumed) {  // the earlier bytes may be of another edition of the file
      if (const int e = part.restart()) io::throw_errno(part_path, "truncate", e);
      transfer(url, part, options);
      wrong = mismatch(part_path, expected);
    }
  } catch (...) {
    if (part.size() == 0) ::unlink(part_path.c_str());
    throw;
  }
  if (!wrong.empty()) {
    ::unlink(part_path.c_str());
    throw io_error(str(url, ": ", wrong, "; nothing was kept"));
  }
  io::commit_rename(part_path, path);
}

}  // namespace wattle::data
