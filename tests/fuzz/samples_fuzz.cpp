// libFuzzer target: read_samples_csv takes any bytes, and what it accepts survives its own text.
#include <cstdlib>

#include "core/error.h"
#include "green/experiment_files.h"

using namespace wattle;

namespace {
green::Experiment planned() {
  struct Nothing final : green::Workload {
    green::RunResult run(uint64_t) override { return {}; }
  };
  const auto work = std::make_shared<Nothing>();
  return green::new_experiment({{"a", "", work}, {"b", "", work}}, {.repetitions = 2});
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  green::Experiment e = planned();
  try {
    green::read_samples_csv(e, {reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const error&) { return 0; }
  const std::string once = green::samples_csv(e);
  green::Experiment again = planned();
  green::read_samples_csv(again, once, "again");
  if (again.samples.size() != e.samples.size()) std::abort();
  for (size_t i = 0; i < e.samples.size(); ++i) {
    const Joules &a = e.samples[i].result.energy, &b = again.samples[i].result.energy;
    if (a.uj != b.uj || a.kind != b.kind || a.source != b.source) std::abort();
  }
  return 0;
}
