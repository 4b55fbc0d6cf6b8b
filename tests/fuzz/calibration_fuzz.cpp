// libFuzzer target: host_model_from_json takes any bytes, and what it accepts survives its own
// text.
#include <cstdlib>

#include "core/error.h"
#include "energy/host_model.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const energy::HostModel m = energy::host_model_from_json(text, "fuzz");
    const std::string once = energy::to_json(m);
    if (energy::to_json(energy::host_model_from_json(once, "again")) != once) std::abort();
    energy::Work w;
    w.seconds = 1;
    w.bytes = 1;
    (void)m.predict(w);
  } catch (const value_error&) {}
  return 0;
}
