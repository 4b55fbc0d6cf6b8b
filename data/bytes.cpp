#include "data/bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/error.h"

namespace wattle::io {

void throw_errno(const std::string& path, const char* verb, int error_number) {
  throw io_error(str(path, ": cannot ", verb, ": ", std::generic_category().message(error_number)));
}

std::string hex(ByteSpan bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string s;
  for (uint8_t b : bytes) {
    if (!s.empty()) s += ' ';
    s += digits[b >> 4];
    s += digits[b & 15];
  }
  return s.empty() ? "nothing" : s;
}

int64_t checked_size(std::span<const int64_t> sizes, int64_t unit) {
  constexpr int64_t most = int64_t{1} << 62;
  // The sizes beside a zero have to fit as well: strides are made of them.
  int64_t product = unit;
  bool empty = false;
  for (int64_t s : sizes) {
    if (s == 0) empty = true;
    else if (s < 0 || product > most / s) return -1;
    else product *= s;
  }
  return empty ? 0 : product;
}

InputFile::InputFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) throw_errno(path, "open", errno);
  struct stat st {};
  const bool known = ::fstat(fd_, &st) == 0;
  const int why = errno;
  if (!known || !S_ISREG(st.st_mode)) {
    ::close(fd_);
    if (!known) throw_errno(path, "stat", why);
    throw io_error(str(path, ": found ", S_ISDIR(st.st_mode) ? "a folder" : "a special file",
                       ", expected a regular file"));
  }
  size_ = st.st_size;
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(void* dst, int64_t n, int64_t offset) const {
  char* p = static_cast<char*>(dst);
  for (int64_t done = 0; done < n;) {
    const ssize_t got = ::pread(fd_, p + done, static_cast<size_t>(n - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path_, "read", errno);
    if (got == 0)
      throw io_error(str(path_, ": truncated: found ", offset + done, " bytes, expected at least ",
                         offset + n));
    done += got;
  }
}

ByteVector read_file(const std::string& path, int64_t limit) {
  const InputFile file(path);
  if (file.size() > limit)
    throw io_error(str(path, ": found ", file.size(), " bytes, expected at most ", limit));
  ByteVector bytes(static_cast<size_t>(file.size()));
  file.read(bytes.data(), file.size(), 0);
  return bytes;
}

namespace {

// Copies elements of B bytes each from any strides to row-major order.
template <int B>
void pack(const Tensor& t, const uint8_t* src, uint8_t* dst) {
  for_each_offset(t.shape(), t.strides(),
                  [&](int64_t i, int64_t o) { std::memcpy(dst + i * B, src + o * B, B); });
}

void pack(const Tensor& t, int bytes_each, const uint8_t* src, uint8_t* dst) {
  switch (bytes_each) {
    case 1: return pack<1>(t, src, dst);
    case 2: return pack<2>(t, src, dst);
    case 4: return pack<4>(t, src, dst);
    case 8: return pack<8>(t, src, dst);
    default: throw dtype_error(str("row-major copy: found ", t, ", expected 1, 2, 4 or 8 bytes"));
  }
}

}  // namespace

ByteSpan row_major_bytes(const Tensor& t, ByteVector& scratch) {
  if (t.is_meta()) throw device_error(str("found ", t, " on meta, expected a tensor with data"));
  const DTypeInfo& d = info(t.dtype());
  const size_t n = static_cast<size_t>(t.nbytes());
  const bool on_host = t.device().kind == DeviceKind::cpu;
  if (on_host && t.is_contiguous()) return {static_cast<const uint8_t*>(t.raw()), n};
  ByteVector copy;
  const uint8_t* base = static_cast<const uint8_t*>(t.storage().data);
  if (!on_host) {
    copy.resize(static_cast<size_t>(t.storage().nbytes));
    allocator(t.device()).copy_to_host(copy.data(), base, t.storage().nbytes);
    base = copy.data();
  }
  base += t.offset() / d.block * d.bytes;
  scratch.resize(n);
  if (n == 0) return scratch;
  if (t.is_contiguous()) std::memcpy(scratch.data(), base, n);
  else if (d.block == 1) pack(t, d.bytes, base, scratch.data());
  else throw dtype_error(str("row-major copy: found a strided ", t, ", whose type is packed"));
  return scratch;
}

void check_bools(const Tensor& t, const std::string& what) {
  if (t.dtype() != DType::boolean) return;
  const uint8_t* p = static_cast<const uint8_t*>(t.raw());
  for (int64_t i = 0; i < t.numel(); ++i)
    if (p[i] > 1)
      throw io_error(str(what, ": found ", static_cast<int>(p[i]), " as bool number ", i,
                         ", expected 0 or 1"));
}

Tensor tensor_from_bytes(ByteSpan bytes, const Shape& shape, DType dtype, const std::string& what) {
  const int64_t found = static_cast<int64_t>(bytes.size());
  const int64_t expected = storage_bytes(shape, dtype);
  if (found != expected)
    throw io_error(str(what, ": found ", found, " bytes of data, expected ", expected, " for ",
                       Meta{shape, dtype}));
  Tensor t = Tensor::empty(shape, dtype);
  if (found > 0) std::memcpy(t.raw(), bytes.data(), bytes.size());
  check_bools(t, what);
  return t;
}

}  // namespace wattle::io
