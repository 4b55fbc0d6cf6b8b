#include "core/error.h"

#include <cstdio>

namespace wattle::detail {

void append(std::string& s, double v) {
  char buf[32];
  std::snprintf(buf, sizeof buf, "%.6g", v);
  s.append(buf);
}

}  // namespace wattle::detail
