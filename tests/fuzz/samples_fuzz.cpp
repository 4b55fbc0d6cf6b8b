// libFuzzer target: samples_from_csv takes any bytes, and what it accepts survives its own text.
#include <cstdlib>

#include "core/error.h"
#include "green/experiment.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto samples =
        green::samples_from_csv(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    const auto again = green::samples_from_csv(green::samples_csv(samples), "again");
    if (again.size() != samples.size()) std::abort();
    for (size_t i = 0; i < samples.size(); ++i) {
      const green::Sample &a = samples[i], &b = again[i];
      // Microjoules beyond 2^53 lose their last digits on the way through joules.
      const bool exact = std::llabs(a.joules.uj) < 1'000'000'000'000'000;
      if (a.variant != b.variant || a.round != b.round || a.joules.kind != b.joules.kind ||
          (exact && a.joules.uj != b.joules.uj))
        std::abort();
    }
  } catch (const error&) {}
  return 0;
}
