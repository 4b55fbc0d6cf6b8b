// Comma-separated text after RFC 4180, out and in.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "energy/joules.h"

namespace wattle::green {

/// Fields of RFC 4180 text (quotes, doubled quotes, line breaks in quotes; LF or CRLF). Throws
/// io_error on an unclosed quote.
std::vector<std::vector<std::string>> parse_csv(std::string_view text);

/// Builds a file field by field; quotes where RFC 4180 asks for them.
class CsvWriter {
 public:
  CsvWriter() = default;
  explicit CsvWriter(std::string_view header) : text_(header) { text_ += '\n'; }
  CsvWriter& field(std::string_view s);
  CsvWriter& field(int64_t v) { return field(std::string_view(std::to_string(v))); }
  /// The shortest text that reads back as the same double; empty when it is not finite.
  CsvWriter& field(double v);
  /// Three fields: joules (exact to the microjoule), their standard deviation, their kind; the
  /// first two are empty when unavailable.
  CsvWriter& field(const Joules& j);
  void end_row() { text_ += '\n', first_ = true; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  bool first_ = true;
};

}  // namespace wattle::green
