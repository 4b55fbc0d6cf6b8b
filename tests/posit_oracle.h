// An oracle for posit arithmetic that shares no code with quant/: words are read bit by bit, exact
// results are whole numbers of 512 bits or products of 128, and a result is right when the exact
// number lies between its two rounding thresholds - the posits of one bit more beside it (standard
// of 2022, 4.1), ties to the even word, never 0 or NaR for a number.
#pragma once
#include <array>
#include <cstdint>

namespace posit_oracle {

__extension__ typedef unsigned __int128 u128;

/// +-m 2^e
struct Number {
  bool nar = false, zero = false, negative = false;
  uint64_t m = 0;
  int e = 0;
};

/// Value of a word of n bits.
inline Number read(uint64_t word, int n, int es) {
  Number x;
  const uint64_t top = uint64_t{1} << (n - 1);
  x.zero = word == 0;
  x.nar = word == top;
  if (x.zero || x.nar) return x;
  x.negative = word & top;
  if (x.negative) word = (top << 1) - word;
  int at = n - 2, run = 0;
  const auto bit = [&](int i) { return i >= 0 ? word >> i & 1 : 0; };
  const uint64_t first = bit(at);
  while (at >= 0 && bit(at) == first) ++run, --at;
  --at;  // the bit that ended the run
  int exponent = 0;
  for (int i = 0; i < es; ++i, --at) exponent = 2 * exponent + static_cast<int>(bit(at));
  exponent += (first ? run - 1 : -run) * (1 << es);
  x.m = 1;
  for (; at >= 0; --at, --exponent) x.m = x.m * 2 + bit(at);
  x.e = exponent;
  return x;
}

/// Sign of a 2^ea - b 2^eb; a and b are positive.
inline int compare(u128 a, int ea, u128 b, int eb) {
  const auto normalise = [](u128& v, int& e) {
    while (!(v >> 127)) v <<= 1, --e;
  };
  normalise(a, ea);
  normalise(b, eb);
  if (ea != eb) return ea > eb ? 1 : -1;
  return a == b ? 0 : a > b ? 1 : -1;
}

/// Two's complement of 512 bits, in units of 2^-252: every sum of a product of posit32 and a
/// posit32 is one of these, exactly.
struct Whole {
  std::array<uint64_t, 8> w{};
  static Whole of(u128 m, int e, bool negative) {
    Whole x;
    const int shift = e + 252;
    for (int i = 0; i < 128; ++i)
      if (m >> i & 1) x.w[static_cast<size_t>((i + shift) / 64)] |= uint64_t{1} << (i + shift) % 64;
    return negative ? -x : x;
  }
  Whole operator-() const {
    Whole x;
    unsigned carry = 1;
    for (size_t i = 0; i < 8; ++i) {
      x.w[i] = ~w[i] + carry;
      carry = carry && x.w[i] == 0;
    }
    return x;
  }
  friend Whole operator+(const Whole& a, const Whole& b) {
    Whole x;
    u128 sum = 0;
    for (size_t i = 0; i < 8; ++i) {
      sum = (sum >> 64) + a.w[i] + b.w[i];
      x.w[i] = static_cast<uint64_t>(sum);
    }
    return x;
  }
  bool negative() const { return w[7] >> 63; }
  int sign() const {
    if (negative()) return -1;
    for (uint64_t v : w)
      if (v) return 1;
    return 0;
  }
};

/// Whether `word` is a number's rounding; `against(t)` is the sign of |number| - t.
template <class Against>
bool rounded_right(uint64_t word, int n, int es, bool negative, const Against& against) {
  const uint64_t top = uint64_t{1} << (n - 1);
  if (word == 0 || word == top || bool(word & top) != negative) return false;
  const uint64_t m = negative ? (top << 1) - word : word;
  const auto threshold = [&](uint64_t below) { return against(read(2 * below + 1, n + 1, es)); };
  if (m > 1) {
    const int s = threshold(m - 1);
    if (s < 0 || (s == 0 && m % 2 == 1)) return false;
  }
  if (m < top - 1) {
    const int s = threshold(m);
    if (s > 0 || (s == 0 && m % 2 == 1)) return false;
  }
  return true;
}

enum class Op { add, sub, mul, div, sqrt, fma };

/// Whether `word` is what the standard says for the operation on these words.
inline bool right(Op op, uint64_t word, uint64_t wa, uint64_t wb, uint64_t wc, int n, int es) {
  const Number a = read(wa, n, es), b = read(wb, n, es), c = read(wc, n, es);
  const bool two = op != Op::sqrt, three = op == Op::fma;
  const uint64_t nar = uint64_t{1} << (n - 1);
  if (a.nar || (two && b.nar) || (three && c.nar)) return word == nar;
  if (op == Op::div && b.zero) return word == nar;
  if (op == Op::sqrt && !a.zero && a.negative) return word == nar;
  switch (op) {
    case Op::mul:
      if (a.zero || b.zero) return word == 0;
      return rounded_right(word, n, es, a.negative != b.negative, [&](const Number& t) {
        return compare(u128{a.m} * b.m, a.e + b.e, t.m, t.e);
      });
    case Op::div:
      if (a.zero) return word == 0;
      return rounded_right(word, n, es, a.negative != b.negative, [&](const Number& t) {
        return compare(a.m, a.e, u128{t.m} * b.m, t.e + b.e);
      });
    case Op::sqrt:
      if (a.zero) return word == 0;
      return rounded_right(word, n, es, false, [&](const Number& t) {
        return compare(a.m, a.e, u128{t.m} * t.m, 2 * t.e);
      });
    default: break;
  }
  const auto whole = [](const Number& x) {
    return x.zero ? Whole{} : Whole::of(x.m, x.e, x.negative);
  };
  Whole sum;
  if (op == Op::fma)
    sum = (a.zero || b.zero ? Whole{}
                            : Whole::of(u128{a.m} * b.m, a.e + b.e, a.negative != b.negative)) +
          whole(c);
  else sum = whole(a) + (op == Op::sub ? -whole(b) : whole(b));
  if (sum.sign() == 0) return word == 0;
  const bool negative = sum.negative();
  const Whole magnitude = negative ? -sum : sum;
  return rounded_right(word, n, es, negative, [&](const Number& t) {
    return (magnitude + Whole::of(t.m, t.e, true)).sign();
  });
}

}  // namespace posit_oracle
