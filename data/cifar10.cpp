#include "data/cifar10.h"

#include <cstring>

#include "core/error.h"

namespace wattle::io {
namespace {

int64_t record_count(int64_t size, const std::string& what) {
  if (size == 0 || size % cifar10_record != 0)
    throw io_error(str(what, ": truncated or oversized: found ", size,
                       " bytes, expected a multiple of ", cifar10_record,
                       " (1 label byte and 3 x 32 x 32 pixels a record)"));
  return size / cifar10_record;
}

Cifar10 empty_records(int64_t n) {
  return {Tensor::empty({n, 3, 32, 32}, DType::u8), Tensor::empty({n}, DType::u8)};
}

// Splits records into rows [first, first + n) of `out`.
void fill(const Cifar10& out, int64_t first, ByteSpan bytes, const std::string& what) {
  constexpr int64_t pixels = cifar10_record - 1;
  const int64_t n = static_cast<int64_t>(bytes.size()) / cifar10_record;
  uint8_t* images = out.images.data<uint8_t>() + first * pixels;
  uint8_t* labels = out.labels.data<uint8_t>() + first;
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t* record = bytes.data() + i * cifar10_record;
    if (record[0] > 9)
      throw io_error(str(what, ": found label ", static_cast<int>(record[0]), " in row ", i,
                         ", expected one from 0 to 9"));
    labels[i] = record[0];
    std::memcpy(images + i * pixels, record + 1, static_cast<size_t>(pixels));
  }
}

}  // namespace

Cifar10 parse_cifar10(ByteSpan bytes, const std::string& what) {
  const Cifar10 out = empty_records(record_count(static_cast<int64_t>(bytes.size()), what));
  fill(out, 0, bytes, what);
  return out;
}

Cifar10 read_cifar10(const std::vector<std::string>& paths) {
  Cifar10 out;
  int64_t each = 0, row = 0;
  for (const std::string& path : paths) {
    const ByteVector bytes = read_file(path);
    const int64_t n = record_count(static_cast<int64_t>(bytes.size()), path);
    if (row == 0) {
      each = n;
      out = empty_records(each * static_cast<int64_t>(paths.size()));
    } else if (n != each) {
      throw io_error(str(path, ": found ", n, " records, expected ", each, " as in ", paths[0]));
    }
    fill(out, row, bytes, path);
    row += n;
  }
  return out;
}

}  // namespace wattle::io
