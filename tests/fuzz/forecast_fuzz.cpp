// libFuzzer target: parse_intensity_csv takes any bytes; a schedule of what it accepts is within
// it.
#include <cstdlib>

#include "core/error.h"
#include "energy/carbon_schedule.h"

using namespace wattle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto g =
        energy::parse_intensity_csv(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    const double n = static_cast<double>(g.size());
    const energy::Schedule s = energy::best_start(g, n / 3, n);
    if (!(s.start_hour >= 0 && s.start_hour + n / 3 <= n * 1.0000001)) std::abort();
  } catch (const value_error&) {}
  return 0;
}
