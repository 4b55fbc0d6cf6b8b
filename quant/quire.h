// The quire: a fixed-point accumulator wide enough that sums of products of posits are exact,
// whatever their order. 16 N bits in two's complement, last bit worth minpos^2.
#pragma once
#include <array>

#include "quant/posit.h"

namespace wattle::quant {

/// Exact for fewer than 2^31 products. Beyond its range it becomes NaR and stays it until clear().
template <int N, int ES = 2>
class Quire {
 public:
  using P = Posit<N, ES>;
  WATTLE_BOTH void clear() { *this = Quire(); }
  WATTLE_BOTH bool is_nar() const { return nar_; }
  WATTLE_BOTH void add_product(P a, P b) { accumulate(multiply(a.unpack(), b.unpack())); }
  WATTLE_BOTH void subtract_product(P a, P b) { add_product(-a, b); }
  WATTLE_BOTH void add(P a) { accumulate(a.unpack()); }
  WATTLE_BOTH void subtract(P a) { add(-a); }
  WATTLE_BOTH void add(const Quire& q) {
    nar_ = nar_ || q.nar_;
    add_words(q.words_);
  }
  WATTLE_BOTH void negate();
  WATTLE_BOTH P to_posit() const;  ///< rounds once

 private:
  static constexpr int word_count = 16 * N / 64;
  static constexpr int last_bit = -2 * P::max_scale;  ///< power of two
  using Words = std::array<uint64_t, word_count>;     // lowest first
  WATTLE_BOTH bool negative() const { return words_[word_count - 1] >> 63; }
  WATTLE_BOTH void accumulate(const PositParts& p);
  WATTLE_BOTH void add_words(const Words& w);
  Words words_{};
  bool nar_ = false;
};

template <int N, int ES>
WATTLE_BOTH void Quire<N, ES>::accumulate(const PositParts& p) {
  nar_ = nar_ || p.nar;
  if (p.nar || p.zero) return;
  const int zeros = trailing_zeros(p.frac);
  const uint64_t m = p.frac >> zeros;
  const int at = p.scale - 63 + zeros - last_bit;  // >= 0: nothing lies below minpos^2
  Words w{};
  const size_t word = static_cast<size_t>(at / 64);
  const int shift = at % 64;
  w[word] = m << shift;
  if (shift && word + 1 < w.size()) w[word + 1] = m >> (64 - shift);
  Quire term;
  term.words_ = w;
  if (p.negative) term.negate();
  add_words(term.words_);
}

template <int N, int ES>
WATTLE_BOTH void Quire<N, ES>::add_words(const Words& w) {
  const bool before = negative(), other = w[word_count - 1] >> 63;
  uint64_t carry = 0;
  for (size_t i = 0; i < words_.size(); ++i) {
    const uint128 sum = uint128{words_[i]} + w[i] + carry;
    words_[i] = static_cast<uint64_t>(sum);
    carry = static_cast<uint64_t>(sum >> 64);
  }
  nar_ = nar_ || (before == other && negative() != before);
}

template <int N, int ES>
WATTLE_BOTH void Quire<N, ES>::negate() {
  uint64_t carry = 1;
  for (uint64_t& w : words_) {
    const uint128 sum = uint128{~w} + carry;
    w = static_cast<uint64_t>(sum);
    carry = static_cast<uint64_t>(sum >> 64);
  }
}

template <int N, int ES>
WATTLE_BOTH Posit<N, ES> Quire<N, ES>::to_posit() const {
  if (nar_) return P::nar();
  Quire magnitude = *this;
  if (negative()) magnitude.negate();
  int top = word_count - 1;
  while (top >= 0 && magnitude.words_[static_cast<size_t>(top)] == 0) --top;
  PositParts p;
  p.zero = top < 0;
  if (p.zero) return P::pack(p);
  const auto word = [&](int i) { return i < 0 ? 0 : magnitude.words_[static_cast<size_t>(i)]; };
  const int zeros = wattle::leading_zeros(word(top));
  p.negative = negative();
  p.scale = top * 64 + 63 - zeros + last_bit;
  p.frac = zeros ? word(top) << zeros | word(top - 1) >> (64 - zeros) : word(top);
  p.sticky = zeros ? word(top - 1) << zeros != 0 : word(top - 1) != 0;
  for (int i = top - 2; i >= 0; --i) p.sticky = p.sticky || word(i) != 0;
  return P::pack(p);
}

}  // namespace wattle::quant
