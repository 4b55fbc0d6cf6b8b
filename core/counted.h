// The counting scalar: a double that tallies what is done to it.
//
// A reference kernel is a template on its scalar. Run on Counted, it reports how many operations it
// really executed and which elements it really touched; the op's declared cost must equal that.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/cost.h"

namespace wattle {

/// Operations executed by Counted on this thread since the caller last reset it.
Cost& counted_tally();

struct Counted {
  double v = 0;
  // Set when the element is read or assigned. They live in the element, so that a tensor of Counted
  // knows which of its elements were touched: that makes the byte counts checkable too.
  mutable bool was_read = false;
  bool was_written = false;

  Counted() = default;
  Counted(double x) : v(x) {}
  Counted(const Counted& o) : v(o.v) { o.was_read = true; }
  Counted& operator=(const Counted& o) {
    v = o.v;
    o.was_read = true;
    was_written = true;
    return *this;
  }
  double get() const {
    was_read = true;
    return v;
  }
  explicit operator double() const { return get(); }
  explicit operator float() const { return static_cast<float>(get()); }
  explicit operator bool() const { return get() != 0; }
  template <class I>
  requires std::is_integral_v<I>
  explicit operator I() const { return static_cast<I>(get()); }

  Counted& operator+=(const Counted& o) { return *this = *this + o; }
  Counted& operator-=(const Counted& o) { return *this = *this - o; }
  Counted& operator*=(const Counted& o) { return *this = *this * o; }
  Counted& operator/=(const Counted& o) { return *this = *this / o; }

  friend Counted operator+(const Counted& a, const Counted& b) {
    ++counted_tally().add;
    return {a.get() + b.get()};
  }
  friend Counted operator-(const Counted& a, const Counted& b) {
    ++counted_tally().add;
    return {a.get() - b.get()};
  }
  friend Counted operator*(const Counted& a, const Counted& b) {
    ++counted_tally().mul;
    return {a.get() * b.get()};
  }
  friend Counted operator/(const Counted& a, const Counted& b) {
    ++counted_tally().special;
    return {a.get() / b.get()};
  }
  friend Counted operator-(const Counted& a) {
    ++counted_tally().cmp;
    return {-a.get()};
  }
  friend bool operator<(const Counted& a, const Counted& b) { return compare(a, b, a.v < b.v); }
  friend bool operator>(const Counted& a, const Counted& b) { return compare(a, b, a.v > b.v); }
  friend bool operator<=(const Counted& a, const Counted& b) { return compare(a, b, a.v <= b.v); }
  friend bool operator>=(const Counted& a, const Counted& b) { return compare(a, b, a.v >= b.v); }
  friend bool operator==(const Counted& a, const Counted& b) { return compare(a, b, a.v == b.v); }
  friend bool operator!=(const Counted& a, const Counted& b) { return compare(a, b, a.v != b.v); }

 private:
  static bool compare(const Counted& a, const Counted& b, bool r) {
    ++counted_tally().cmp;
    a.was_read = b.was_read = true;
    return r;
  }
};

// The functions that reference kernels call, for every scalar. One special operation each; sign and
// ordering functions are comparisons.
namespace num {

#define WATTLE_SPECIAL(fn)                          \
  inline float fn(float x) { return std::fn(x); }   \
  inline double fn(double x) { return std::fn(x); } \
  inline Counted fn(const Counted& x) {             \
    ++counted_tally().special;                      \
    return {std::fn(x.get())};                      \
  }
WATTLE_SPECIAL(exp)
WATTLE_SPECIAL(expm1)
WATTLE_SPECIAL(log)
WATTLE_SPECIAL(log1p)
WATTLE_SPECIAL(sqrt)
WATTLE_SPECIAL(tanh)
WATTLE_SPECIAL(erf)
#undef WATTLE_SPECIAL

inline float pow(float a, float b) { return std::pow(a, b); }
inline double pow(double a, double b) { return std::pow(a, b); }
inline Counted pow(const Counted& a, const Counted& b) {
  ++counted_tally().special;
  return {std::pow(a.get(), b.get())};
}

/// Not-a-number test: costs nothing, as hardware folds it into the comparison beside it.
template <class T>
bool isnan(const T& x) {
  if constexpr (std::is_same_v<T, Counted>) return std::isnan(x.get());
  else if constexpr (std::is_floating_point_v<T>) return std::isnan(x);
  else return false;
}

/// Nearest whole number, ties to even: one addition, which is how a vector unit without an
/// instruction for it rounds.
template <class T>
T round_even(const T& x) {
  if constexpr (std::is_same_v<T, Counted>) {
    ++counted_tally().add;
    return {std::nearbyint(x.get())};
  } else {
    return std::nearbyint(x);
  }
}

/// Absolute value: one sign change.
template <class T>
T abs(const T& x) {
  if constexpr (std::is_same_v<T, Counted>) {
    ++counted_tally().cmp;
    return {std::fabs(x.get())};
  } else if constexpr (std::is_unsigned_v<T>) {
    return x;
  } else {
    return x < T(0) ? static_cast<T>(-x) : x;
  }
}

/// acc + a * b as one multiply-accumulate: the unit in which contractions are counted.
template <class T>
T mac(const T& acc, const T& a, const T& b) {
  if constexpr (std::is_same_v<T, Counted>) {
    ++counted_tally().mac;
    return {acc.get() + a.get() * b.get()};
  } else {
    return static_cast<T>(acc + a * b);
  }
}

}  // namespace num
}  // namespace wattle
