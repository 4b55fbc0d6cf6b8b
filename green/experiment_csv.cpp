// samples.csv: one row per run, for people and their own tools.
#include <charconv>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "green/csv.h"
#include "green/experiment_files.h"

namespace wattle::green {
namespace {

constexpr const char* columns[] = {"order",       "round",         "variant", "seed",
                                   "start_s",     "temperature_c", "joules",  "joules_sd",
                                   "joules_kind", "joules_source", "seconds"};
constexpr size_t fixed_columns = std::size(columns);
constexpr std::string_view value_prefix = "value.";

// Names of further values, in the order of their first appearance.
std::vector<std::string> value_names(const Experiment& e) {
  std::vector<std::string> names;
  for (const std::string& n : quantity_names(e)) {
    if (n != "joules" && n != "seconds") names.push_back(n);
  }
  return names;
}

// One field of one line, with an error that says where it stands.
class Field {
 public:
  Field(const std::string& path, size_t line, const std::string& column, const std::string& text)
      : path_(path), line_(line), column_(column), text_(text) {}

  [[noreturn]] void fail(const char* expected) const {
    throw io_error(
        str(path_, ": line ", line_, ", ", column_, ": found '", text_, "', expected ", expected));
  }
  template <class T>
  T whole() const {
    T v{};
    const auto [end, bad] = std::from_chars(text_.data(), text_.data() + text_.size(), v);
    if (bad != std::errc() || end != text_.data() + text_.size()) fail("a whole number");
    return v;
  }
  double real() const {
    double v = std::numeric_limits<double>::quiet_NaN();
    if (text_.empty()) return v;
    const auto [end, bad] = std::from_chars(text_.data(), text_.data() + text_.size(), v);
    if (bad != std::errc() || end != text_.data() + text_.size() || !std::isfinite(v)) {
      fail("a number or nothing");
    }
    return v;
  }
  // "12.345678" -> 12345678
  int64_t microjoules() const {
    const size_t dot = text_.find('.');
    if (dot == std::string::npos || text_.size() - dot != 7) fail("joules with six decimals");
    const std::string digits = text_.substr(0, dot) + text_.substr(dot + 1);
    return Field(path_, line_, column_, digits).whole<int64_t>();
  }
  JouleKind kind() const {
    try {
      return energy::joule_kind_from_name(text_);
    } catch (const value_error&) { fail("a kind of joules"); }
  }

 private:
  const std::string& path_;
  size_t line_;
  std::string column_, text_;
};

// One row by column name.
class Row {
 public:
  Row(const std::string& path, size_t line, const std::vector<std::string>& head,
      const std::vector<std::string>& fields)
      : path_(path), line_(line), head_(head), fields_(fields) {
    if (fields.size() != head.size()) {
      throw io_error(
          str(path, ": line ", line, ": found ", fields.size(), " fields, expected ", head.size()));
    }
  }
  const std::string& text(size_t i) const { return fields_[i]; }
  Field field(size_t i) const { return {path_, line_, head_[i], fields_[i]}; }

 private:
  const std::string& path_;
  size_t line_;
  const std::vector<std::string>&head_, &fields_;
};

Sample sample_of(const Row& r, const std::vector<std::string>& head, const Experiment& e) {
  Sample s;
  s.order = r.field(0).whole<int>(), s.round = r.field(1).whole<int>();
  s.variant = e.variants.size();
  for (size_t v = 0; v < e.variants.size(); ++v) {
    if (e.variants[v].name == r.text(2)) s.variant = v;
  }
  if (s.variant == e.variants.size()) r.field(2).fail("the name of a variant");
  s.seed = r.field(3).whole<uint64_t>(), s.start_s = r.field(4).real();
  s.temperature_c = r.field(5).real();
  Joules& j = s.result.energy;
  j.kind = r.field(8).kind();
  if (j.available()) {
    const double sd = r.field(7).real();
    j.uj = r.field(6).microjoules(), j.sd_uj = sd * 1e6, j.source = r.text(9);
  }
  s.result.seconds = r.field(10).real();
  for (size_t i = fixed_columns; i < head.size(); ++i) {
    if (!r.text(i).empty()) {
      s.result.values.push_back({head[i].substr(value_prefix.size()), r.field(i).real()});
    }
  }
  return s;
}

void check_head(const std::vector<std::string>& head, const std::string& path) {
  bool good = head.size() >= fixed_columns;
  for (size_t i = 0; good && i < head.size(); ++i) {
    good = i < fixed_columns ? head[i] == columns[i] : head[i].starts_with(value_prefix);
  }
  if (!good) throw io_error(str(path, ": line 1: found other columns than those of samples.csv"));
}

}  // namespace

std::string samples_csv(const Experiment& e) {
  const std::vector<std::string> values = value_names(e);
  CsvWriter w;
  for (const char* c : columns) w.field(c);
  for (const std::string& v : values) w.field(str(value_prefix, v));
  w.end_row();
  for (const Sample& s : e.samples) {
    w.field(int64_t{s.order}).field(int64_t{s.round}).field(e.variants.at(s.variant).name);
    w.field(std::to_string(s.seed)).field(s.start_s).field(s.temperature_c);
    w.field(s.result.energy).field(s.result.energy.source).field(s.result.seconds);
    for (const std::string& name : values) {
      double value = std::numeric_limits<double>::quiet_NaN();
      for (const auto& [n, v] : s.result.values) {
        if (n == name) value = v;
      }
      w.field(value);
    }
    w.end_row();
  }
  return w.take();
}

void read_samples_csv(Experiment& e, std::string_view text, const std::string& path) {
  const auto rows = parse_csv(text);
  if (rows.empty()) throw io_error(str(path, ": found an empty file, expected a line of columns"));
  check_head(rows[0], path);
  std::vector<Sample> samples;
  for (size_t i = 1; i < rows.size(); ++i) {
    samples.push_back(sample_of(Row(path, i + 1, rows[0], rows[i]), rows[0], e));
  }
  e.samples = std::move(samples);
  check_samples(e);
}

}  // namespace wattle::green
