#include "data/idx.h"

#include "core/error.h"
#include "data/gzip.h"

namespace wattle::io {
namespace {

const char* type_name(int code) {
  switch (code) {
    case 0x08: return "u8";
    case 0x09: return "i8";
    case 0x0B: return "i16";
    case 0x0C: return "i32";
    case 0x0D: return "f32";
    case 0x0E: return "f64";
    default: return "no IDX type";
  }
}

std::string describe(ByteSpan magic) {
  if (magic[0] != 0 || magic[1] != 0) return "no IDX file";
  return str(type_name(magic[2]), " of rank ", static_cast<int>(magic[3]));
}

}  // namespace

Tensor parse_idx(ByteSpan bytes, int rank, const std::string& what) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  const int64_t header = 4 + 4 * rank;
  if (size < 4)
    throw io_error(str(what, ": truncated: found ", size, " bytes, expected an IDX file"));
  const ByteSpan magic = bytes.first(4);
  const uint8_t expected_magic[4] = {0, 0, 8, static_cast<uint8_t>(rank)};
  for (size_t i = 0; i < 4; ++i)
    if (magic[i] != expected_magic[i])
      throw io_error(str(what, ": found magic number ", hex(magic), " (", describe(magic),
                         "), expected ", hex(expected_magic), " (u8 of rank ", rank, ")"));
  if (size < header)
    throw io_error(
        str(what, ": truncated: found ", size, " bytes, expected ", header, " for the IDX header"));
  std::vector<int64_t> sizes;
  for (size_t d = 0; d < static_cast<size_t>(rank); ++d) {
    const uint8_t* p = bytes.data() + 4 + 4 * d;
    sizes.push_back(int64_t{p[0]} << 24 | int64_t{p[1]} << 16 | int64_t{p[2]} << 8 | p[3]);
  }
  const Shape shape(sizes);
  const int64_t expected = checked_size(sizes, 1), found = size - header;
  if (expected == 0)
    throw io_error(str(what, ": found shape ", shape, ", expected no empty sizes"));
  if (expected != found)
    throw io_error(
        str(what, expected < 0 || found < expected ? ": truncated: " : ": oversized: ", "found ",
            found, " bytes of data, expected ",
            expected < 0 ? "more than 2^62" : std::to_string(expected), " for shape ", shape));
  return tensor_from_bytes(bytes.subspan(static_cast<size_t>(header)), shape, DType::u8, what);
}

Tensor read_idx_images(const std::string& path) {
  const Tensor t = parse_idx(read_maybe_gzip(path), 3, path);
  const Shape shape{t.size(0), 1, t.size(1), t.size(2)};
  return t.alias(shape, contiguous_strides(shape), 0);
}

Tensor read_idx_labels(const std::string& path, int classes) {
  const Tensor t = parse_idx(read_maybe_gzip(path), 1, path);
  check_labels(t, classes, path);
  return t;
}

void check_labels(const Tensor& labels, int classes, const std::string& what) {
  const uint8_t* p = labels.data<uint8_t>();
  for (int64_t i = 0; i < labels.numel(); ++i)
    if (p[i] >= classes)
      throw io_error(str(what, ": found label ", static_cast<int>(p[i]), " in row ", i,
                         ", expected one from 0 to ", classes - 1));
}

}  // namespace wattle::io
