#include "green/mlflow_spool.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::green {
namespace {

std::string message(int error) { return std::generic_category().message(error); }

}  // namespace

MlflowSpool::MlflowSpool(const std::string& folder, const std::string& key)
    : path_(folder + "/" + key + ".jsonl") {
  io::make_folders(folder);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) throw io_error(str(path_, ": cannot open: ", message(errno)));
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    throw io_error(str(path_, ": another process is at work on this run"));
  }
  std::ifstream file(path_);
  std::stringstream all;
  all << file.rdbuf();
  const std::string text = all.str();
  size_t whole = 0;
  for (size_t end; (end = text.find('\n', whole)) != text.npos; whole = end + 1) {
    const auto j = nlohmann::json::parse(text.substr(whole, end - whole), nullptr, false);
    if (!j.is_object()) {
      ::close(fd_);
      throw io_error(str(path_, ": found '", text.substr(whole, std::min<size_t>(40, end - whole)),
                         "', expected a JSON object a line"));
    }
    if (j.contains("done")) done_ = std::min(j["done"].get<size_t>(), lines_.size());
    else lines_.push_back(j);
  }
  if (::ftruncate(fd_, static_cast<off_t>(whole)) != 0 ||
      ::lseek(fd_, static_cast<off_t>(whole), SEEK_SET) < 0)
    throw io_error(str(path_, ": cannot cut the unfinished last line: ", message(errno)));
}

MlflowSpool::~MlflowSpool() {
  if (fd_ >= 0) ::close(fd_);
}

void MlflowSpool::write(const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t n = ::write(fd_, text.data() + sent, text.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw io_error(str(path_, ": cannot write: ", message(errno)));
    sent += static_cast<size_t>(n);
  }
  if (::fsync(fd_) != 0) throw io_error(str(path_, ": cannot write: ", message(errno)));
}

void MlflowSpool::append(const nlohmann::json& line) {
  write(line.dump() + "\n");
  lines_.push_back(line);
}

void MlflowSpool::mark_done(size_t n) {
  write(nlohmann::json{{"done", n}}.dump() + "\n");
  done_ = n;
}

void MlflowSpool::remove_if_complete() {
  if (pending() == 0 && !lines_.empty() && lines_.back().contains("end")) ::unlink(path_.c_str());
}

std::vector<std::string> spooled_runs(const std::string& folder) {
  std::vector<std::string> keys;
  std::error_code why;
  for (const auto& e : std::filesystem::directory_iterator(folder, why))
    if (e.path().extension() == ".jsonl") keys.push_back(e.path().stem().string());
  if (why) throw io_error(str(folder, ": cannot be listed: ", why.message()));
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace wattle::green
