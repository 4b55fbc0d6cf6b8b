#include "green/study_files.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "data/atomic_file.h"

namespace wattle::green {
namespace {

[[noreturn]] void fail(const std::string& path, const char* doing) {
  throw io_error(str(path, ": ", doing, ": ", std::strerror(errno)));
}

// Lines of comma-separated fields; quotes where RFC 4180 asks for them.
class CsvWriter {
 public:
  explicit CsvWriter(std::string_view header) : text_(header) { text_ += '\n'; }

  CsvWriter& field(std::string_view s) {
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
  CsvWriter& field(int64_t v) { return field(std::string_view(std::to_string(v))); }
  CsvWriter& field(double v) {  // shortest text that reads back as the same double
    if (!std::isfinite(v)) return field(std::string_view());
    char buf[40];
    const auto r = std::to_chars(buf, buf + sizeof buf, v);
    return field(std::string_view(buf, static_cast<size_t>(r.ptr - buf)));
  }
  /// joules, joules_sd, joules_kind
  CsvWriter& field(const Joules& j) {
    if (!j.available()) return field("").field("").field(energy::name(j.kind));
    const bool negative = j.uj < 0;
    const uint64_t size = negative ? 0 - static_cast<uint64_t>(j.uj) : static_cast<uint64_t>(j.uj);
    char buf[40];
    std::snprintf(buf, sizeof buf, "%s%llu.%06llu", negative ? "-" : "",
                  static_cast<unsigned long long>(size / 1'000'000),
                  static_cast<unsigned long long>(size % 1'000'000));
    return field(std::string_view(buf)).field(j.sd_joules()).field(energy::name(j.kind));
  }
  CsvWriter& field(const NetKey& k) {
    return field(k.net).field(int64_t{k.linear}).field(int64_t{k.conv}).field(int64_t{k.relu});
  }
  void end_row() { text_ += '\n', first_ = true; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  bool first_ = true;
};

}  // namespace

std::string runs_csv(const StudyResult& s) {
  CsvWriter w(
      "dataset,net,linear,conv,relu,seed,epochs,rows,accuracy,flops,seconds,joules,joules_sd,"
      "joules_kind,flops_all,bytes,params,train_loss,val_loss,val_accuracy,diverged,"
      "joules_source");
  for (const StudyRun& r : s.runs) {
    w.field(r.dataset).field(r.key).field(std::to_string(r.seed)).field(int64_t{r.epochs});
    w.field(r.rows).field(r.accuracy).field(r.flops_weighted).field(r.seconds).field(r.joules);
    w.field(r.flops_all).field(r.bytes).field(r.params).field(r.train_loss).field(r.val_loss);
    w.field(r.val_accuracy).field(int64_t{r.diverged}).field(r.joules.source).end_row();
  }
  return w.take();
}

std::string layers_csv(const StudyResult& s) {
  CsvWriter w(
      "net,linear,conv,relu,layer,type,phase,calls,flops_weighted,flops_all,bytes_read,"
      "bytes_written,ms,joules,joules_sd,joules_kind,joules_source");
  for (const LayerRow& r : s.layers) {
    w.field(r.key).field(r.layer).field(name(r.type)).field(name(r.phase)).field(r.calls);
    w.field(r.flops_weighted).field(r.flops_all).field(r.bytes_read).field(r.bytes_written);
    w.field(r.ms).field(r.joules).field(r.joules.source).end_row();
  }
  return w.take();
}

void write_study(const std::string& dir, const StudyResult& s) {
  std::error_code bad;
  std::filesystem::create_directories(dir, bad);
  if (bad) throw io_error(str(dir, ": cannot create the folder: ", bad.message()));
  io::write_file(dir + "/runs.csv", runs_csv(s));
  io::write_file(dir + "/layers.csv", layers_csv(s));
  io::write_file(dir + "/study.json", study_json(s));
}

bool read_study(const std::string& dir, StudyResult& out) {
  const std::string path = dir + "/study.json";
  std::FILE* f = std::fopen(path.c_str(), "rb");
  if (!f) {
    if (errno == ENOENT) return false;
    fail(path, "cannot open");
  }
  std::string text;
  char buf[1 << 16];
  for (size_t n; (n = std::fread(buf, 1, sizeof buf, f)) > 0;) text.append(buf, n);
  const bool bad = std::ferror(f) != 0;
  std::fclose(f);
  if (bad) fail(path, "cannot read");
  out = study_from_json(text, path);
  return true;
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
