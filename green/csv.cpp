#include "green/csv.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "core/error.h"

namespace wattle::green {

CsvWriter& CsvWriter::field(std::string_view s) {
  if (!first_) text_ += ',';
  first_ = false;
  if (s.find_first_of(",\"\r\n") == std::string_view::npos) {
    text_ += s;
    return *this;
  }
  text_ += '"';
  for (const char c : s) text_ += c == '"' ? "\"\"" : std::string(1, c);
  text_ += '"';
  return *this;
}

CsvWriter& CsvWriter::field(double v) {
  if (!std::isfinite(v)) return field(std::string_view());
  char buf[40];
  const auto r = std::to_chars(buf, buf + sizeof buf, v);
  return field(std::string_view(buf, static_cast<size_t>(r.ptr - buf)));
}

CsvWriter& CsvWriter::field(const Joules& j) {
  if (!j.available()) return field("").field("").field(energy::name(j.kind));
  const bool negative = j.uj < 0;
  const uint64_t size = negative ? 0 - static_cast<uint64_t>(j.uj) : static_cast<uint64_t>(j.uj);
  char buf[40];
  std::snprintf(buf, sizeof buf, "%s%llu.%06llu", negative ? "-" : "",
                static_cast<unsigned long long>(size / 1'000'000),
                static_cast<unsigned long long>(size % 1'000'000));
  return field(std::string_view(buf)).field(j.sd_joules()).field(energy::name(j.kind));
}

std::vector<std::vector<std::string>> parse_csv(std::string_view text) {
  std::vector<std::vector<std::string>> rows;
  std::string field;
  bool quoted = false, in_row = false;
  const auto end_field = [&] {
    if (!in_row) rows.emplace_back();
    rows.back().push_back(std::move(field));
    field.clear(), in_row = true;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      const bool doubled = c == '"' && i + 1 < text.size() && text[i + 1] == '"';
      if (c != '"' || doubled) field += c, i += doubled;
      else quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      end_field();
    } else if (c == '\n') {
      end_field();
      in_row = false;
    } else if (c != '\r' || i + 1 >= text.size() || text[i + 1] != '\n') {
      field += c;
    }
  }
  if (quoted) throw io_error("csv: a quoted field does not end");
  if (in_row || !field.empty()) end_field();
  return rows;
}

}  // namespace wattle::green
