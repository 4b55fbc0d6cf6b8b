#include "energy/format_hardware.h"

namespace wattle::energy {

FormatHardware format_hardware(DType t) {
  const std::string posits =
      "0.6 (Johnson 2018, 16-bit log-posit MAC over fp16 FMA, 28 nm) to 1.6 (Forget, Uguen, de "
      "Dinechin 2019: operators 30-60 % larger than IEEE); a quire MAC takes up to 4 times the "
      "area";
  switch (t) {
    case DType::posit8:
    case DType::posit8_es1:
    case DType::posit8_es0: return {"fp8_e4m3", 0.6, 1.6, posits};
    case DType::posit16:
    case DType::posit16_es1: return {"f16", 0.6, 1.6, posits};
    case DType::posit32: return {"f32", 0.6, 1.6, posits};
    case DType::bf16: return {"bf16", 1, 1, "the table's own row"};
    case DType::fp16: return {"f16", 1, 1, "the table's own row"};
    case DType::fp8_e4m3: return {"fp8_e4m3", 1, 1, "power law through the table's widths"};
    case DType::fp8_e5m2: return {"fp8_e5m2", 1, 1, "power law through the table's widths"};
    default: return {};
  }
}

HardwareRange hardware_range(const Cost& declared, DType t, const Table& table) {
  HardwareRange r;
  Cost arithmetic = declared, bytes;
  arithmetic.read = arithmetic.written = 0;
  bytes.read = declared.read, bytes.written = declared.written;
  const FormatHardware h =
      is_coded(t) ? format_hardware(t) : FormatHardware{std::string(name(t)), 1, 1, "itself"};
  if (h.source.empty()) return r;
  const Femtojoules a = femtojoules_of(arithmetic, h.like, table);
  const Femtojoules b = femtojoules_of(bytes, h.like, table);
  if (!a.available) return r;
  // The table's own uncertainty, one standard deviation, on top of the range of the factor.
  const double sd = a.sd_fj / (a.fj > 0 ? static_cast<double>(a.fj) : 1);
  r.lo =
      (static_cast<double>(a.fj) * h.lo * (1 - sd) + static_cast<double>(b.fj) - b.sd_fj) * 1e-15;
  r.hi =
      (static_cast<double>(a.fj) * h.hi * (1 + sd) + static_cast<double>(b.fj) + b.sd_fj) * 1e-15;
  r.available = true;
  return r;
}

}  // namespace wattle::energy
