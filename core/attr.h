// Attributes of an op: a plain struct that lists its fields once, for the shell, the documents and
// the tape's printout alike.
//
//   struct PadAttr {
//     Shape pad;
//     double value = 0;
//     template <class V> void visit(V&& v) { v("pad", pad); v("value", value); }
//   };
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/launch.h"
#include "core/shape.h"

namespace wattle {

/// Two numbers for height and width; one number in text stands for both.
struct Pair {
  int64_t h = 0, w = 0;
  Pair() = default;
  Pair(int64_t both) : h(both), w(both) {}
  Pair(int64_t height, int64_t width) : h(height), w(width) {}
  friend bool operator==(const Pair&, const Pair&) = default;
};

struct NoAttr {
  template <class V>
  void visit(V&&) {}
};

/// Text of a field and back. parse throws value_error naming op, field, what was found and the form
/// expected. Lists are written 1,2,3; nothing is `none`; truth values are true and false.
namespace attr {
std::string text(int64_t v);
std::string text(double v);
std::string text(bool v);
std::string text(DType v);
std::string text(const std::string& v);
std::string text(const Shape& v);
std::string text(const Pair& v);
template <class T>
std::string text(const std::optional<T>& v) {
  return v ? text(*v) : "none";
}

struct Where {
  std::string_view op, field;
};
void parse(Where w, std::string_view s, int64_t& v);
void parse(Where w, std::string_view s, uint64_t& v);
void parse(Where w, std::string_view s, double& v);
void parse(Where w, std::string_view s, bool& v);
void parse(Where w, std::string_view s, DType& v);
void parse(Where w, std::string_view s, std::string& v);
void parse(Where w, std::string_view s, Shape& v);
void parse(Where w, std::string_view s, Pair& v);
template <class T>
void parse(Where w, std::string_view s, std::optional<T>& v) {
  if (s == "none") return v.reset();
  T t{};
  parse(w, s, t);
  v = t;
}
/// A field as device code sees it.
void pack(int64_t v, device::Field& f);
void pack(uint64_t v, device::Field& f);
void pack(double v, device::Field& f);
void pack(bool v, device::Field& f);
void pack(DType v, device::Field& f);
void pack(const std::string& v, device::Field& f);
void pack(const Shape& v, device::Field& f);
void pack(const Pair& v, device::Field& f);
template <class T>
void pack(const std::optional<T>& v, device::Field& f) {
  f.given = v.has_value();
  if (v) pack(*v, f);
}
inline std::string text(uint64_t v) { return text(static_cast<int64_t>(v)); }
}  // namespace attr

}  // namespace wattle
