// Shared by the tests of meters: probing a scripted host, and what its counters say.
#pragma once
#include <gtest/gtest.h>

#include <stdexcept>

#include "energy/test_kit.h"
#include "energy/window.h"

namespace wattle::energy {

// No test may find a real NVIDIA library.
inline std::shared_ptr<Meter> probe(std::shared_ptr<FakeHost> h, ProbeOptions o = {}) {
  if (o.nvml_library.empty()) o.nvml_library = "/nonexistent/libnvidia-ml.so";
  return Meter::probe(o, std::move(h));
}

inline const SourceReport& report(const Meter& m, const std::string& name) {
  for (const SourceReport& r : m.sources())
    if (r.name == name) return r;
  throw std::runtime_error("no report of " + name);
}

inline double watts(Meter& m, FakeHost& h, double seconds = 10) {
  Window w(m, "w");
  h.advance(seconds);
  const WindowResult r = w.end();
  EXPECT_EQ(r.note, "");
  return r.gross.joules() / r.seconds;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace wattle::energy
