#include "ops/order.h"

namespace wattle::order {
namespace {

// The first k of the packed keys, in order; every comparison is counted. A few are kept in a sorted
// list at the front, against whose last one most keys lose at once.
template <class P>
int64_t keep_few(std::vector<P>& keys, int64_t k) {
  int64_t comparisons = 0;
  P* const best = keys.data();
  const int64_t n = static_cast<int64_t>(keys.size());
  for (int64_t i = 1; i < n; ++i) {
    const P key = best[i];
    int64_t at = std::min(i, k);
    ++comparisons;
    if (!(key < best[at - 1])) {
      if (i < k) best[i] = key;
      continue;
    }
    if (at == k) --at;
    for (; at > 0; --at) {
      ++comparisons;
      if (!(key < best[at - 1])) break;
      best[at] = best[at - 1];
    }
    best[at] = key;
  }
  return comparisons;
}

template <class P>
int64_t select(std::vector<P>& keys, int64_t k) {
  if (k > 0 && k <= 32) return keep_few(keys, k);
  int64_t comparisons = 0;
  const auto less = [&comparisons](const P& a, const P& b) {
    ++comparisons;
    return a < b;
  };
  const int64_t n = static_cast<int64_t>(keys.size());
  if (k * 8 <= n) std::partial_sort(keys.begin(), keys.begin() + k, keys.end(), less);
  else std::sort(keys.begin(), keys.end(), less);
  return comparisons;
}

}  // namespace

void by_insertion(const char* op, const Tensor& x, Outs out, const Job& j) {
  dispatch_all(op, x.dtype(), [&]<class T>() {
    each_column<T>(x, out, j, [&](int64_t, const T* column, int64_t* list) {
      insertion(column, j.split.n, j.split.inner, j.k, j.descending, list);
    });
  });
}

void by_keys(const char* op, const Tensor& x, Outs out, const Job& j) {
  const int64_t n = j.split.n, columns = j.split.outer * j.split.inner;
  std::vector<int64_t> comparisons(static_cast<size_t>(columns));
  dispatch_all(op, x.dtype(), [&]<class T>() {
    if constexpr (!std::is_same_v<T, Counted>) {
      using P = Packed<T>;
      constexpr int shift = sizeof(P) * 4;
      each_column<T>(x, out, j, [&](int64_t c, const T* column, int64_t* list) {
        thread_local std::vector<P> keys;
        keys.resize(static_cast<size_t>(n));
        for (int64_t i = 0; i < n; ++i)
          keys[static_cast<size_t>(i)] =
              P{key_of(column[i * j.split.inner], j.descending)} << shift | static_cast<P>(i);
        comparisons[static_cast<size_t>(c)] = select(keys, j.k);
        for (int64_t i = 0; i < j.k; ++i)
          list[i] = static_cast<int64_t>(keys[static_cast<size_t>(i)] & ((P{1} << shift) - 1));
      });
    }
  });
  // A key takes about three integer operations: the sign's spread, its mask, and the packing.
  Cost c{.iop = 3 * columns * n,
         .read = j.k > 0 ? x.nbytes() : 0,
         .written = out[0].nbytes() + out[1].nbytes()};
  for (int64_t k : comparisons) c.iop += k;
  report_executed(c);
}

Refusal no_keys(const Tensor& x) {
  if (x.dtype() == DType::counted) return {"keys are made of f32, f64 and integers"};
  for (int64_t n : x.shape())
    if (n > int64_t{0xffffffff}) return {"keys hold 32 bits of index"};
  return {};
}

}  // namespace wattle::order
