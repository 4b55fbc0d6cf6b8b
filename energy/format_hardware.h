// What hardware with arithmetic of a format would spend, from published figures: a range, never a
// point, and never part of a sum of joules that this host spends.
#pragma once
#include <string>

#include "core/cost.h"
#include "core/dtype.h"
#include "energy/table_model.h"

namespace wattle::energy {

/// A multiply-add of a format as a multiple of a published one.
struct FormatHardware {
  std::string like;       ///< row of the table that it is compared with
  double lo = 1, hi = 1;  ///< times that row's energy
  std::string source;     ///< whose figures the range comes from
};
/// Empty `source` where nothing is published (the range is then not available).
FormatHardware format_hardware(DType t);

/// Joules of the arithmetic and bytes of `declared` on such hardware.
struct HardwareRange {
  double lo = 0, hi = 0;
  bool available = false;
};
HardwareRange hardware_range(const Cost& declared, DType t, const Table& table);

}  // namespace wattle::energy
