// The wall clock, for files and services.
#pragma once
#include <chrono>
#include <cstdint>
#include <ctime>
#include <string>

namespace wattle::green {

/// "2026-01-02T03:04:05Z"
inline std::string now_iso() {
  const std::time_t t = std::time(nullptr);
  char buf[32];
  std::strftime(buf, sizeof buf, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&t));
  return buf;
}

/// Milliseconds since 1970.
inline int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace wattle::green
