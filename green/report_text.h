// Numbers and text for the report: escaped, rounded, with units, never "nan" or "inf".
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "energy/joules.h"

namespace wattle::green {

std::string escape_html(std::string_view s);
/// A scrollable table begins with the names of its columns, has rows of HTML whose first cell is a
/// heading, and ends.
std::string table_head(const std::vector<std::string>& names);
std::string table_row(const std::vector<std::string>& cells);
constexpr const char* table_end = "</tbody></table></div>\n";

/// Fixed decimals; "-" when not finite. A true minus sign for negative numbers.
std::string fixed(double v, int decimals);
/// `digits` significant digits without exponent.
std::string significant(double v, int digits = 3);
/// With a decimal prefix: si(2.91e12, "FLOP") = "2.91 TFLOP", si(0.0123, "s") = "12.3 ms".
std::string si(double v, std::string_view unit, int digits = 3);
/// 0.1234 -> "12.3 %".
std::string percent(double fraction, int decimals = 1);
/// "0.034", "1.2e-9", "< 1e-300"; "-" when not finite.
std::string p_text(double p);
/// "45.2 s", "17 min 10 s", "3 h 20 min".
std::string duration(double seconds);
/// "Fashion-MNIST" for "fashion-mnist"; unknown names as they are.
std::string dataset_title(const std::string& name);
/// 1234567 -> "1 234 567" with thin spaces.
std::string grouped(int64_t v);
/// "12.3 J" from microjoules; "-" when unavailable.
std::string joules_text(const Joules& j, int digits = 3);
/// "12.3 J (modelled)": the value with the word for its kind.
std::string joules_with_kind(const Joules& j);

}  // namespace wattle::green
