// One exception type per kind of mistake; every message names the op or file, what was found and
// what was expected.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace wattle {

struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct shape_error : error {
  using error::error;
};  ///< sizes or ranks that do not fit
struct dtype_error : error {
  using error::error;
};  ///< an element type an op does not take
struct device_error : error {
  using error::error;
};  ///< a device that is absent or does not match
struct value_error : error {
  using error::error;
};  ///< an attribute or argument out of range
struct autograd_error : error {
  using error::error;
};  ///< a gradient that cannot be computed
struct io_error : error {
  using error::error;
};  ///< a file that cannot be read or written

namespace detail {
inline void append(std::string& s, std::string_view v) { s.append(v); }
inline void append(std::string& s, const char* v) { s.append(v); }
inline void append(std::string& s, char c) { s.push_back(c); }
void append(std::string& s, double v);
template <class T>
requires std::is_integral_v<T>
void append(std::string& s, T v) { s.append(std::to_string(v)); }
template <class T>
requires requires(const T& t) { t.str(); }
void append(std::string& s, const T& v) { s.append(v.str()); }
}  // namespace detail

/// Concatenates its arguments as text; anything with a `.str()` member prints itself.
template <class... Args>
std::string str(const Args&... args) {
  std::string s;
  (detail::append(s, args), ...);
  return s;
}

}  // namespace wattle
