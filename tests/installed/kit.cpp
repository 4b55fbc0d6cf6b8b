// A user's test of code that measures, with the kit that is installed: a host and a GPU of text.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "energy/test_kit.h"
#include "energy/window.h"

using namespace wattle::energy;

int main(int, char** argv) {
  const auto host = fake_laptop();
  std::FILE* const script = std::fopen(argv[2], "w");
  std::fputs("gpu GPU-1234 Test\nenergy 1000 1000 9000\n", script);
  std::fclose(script);
  ::setenv("WATTLE_FAKE_NVML", argv[2], 1);
  const auto meter = Meter::probe({.nvml_library = argv[1]}, host);
  Window w(*meter, "work");
  host->advance(2);
  const WindowResult r = w.end();
  std::printf("%s: %s\n", meter->describe().c_str(), r.gross.str().c_str());
  return std::fabs(r.gross.joules() - (2 * 16.5 + 8)) < 1e-3 ? 0 : 1;
}
