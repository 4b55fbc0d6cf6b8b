// unpack_tar_gz: a reader for the ustar layout. A 512-byte header per file holds its name (offset
// 0, 100 bytes, after a prefix at 345, 155 bytes), its size in octal digits (124, 12 bytes), a
// checksum (148, 8 bytes) and its type (156); the data follows, padded to 512 bytes; two zero
// blocks end it.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "data/atomic_file.h"
#include "data/gzip.h"

namespace wattle::io {
namespace {

constexpr int64_t block_size = 512;
using Block = std::array<uint8_t, block_size>;

class GzReader {
 public:
  explicit GzReader(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb")) {
    if (!file_) throw_errno(path, "open", errno);
  }
  ~GzReader() { gzclose(file_); }
  GzReader(const GzReader&) = delete;
  GzReader& operator=(const GzReader&) = delete;

  void read(void* dst, int64_t n) {
    const int got = gzread(file_, dst, static_cast<unsigned>(n));
    if (got == n) return;
    int code = Z_OK;
    const char* text = gzerror(file_, &code);
    if (code != Z_OK && code != Z_BUF_ERROR) throw io_error(str(path_, ": damaged: ", text));
    throw io_error(str(path_, ": truncated: the archive ends in the middle of a file"));
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  gzFile file_;
};

std::string text_at(const Block& b, size_t at, size_t size) {
  const char* p = reinterpret_cast<const char*>(b.data()) + at;
  return std::string(p, strnlen(p, size));
}

// Octal digits, with spaces or zeros around them.
std::optional<int64_t> octal_at(const Block& b, size_t at, size_t size) {
  int64_t value = 0;
  bool any = false;
  for (size_t i = at; i < at + size; ++i) {
    if (b[i] >= '0' && b[i] <= '7') {
      value = value * 8 + (b[i] - '0');
      any = true;
    } else if (any && (b[i] == 0 || b[i] == ' ')) {
      break;
    } else if (b[i] != ' ') {
      return {};
    }
  }
  return any ? std::optional(value) : std::nullopt;
}

// The sum of all header bytes, the checksum field itself counted as spaces.
int64_t header_sum(const Block& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < b.size(); ++i) sum += i >= 148 && i < 156 ? ' ' : b[i];
  return sum;
}

struct Entry {
  std::string name;
  int64_t size = 0;
  char type = '0';
};

Entry parse_header(const Block& b, const std::string& path) {
  const auto sum = octal_at(b, 148, 8), size = octal_at(b, 124, 12);
  if (!sum || *sum != header_sum(b))
    throw io_error(str(path, ": not a tar archive, or damaged: a header's checksum is wrong"));
  if (!size) throw io_error(str(path, ": damaged: a file's size is not an octal number"));
  Entry e{text_at(b, 0, 100), *size, static_cast<char>(b[156])};
  const std::string prefix = text_at(b, 345, 155);
  if (text_at(b, 257, 5) == "ustar" && !prefix.empty()) e.name = prefix + "/" + e.name;
  return e;
}

void check_name(const Entry& e, const std::string& path) {
  const std::filesystem::path p(e.name);
  const bool escapes =
      std::any_of(p.begin(), p.end(), [](const auto& part) { return part == ".."; });
  if (e.name.empty() || p.is_absolute() || escapes)
    throw io_error(str(path, ": found the file name '", e.name,
                       "', expected a name that stays in the folder"));
}

void copy_data(GzReader& in, int64_t size, AtomicFile* out) {
  ByteVector buffer(1 << 20);
  for (int64_t left = (size + block_size - 1) / block_size * block_size, data = size; left > 0;) {
    const int64_t n = std::min<int64_t>(left, static_cast<int64_t>(buffer.size()));
    in.read(buffer.data(), n);
    if (out) out->write(ByteSpan(buffer.data(), static_cast<size_t>(std::min(n, data))));
    data -= std::min(n, data);
    left -= n;
  }
}

}  // namespace

std::vector<std::string> unpack_tar_gz(const std::string& path, const std::string& folder,
                                       int64_t limit) {
  GzReader in(path);
  std::vector<std::string> names;
  int64_t total = 0;
  for (Block block;;) {
    in.read(block.data(), block_size);
    if (std::all_of(block.begin(), block.end(), [](uint8_t b) { return b == 0; })) return names;
    const Entry e = parse_header(block, path);
    // 5: a folder (made when a file needs it); x, g: extended headers that only add times or
    // owners.
    const bool is_file = e.type == '0' || e.type == 0;
    if (!is_file && e.type != '5' && e.type != 'x' && e.type != 'g')
      throw io_error(str(path, ": '", e.name, "' is of type '", e.type,
                         "', expected a regular file or a folder"));
    if (e.size > limit - total)
      throw io_error(str(path, ": unpacks to more than ", limit, " bytes"));
    total += e.size;
    if (!is_file) {
      copy_data(in, e.size, nullptr);
      continue;
    }
    check_name(e, path);
    const std::filesystem::path target = std::filesystem::path(folder) / e.name;
    make_folders(target.parent_path().string());
    AtomicFile out(target.string());
    copy_data(in, e.size, &out);
    out.commit();
    names.push_back(e.name);
  }
}

}  // namespace wattle::io
