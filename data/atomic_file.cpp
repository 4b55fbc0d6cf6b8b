#include "data/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "core/error.h"

namespace wattle::io {
namespace {

namespace fs = std::filesystem;

std::string follow_links(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_symlink(path, ignored)) return path;
  const fs::path target = fs::weakly_canonical(path, ignored);
  return ignored ? path : target.string();
}

// Folders on some file systems refuse fsync; the rename is then as durable as it can be.
void sync_folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  const int fd = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

// A process that was killed while it wrote leaves its temporary file. The next writer of the same
// file removes it when nobody holds its lock. Young files are spared: theirs may come in a moment.
void remove_abandoned(const std::string& path) {
  const fs::path final(path);
  const std::string prefix = final.filename().string() + ".";
  std::error_code ignored;
  const fs::path folder = final.has_parent_path() ? final.parent_path() : fs::path(".");
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    const std::string id = name.substr(prefix.size(), name.size() - prefix.size() - 4);
    if (id.empty() || id.find_first_not_of("0123456789-") != id.npos) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) continue;
    struct stat s {};
    const bool old = ::fstat(fd, &s) == 0 && ::time(nullptr) - s.st_mtime > 60;
    if (old && ::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(entry.path().c_str());
    ::close(fd);
  }
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path), final_(follow_links(path)) {
  static std::atomic<unsigned> counter{0};
  struct stat old {};
  const bool exists = ::stat(final_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode))
    throw io_error(str(path_, ": found ", S_ISDIR(old.st_mode) ? "a folder" : "a special file",
                       ", expected a regular file to write"));
  remove_abandoned(final_);
  do {
    temporary_ = str(final_, ".", static_cast<int64_t>(::getpid()), "-", ++counter, ".tmp");
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) throw_errno(path_, "create", errno);
  ::flock(fd_, LOCK_EX | LOCK_NB);  // best effort: some network file systems have no locks
  if (exists) (void)!::fchmod(fd_, old.st_mode & 07777);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  fd_ = -1;
  temporary_.clear();
}

void AtomicFile::fail(const char* verb, int error_number) {
  discard();
  throw io_error(str(path_, ": cannot ", verb, ": ", std::generic_category().message(error_number),
                     "; the file was left as it was"));
}

void AtomicFile::write(ByteSpan bytes) {
  if (fd_ < 0) throw io_error(str(path_, ": written to after it was closed"));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", errno);
    done += static_cast<size_t>(n);
  }
}

void AtomicFile::write(std::string_view text) {
  write(ByteSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

void AtomicFile::commit() {
  if (fd_ < 0) throw io_error(str(path_, ": committed after it was closed"));
  // A full disk may show only here, when delayed blocks are allocated.
  if (::fsync(fd_) != 0) fail("write", errno);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0) fail("write", errno);
  if (::rename(temporary_.c_str(), final_.c_str()) != 0) fail("rename the temporary file", errno);
  temporary_.clear();
  sync_folder_of(final_);
}

void write_file(const std::string& path, ByteSpan bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void commit_rename(const std::string& temporary, const std::string& path) {
  const int fd = ::open(temporary.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_errno(temporary, "open", errno);
  const bool synced = ::fsync(fd) == 0;
  const int why = errno;
  ::close(fd);
  if (!synced) throw_errno(temporary, "write", why);
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw_errno(path, "rename to", errno);
  sync_folder_of(path);
}

void make_folders(const std::string& path) {
  std::error_code why;
  fs::create_directories(path, why);
  if (why) throw io_error(str(path, ": cannot make the folder: ", why.message()));
}

}  // namespace wattle::io
