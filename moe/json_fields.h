// Descriptions from JSON: every key must be a known field of its type, and errors name file, key,
// what was found and what was expected.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/error.h"

namespace wattle::moe {

using Json = nlohmann::json;

/// Where a value stands: for messages.
struct JsonPlace {
  std::string path, key;
  [[noreturn]] void fail(const std::string& found, const std::string& expected) const {
    throw value_error(
        str(path, ": ", key.empty() ? "file" : key, ": found ", found, ", expected ", expected));
  }
};

inline void read_field(const JsonPlace& at, const Json& v, int64_t& to) {
  if (!v.is_number_integer() || v.get<int64_t>() < 0) at.fail(v.dump(), "an integer >= 0");
  to = v.get<int64_t>();
}
inline void read_field(const JsonPlace& at, const Json& v, bool& to) {
  if (!v.is_boolean()) at.fail(v.dump(), "true or false");
  to = v.get<bool>();
}
inline void read_field(const JsonPlace& at, const Json& v, std::string& to) {
  if (!v.is_string()) at.fail(v.dump(), "a text");
  to = v.get<std::string>();
}
inline void read_field(const JsonPlace& at, const Json& v, double& to) {
  if (!v.is_number()) at.fail(v.dump(), "a number");
  to = v.get<double>();
}
inline void read_field(const JsonPlace& at, const Json& v, std::optional<double>& to) {
  if (!v.is_number() || !(v.get<double>() >= 0)) at.fail(v.dump(), "a number >= 0");
  to = v.get<double>();
}
/// An object whose fields `to.visit(f)` lists as f(name, field).
template <class T>
requires requires(T t) {
  t.visit([](const char*, auto&) {});
}
void read_field(const JsonPlace& at, const Json& v, T& to) {
  if (!v.is_object()) at.fail(v.type_name(), "an object");
  for (const auto& [key, value] : v.items()) {
    std::string known;
    bool found = false;
    to.visit([&, &key = key, &value = value](const char* name, auto& field) {
      known += (known.empty() ? "" : ", ") + std::string(name);
      if (key != name) return;
      found = true;
      read_field(JsonPlace{at.path, at.key.empty() ? key : at.key + "." + key}, value, field);
    });
    if (!found) at.fail("'" + key + "'", "one of " + known);
  }
}

/// Throws io_error naming `path` and what is wrong.
Json json_of_file(const std::string& path);

}  // namespace wattle::moe
