// Orders of numbers, shared by sort and topk. As in PyTorch not-a-number is the largest of all,
// equal numbers keep their order, and -0 equals 0.
#pragma once
#include <algorithm>
#include <bit>
#include <vector>

#include "ops/indexing.h"

namespace wattle::order {

/// Whether a comes strictly before b. One comparison.
template <class T>
bool before(const T& a, const T& b, bool descending) {
  const bool less = descending ? a > b : a < b;
  const bool nan_a = num::isnan(a), nan_b = num::isnan(b);
  if (!nan_a && !nan_b) return less;
  return descending ? nan_a && !nan_b : nan_b && !nan_a;
}

/// ceil(log2(n)) for n >= 1.
inline int64_t log2_up(int64_t n) { return std::bit_width(static_cast<uint64_t>(n - 1)); }

/// Comparisons of the binary insertion below, of n numbers into a list that keeps the first k:
/// the i-th one is placed among min(i, k) others with ceil(log2(min(i, k) + 1)) comparisons, and
///   sum of ceil(log2(i + 1)) for i < k  =  k*L - 2^L + 1,  L = ceil(log2 k)   (Knuth,
///   TAOCP 5.3.1).
inline int64_t insertion_comparisons(int64_t n, int64_t k) {
  k = std::min(n, k);
  if (k < 1) return 0;
  const int64_t levels = log2_up(k);
  return k * levels - (int64_t{1} << levels) + 1 + (n - k) * log2_up(k + 1);
}

/// Indices of the first k of n numbers x[i * step], in order, by binary insertion with a number of
/// comparisons that does not depend on the numbers.
template <class T>
void insertion(const T* x, int64_t n, int64_t step, int64_t k, bool descending, int64_t* list) {
  for (int64_t i = 0, held = 0; i < n; ++i) {
    int64_t lo = 0, hi = held;
    for (int64_t left = log2_up(held + 1); left > 0; --left) {
      const int64_t mid = std::min((lo + hi) / 2, held - 1);
      const bool first = before(x[i * step], x[list[mid] * step], descending);
      if (lo < hi) (first ? hi : lo) = first ? mid : mid + 1;
    }
    if (lo >= k) continue;
    held = std::min(held + 1, k);
    std::copy_backward(list + lo, list + held - 1, list + held);
    list[lo] = i;
  }
}

/// An unsigned number that is ordered as x is.
template <class T>
auto key_of(T x, bool descending) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    constexpr Bits sign = Bits{1} << (8 * sizeof(T) - 1);
    Bits b = x != x ? ~Bits{0} : std::bit_cast<Bits>(x == 0 ? T(0) : x);
    if (x == x) b = b & sign ? ~b : b | sign;
    return descending ? static_cast<Bits>(~b) : b;
  } else {
    using Wide = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
    Wide b = static_cast<Wide>(x);
    if constexpr (std::is_signed_v<T>) b ^= Wide{1} << (8 * sizeof(T) - 1);
    return descending ? static_cast<Wide>(~b) : b;
  }
}

/// Key and index in one number: sorting these sorts stably.
template <class T>
using Packed = std::conditional_t<sizeof(T) == 8, unsigned __int128, uint64_t>;

/// Which k of the n numbers along dim come first, in order: kernel bodies of sort and topk. `pick`
/// fills list[0, k) for the column x[0], x[step], ..
struct Job {
  indexing::Split split;
  int64_t k;
  bool descending;
};
template <class T, class Pick>
void each_column(const Tensor& x, Outs out, const Job& j, Pick&& pick) {
  const auto [outer, n, inner] = j.split;
  const T* const from = x.data<T>();
  T* const values = out[0].data<T>();
  int64_t* const indices = out[1].data<int64_t>();
  parallel_for(outer * inner, 1 + indexing::grain<T>(1 << 12) / (n + 1),
               [&, n = n, inner = inner](int64_t b, int64_t e) {
                 std::vector<int64_t> list(static_cast<size_t>(j.k));
                 for (int64_t c = b; c < e; ++c) {
                   const T* const column = from + c / inner * n * inner + c % inner;
                   const int64_t to = c / inner * j.k * inner + c % inner;
                   pick(c, column, list.data());
                   for (int64_t i = 0; i < j.k; ++i) {
                     values[to + i * inner] = column[list[static_cast<size_t>(i)] * inner];
                     indices[to + i * inner] = list[static_cast<size_t>(i)];
                   }
                 }
               });
}

/// The reference: a fixed number of comparisons.
void by_insertion(const char* op, const Tensor& x, Outs out, const Job& j);
/// Packed keys through std::sort (or std::partial_sort for few); reports the integer comparisons.
void by_keys(const char* op, const Tensor& x, Outs out, const Job& j);
/// The counting scalar has no keys.
Refusal no_keys(const Tensor& x);

}  // namespace wattle::order
