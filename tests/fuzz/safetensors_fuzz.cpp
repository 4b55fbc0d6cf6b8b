// libFuzzer target: parse_safetensors takes any bytes, and what it accepts survives being written
// and read.
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "data/safetensors.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const io::SafetensorsFile f = io::parse_safetensors({data, size}, "fuzz");
    const io::SafetensorsFile g = io::parse_safetensors(io::safetensors_bytes(f), "again");
    if (g.metadata != f.metadata || g.tensors.size() != f.tensors.size()) std::abort();
    for (const auto& [name, t] : f.tensors) {
      const Tensor u = g.at(name);
      if (u.shape() != t.shape() || u.dtype() != t.dtype()) std::abort();
      if (t.numel() > 0 && std::memcmp(u.raw(), t.raw(), static_cast<size_t>(t.nbytes())) != 0)
        std::abort();
    }
  } catch (const io_error&) {}
  return 0;
}
