// Bytes of files and of tensors: what the file formats share.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace wattle::io {

using ByteSpan = std::span<const uint8_t>;
using ByteVector = std::vector<uint8_t>;

/// Files that are read whole are refused above this size unless a reader says otherwise.
inline constexpr int64_t default_size_limit = int64_t{4} << 30;

/// A regular file open for reading. Every error is an io_error "PATH: ..." with the system's text.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  /// Reads bytes [offset, offset + n); throws io_error when the file ends before.
  void read(void* dst, int64_t n, int64_t offset) const;

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

/// All bytes of a file; throws io_error when it is larger than `limit` bytes.
ByteVector read_file(const std::string& path, int64_t limit = default_size_limit);

/// The elements of `t` in row-major order, in host memory. Points into the tensor where it already
/// is like that, into `scratch` otherwise. Throws device_error for a meta tensor.
ByteSpan row_major_bytes(const Tensor& t, ByteVector& scratch);

/// A new tensor with a copy of row-major bytes. Throws io_error naming `what` when their number
/// does not fit or a bool is neither 0 nor 1.
Tensor tensor_from_bytes(ByteSpan bytes, const Shape& shape, DType dtype, const std::string& what);

/// Throws io_error naming `what` when an element of a bool tensor is neither 0 nor 1: such bytes
/// come from damaged files, and reading them as bool is undefined.
void check_bools(const Tensor& t, const std::string& what);

/// Product of sizes as they stand in a file, times `unit` bytes; -1 when it does not fit 62 bits.
int64_t checked_size(std::span<const int64_t> sizes, int64_t unit);

/// "3c 68 74 6d": the first bytes of a file that is not what it should be.
std::string hex(ByteSpan bytes);

/// "PATH: cannot VERB: <text of errno>"
[[noreturn]] void throw_errno(const std::string& path, const char* verb, int error_number);

}  // namespace wattle::io
