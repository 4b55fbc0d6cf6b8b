// What the tests of data/ share: a folder that goes away, small files in official layouts, and the
// check that a call throws with a message.
#pragma once
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"

namespace wattle::testing {

class Folder {
 public:
  Folder() {
    std::string pattern = ::testing::TempDir() + "wattle-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(*this / name).parent_path());
    std::ofstream(*this / name, std::ios::binary) << bytes;
    return *this / name;
  }
  size_t count() const {
    using It = std::filesystem::directory_iterator;
    return static_cast<size_t>(std::distance(It(path_), It()));
  }

 private:
  std::string path_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(f), {}};
}

/// Checks that fn() throws E with all of `parts` in its message.
template <class E, class F>
void expect_error(F&& fn, const std::vector<std::string>& parts) {
  try {
    fn();
  } catch (const E& e) {
    for (const std::string& part : parts)
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
          << "message: " << e.what() << "\nmisses: " << part;
    return;
  } catch (const std::exception& e) { FAIL() << "another kind of error: " << e.what(); }
  FAIL() << "no error; expected one with: " << parts.at(0);
}

inline std::string gz(const std::string& bytes) {
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, bytes.size()) + 32, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

inline std::string be32(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

/// n images of h x w; pixel p of image i is 7 i + p.
inline std::string idx_images(uint32_t n, uint32_t h, uint32_t w) {
  std::string s = be32(0x803) + be32(n) + be32(h) + be32(w);
  for (uint32_t i = 0; i < n; ++i)
    for (uint32_t p = 0; p < h * w; ++p) s += static_cast<char>(7 * i + p);
  return s;
}

/// n labels 0 1 2 ... 9 0 1 ...
inline std::string idx_labels(uint32_t n) {
  std::string s = be32(0x801) + be32(n);
  for (uint32_t i = 0; i < n; ++i) s += static_cast<char>(i % 10);
  return s;
}

/// n records; label i % 10, pixel p is 3 i + p + shift.
inline std::string cifar_records(int n, int shift = 0) {
  std::string s;
  for (int i = 0; i < n; ++i) {
    s += static_cast<char>(i % 10);
    for (int p = 0; p < 3072; ++p) s += static_cast<char>(3 * i + p + shift);
  }
  return s;
}

/// A ustar header and its data.
inline std::string tar_entry(const std::string& name, const std::string& data, char type = '0') {
  std::string h(512, '\0');
  h.replace(0, name.size(), name);
  char digits[16];
  std::snprintf(digits, sizeof digits, "%011o", static_cast<unsigned>(data.size()));
  h.replace(124, 11, digits);
  h[156] = type;
  h.replace(257, 5, "ustar");
  h.replace(148, 8, "        ");
  unsigned sum = 0;
  for (char c : h) sum += static_cast<unsigned char>(c);
  std::snprintf(digits, sizeof digits, "%06o", sum);
  h.replace(148, 6, digits);
  h[154] = '\0';
  return h + data + std::string((512 - data.size() % 512) % 512, '\0');
}
inline std::string tar_end() { return std::string(1024, '\0'); }

}  // namespace wattle::testing
