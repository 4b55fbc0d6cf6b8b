// Files that are either complete or not there: a crash, a kill or a full disk in the middle of
// writing leaves the file that was there before.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "data/bytes.h"

namespace wattle::io {

/// Writes to a temporary name in the same folder; commit() makes it durable (fsync), renames it and
/// makes the rename durable. Without a commit the destructor removes the temporary.
/// Every error is an io_error "PATH: cannot ...: <system's text>; the file was left as it was".
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(ByteSpan bytes);
  void write(std::string_view text);
  void commit();

 private:
  [[noreturn]] void fail(const char* verb, int error_number);
  void discard();

  std::string path_;   ///< as the caller wrote it, for messages
  std::string final_;  ///< the same, with symbolic links followed: a link stays a link
  std::string temporary_;
  int fd_ = -1;
};

/// One call for a file that is in memory.
void write_file(const std::string& path, ByteSpan bytes);
void write_file(const std::string& path, std::string_view text);

/// Makes a closed file durable, renames it to `path` and makes the rename durable.
void commit_rename(const std::string& temporary, const std::string& path);

/// mkdir -p. Throws io_error naming the folder and the system's text.
void make_folders(const std::string& path);

}  // namespace wattle::io
