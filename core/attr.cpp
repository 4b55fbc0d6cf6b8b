#include "core/attr.h"

#include <charconv>
#include <cstdio>

#include "core/error.h"

namespace wattle::attr {
namespace {

[[noreturn]] void fail(Where w, std::string_view found, std::string_view expected) {
  throw value_error(
      str(w.op, ": attribute ", w.field, ": found '", found, "', expected ", expected));
}

template <class T>
void number(Where w, std::string_view s, T& v, const char* expected) {
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (ec != std::errc() || end != s.data() + s.size()) fail(w, s, expected);
}

}  // namespace

std::string text(int64_t v) { return std::to_string(v); }
std::string text(double v) {
  // The shortest decimal that reads back as the same double.
  char buf[32];
  const auto r = std::to_chars(buf, buf + sizeof buf, v);
  return {buf, r.ptr};
}
std::string text(bool v) { return v ? "true" : "false"; }
std::string text(DType v) { return std::string(name(v)); }
std::string text(const std::string& v) { return v; }
std::string text(const Shape& v) {
  if (v.empty()) return "none";
  std::string s;
  for (int i = 0; i < v.size(); ++i) s += (i ? "," : "") + std::to_string(v[i]);
  return s;
}
std::string text(const Pair& v) { return std::to_string(v.h) + "," + std::to_string(v.w); }

void parse(Where w, std::string_view s, int64_t& v) { number(w, s, v, "an integer"); }
void parse(Where w, std::string_view s, uint64_t& v) { number(w, s, v, "an integer >= 0"); }
void parse(Where w, std::string_view s, double& v) {
  if (!s.empty() && s.front() == '+') s.remove_prefix(1);
  number(w, s, v, "a number");
}
void parse(Where w, std::string_view s, bool& v) {
  if (s == "true" || s == "True" || s == "1") v = true;
  else if (s == "false" || s == "False" || s == "0") v = false;
  else fail(w, s, "true or false");
}
void parse(Where, std::string_view s, DType& v) { v = dtype_from_name(s); }
void parse(Where, std::string_view s, std::string& v) { v = std::string(s); }

void parse(Where w, std::string_view s, Shape& v) {
  v = {};
  if (s.size() >= 2 && (s.front() == '[' || s.front() == '(')) s = s.substr(1, s.size() - 2);
  if (s.empty() || s == "none") return;
  while (true) {
    const size_t comma = s.find(',');
    std::string_view item = s.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    int64_t n = 0;
    number(w, item, n, "integers separated by commas");
    v.push_back(n);
    if (comma == std::string_view::npos) return;
    s.remove_prefix(comma + 1);
  }
}

void parse(Where w, std::string_view s, Pair& v) {
  Shape list;
  parse(w, s, list);
  if (list.size() == 1) v = Pair(list[0]);
  else if (list.size() == 2) v = Pair(list[0], list[1]);
  else fail(w, s, "one or two integers");
}

void pack(int64_t v, device::Field& f) {
  f.integer = v;
  f.number = static_cast<double>(v);
}
void pack(uint64_t v, device::Field& f) { pack(static_cast<int64_t>(v), f); }
void pack(double v, device::Field& f) { f.number = v; }
void pack(bool v, device::Field& f) { pack(static_cast<int64_t>(v), f); }
void pack(DType v, device::Field& f) { pack(static_cast<int64_t>(v), f); }
void pack(const std::string& v, device::Field& f) { f.text = v.c_str(); }
void pack(const Shape& v, device::Field& f) {
  f.count = v.size();
  for (int i = 0; i < v.size(); ++i) f.list[i] = v[i];
}
void pack(const Pair& v, device::Field& f) { pack(Shape{v.h, v.w}, f); }

}  // namespace wattle::attr
