// libFuzzer target: parse_npy takes any bytes, and what it accepts survives being written and read.
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "data/npy.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Tensor t = io::parse_npy({data, size}, "fuzz");
    const std::string header = io::npy_header(t);
    io::ByteVector scratch, file(header.begin(), header.end());
    const io::ByteSpan body = io::row_major_bytes(t, scratch);
    file.insert(file.end(), body.begin(), body.end());
    const Tensor u = io::parse_npy(file, "again");
    if (u.shape() != t.shape() || u.dtype() != t.dtype()) std::abort();
    if (t.numel() > 0 && std::memcmp(u.raw(), t.raw(), static_cast<size_t>(t.nbytes())) != 0)
      std::abort();
  } catch (const io_error&) {}
  return 0;
}
