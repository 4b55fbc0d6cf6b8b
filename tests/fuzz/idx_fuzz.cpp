// libFuzzer target: IDX data, plain or packed by gzip, as images or as labels.
#include "core/error.h"
#include "data/gzip.h"
#include "data/idx.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  io::ByteVector unpacked;
  io::ByteSpan bytes(data, size);
  try {
    if (size >= 2 && data[0] == 0x1f && data[1] == 0x8b) {
      unpacked = io::gunzip(bytes, "fuzz", 1 << 20);
      bytes = unpacked;
    }
  } catch (const io_error&) { return 0; }
  for (int rank : {1, 3}) {
    try {
      const Tensor t = io::parse_idx(bytes, rank, "fuzz");
      if (rank == 1) io::check_labels(t, 10, "fuzz");
    } catch (const io_error&) {}
  }
  return 0;
}
