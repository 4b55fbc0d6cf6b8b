#include "core/simd.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace wattle::simd {
namespace {

Level detect() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return Level::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Level::avx2;
#endif
  return Level::portable;
}

Level machine() {
  static const Level m = detect();
  return m;
}

Level initial() {
  const char* wanted = std::getenv("WATTLE_ISA");
  if (!wanted || !*wanted) return machine();
  for (Level l : {Level::portable, Level::avx2, Level::avx512})
    if (std::string(wanted) == level_name(l)) return l < machine() ? l : machine();
  throw value_error(str("WATTLE_ISA: found '", wanted, "', expected portable, avx2 or avx512"));
}

std::atomic<Level>& current() {
  static std::atomic<Level> l{initial()};
  return l;
}

}  // namespace

Level level() { return current().load(std::memory_order_relaxed); }
bool machine_has(Level l) { return l <= machine(); }
const char* level_name(Level l) {
  return l == Level::portable ? "portable" : l == Level::avx2 ? "avx2" : "avx512";
}
Level set_level(Level l) { return current().exchange(l < machine() ? l : machine()); }

}  // namespace wattle::simd
