// Device code of sort and topk. Not-a-number is the largest of all, equal numbers keep their order.
//
// Short columns: every element counts how many come before it. Long ones: sorted runs are merged,
// doubling in length; every element finds its place in the other run by bisection.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

template <class T>
struct Order {
  bool descending;
  // Whether a comes strictly before b.
  WATTLE_HD bool before(T a, T b) const {
    const bool nan_a = a != a, nan_b = b != b;
    if (!nan_a && !nan_b) return descending ? a > b : a < b;
    return descending ? nan_a && !nan_b : nan_b && !nan_a;
  }
};

template <class T>
struct Count {
  Order<T> order;
  Along at;
  int64_t k;
  const T* x;
  T* values;
  int64_t* indices;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t column = i / at.n, e = i - column * at.n, base = at.base(column);
    const T mine = x[base + e * at.inner];
    int64_t rank = 0;
    for (int64_t j = 0; j < at.n; ++j) {
      const T other = x[base + j * at.inner];
      rank += order.before(other, mine) || (j < e && !order.before(mine, other));
    }
    if (rank >= k) return;
    const int64_t to = column / at.inner * k * at.inner + column % at.inner + rank * at.inner;
    values[to] = mine;
    indices[to] = e;
  }
};

// places[column, e]: the order so far, as positions in the column.
struct Start {
  int64_t n;
  int64_t* places;
  WATTLE_HD void operator()(int64_t i) const { places[i] = i % n; }
};
template <class T>
struct Merge {
  Order<T> order;
  Along at;
  int64_t width;
  const T* x;
  const int64_t* from;
  int64_t* to;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t column = i / at.n, e = i - column * at.n, base = at.base(column);
    const int64_t run = e / width, pair = run / 2 * 2 * width;
    const bool left = run % 2 == 0;
    // The other run, as [lo, hi).
    int64_t lo = left ? pair + width : pair, hi = left ? pair + 2 * width : pair + width;
    if (lo > at.n) lo = at.n;
    if (hi > at.n) hi = at.n;
    const int64_t begin = lo;
    const int64_t* const p = from + column * at.n;
    const T mine = x[base + p[e] * at.inner];
    while (lo < hi) {  // how many of the other run come first; of equals the left run's do
      const int64_t mid = (lo + hi) / 2;
      const T other = x[base + p[mid] * at.inner];
      if (left ? order.before(other, mine) : !order.before(mine, other)) lo = mid + 1;
      else hi = mid;
    }
    to[column * at.n + pair + (e - run * width) + (lo - begin)] = p[e];
  }
};
template <class T>
struct Finish {
  Along at;
  int64_t k;
  const T* x;
  const int64_t* places;
  T* values;
  int64_t* indices;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t column = i / k, e = i - column * k, from = places[column * at.n + e];
    const int64_t to = column / at.inner * k * at.inner + column % at.inner + e * at.inner;
    values[to] = x[at.base(column) + from * at.inner];
    indices[to] = from;
  }
};

template <class T>
const char* first_k(const Launch& l, Along at, int64_t k, bool descending) {
  const T* const x = in<T>(l, 0);
  T* const values = out<T>(l, 0);
  int64_t* const indices = out<int64_t>(l, 1);
  const int64_t total = at.columns() * at.n;
  const Order<T> order{descending};
  if (total == 0 || k == 0) return nullptr;
  if (at.n <= 1024) return each(total, Count<T>{order, at, k, x, values, indices});
  const Scratch held(2 * total * 8);
  if (!held)
    return fail("out of memory for the places of %lld numbers", static_cast<long long>(total));
  int64_t *from = held.as<int64_t>(), *to = from + total;
  if (const char* e = each(total, Start{at.n, from})) return e;
  for (int64_t width = 1; width < at.n; width *= 2) {
    if (const char* e = each(total, Merge<T>{order, at, width, x, from, to})) return e;
    std::swap(from, to);
  }
  return each(at.columns() * k, Finish<T>{at, k, x, from, values, indices});
}

}  // namespace

WATTLE_DEVICE_OP(sort) {
  const Along at = along(l.in[0], integer(l, "dim"));
  return numeric(l, l.in[0].dtype, [&](auto t) {
    return first_k<typename decltype(t)::type>(l, at, at.n, integer(l, "descending") != 0);
  });
}
WATTLE_DEVICE_OP(topk) {
  const Along at = along(l.in[0], integer(l, "dim"));
  return numeric(l, l.in[0].dtype, [&](auto t) {
    return first_k<typename decltype(t)::type>(l, at, integer(l, "k"), integer(l, "largest") != 0);
  });
}

}  // namespace wattle::device
