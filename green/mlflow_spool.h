// What is on its way to an MLflow server: one append-only file of JSON lines per run. A line is on
// the disk before it is sent, and the line {"done": n} says that the first n have arrived; whatever
// happens in between, the file knows what may be missing.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace wattle::green {

class MlflowSpool {
 public:
  /// Opens or makes FOLDER/KEY.jsonl and locks it: throws io_error when another process holds it.
  /// A last line that was cut by a crash is dropped.
  MlflowSpool(const std::string& folder, const std::string& key);
  ~MlflowSpool();
  MlflowSpool(const MlflowSpool&) = delete;
  MlflowSpool& operator=(const MlflowSpool&) = delete;

  /// Adds a line and waits until it is on the disk. Throws io_error.
  void append(const nlohmann::json& line);
  /// Lines in order, without the marks.
  const std::vector<nlohmann::json>& lines() const { return lines_; }
  size_t done() const { return done_; }  ///< lines that have arrived
  void mark_done(size_t n);              ///< writes the mark
  size_t pending() const { return lines_.size() - done_; }
  /// Deletes the file of a run that has ended and arrived as a whole; otherwise does nothing.
  void remove_if_complete();
  const std::string& path() const { return path_; }

 private:
  void write(const std::string& text);
  std::string path_;
  int fd_ = -1;
  std::vector<nlohmann::json> lines_;
  size_t done_ = 0;
};

/// Keys of the spool files in a folder, sorted.
std::vector<std::string> spooled_runs(const std::string& folder);

}  // namespace wattle::green
