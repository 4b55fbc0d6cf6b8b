// Device code of reductions over any dims: sum, mean, var, max, min, argmax; and sum to a shape.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// Where the elements of every result lie: neighbouring dims of one kind are merged.
struct Split {
  int kept = 0, reduced = 0;
  int64_t kept_size[max_rank], kept_stride[max_rank];
  int64_t reduced_size[max_rank], reduced_stride[max_rank];
  int64_t rows = 1, n = 1;
  bool side_by_side = false;
  WATTLE_HD static int64_t offset(int64_t i, int rank, const int64_t* size, const int64_t* stride) {
    int64_t o = 0;
    for (int d = rank - 1; d > 0; --d) {
      const int64_t q = quotient(i, size[d]);
      o += (i - q * size[d]) * stride[d];
      i = q;
    }
    return rank ? o + i * stride[0] : 0;
  }
  WATTLE_HD int64_t row(int64_t r) const { return offset(r, kept, kept_size, kept_stride); }
  WATTLE_HD int64_t element(int64_t i) const {
    return offset(i, reduced, reduced_size, reduced_stride);
  }
};

Split split(const View& x, uint32_t mask) {
  Split s;
  int64_t stride = 1;
  int64_t strides[max_rank];
  for (int d = x.rank - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= x.size[d];
  }
  for (int d = 0; d < x.rank; ++d) {
    const bool r = mask >> d & 1u;
    (r ? s.n : s.rows) *= x.size[d];
    if (x.size[d] == 1) continue;
    int& count = r ? s.reduced : s.kept;
    int64_t* const size = r ? s.reduced_size : s.kept_size;
    int64_t* const step = r ? s.reduced_stride : s.kept_stride;
    if (count > 0 && step[count - 1] == x.size[d] * strides[d]) {
      size[count - 1] *= x.size[d];
      step[count - 1] = strides[d];
    } else {
      size[count] = x.size[d];
      step[count++] = strides[d];
    }
  }
  s.side_by_side = s.kept > 0 && s.kept_stride[s.kept - 1] == 1;
  return s;
}

uint32_t mask_of(const Launch& l) {
  const Field& dim = field(l, "dim");
  const int rank = l.in[0].rank;
  if (dim.count == 0) return (1u << rank) - 1;
  uint32_t mask = 0;
  for (int i = 0; i < dim.count; ++i)
    mask |= 1u << (dim.list[i] < 0 ? dim.list[i] + (rank ? rank : 1) : dim.list[i]);
  return rank ? mask : 0;
}

// ---- sums ----

template <class T, class A, class Y>
struct Sum {
  Split s;
  const T* x;
  Y* y;
  A divisor;  // 0 = none
  struct Acc {
    A v;
  };
  WATTLE_HD Acc start() const { return {A(0)}; }
  WATTLE_HD void take(Acc& a, int64_t row, int64_t i) const {
    a.v += static_cast<A>(x[s.row(row) + s.element(i)]);
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.v += b.v; }
  WATTLE_HD void store(int64_t row, const Acc& a) const {
    y[row] = static_cast<Y>(divisor != A(0) ? a.v / divisor : a.v);
  }
};

template <class T, class A>
const char* sum_of(const Launch& l, bool mean) {
  const Split s = split(l.in[0], mask_of(l));
  // The mean of nothing is 0 / 0, as on the host.
  if (mean && s.n == 0) return fail("the mean of no elements is asked for");
  return fold(s.rows, s.n, Sum<T, A, A>{s, in<T>(l, 0), out<A>(l, 0), mean ? A(s.n) : A(0)},
              s.side_by_side);
}

// ---- variance, by merging means (Chan, Golub, LeVeque 1983): one pass, no cancellation ----

template <class T>
struct Var {
  Split s;
  const T* x;
  T* y;
  T divisor;
  struct Acc {
    T n, mean, squares;
  };
  WATTLE_HD Acc start() const { return {T(0), T(0), T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t row, int64_t i) const {
    const T v = x[s.row(row) + s.element(i)], d = v - a.mean;
    a.n += T(1);
    a.mean += d / a.n;
    a.squares += d * (v - a.mean);
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const {
    if (b.n == T(0)) return;
    const T n = a.n + b.n, d = b.mean - a.mean;
    a.mean += d * (b.n / n);
    a.squares += b.squares + d * d * (a.n * b.n / n);
    a.n = n;
  }
  WATTLE_HD void store(int64_t row, const Acc& a) const { y[row] = a.squares / divisor; }
};

// ---- extrema: not-a-number wins, of equal elements the first one ----

template <class T>
WATTLE_HD bool is_nan(T v) {
  return v != v;
}

// The value travels with its place, in 64 bits each, so that two candidates can be compared.
template <class T, bool Largest>
struct Keyed {
  Split s;
  const T* x;
  T* value;
  int64_t* index;
  struct Acc {
    int64_t at;
    T v;
    char pad[8 - sizeof(T) % 8];
  };
  WATTLE_HD Acc start() const {
    Acc a{};
    a.at = -1;
    return a;
  }
  WATTLE_HD static bool wins(T a, int64_t i, T b, int64_t j) {
    if (is_nan(a) || is_nan(b)) return is_nan(a) && (!is_nan(b) || i < j);
    return (Largest ? a > b : a < b) || (a == b && i < j);
  }
  WATTLE_HD void take(Acc& a, int64_t row, int64_t i) const {
    const T v = x[s.row(row) + s.element(i)];
    if (a.at < 0 || wins(v, i, a.v, a.at)) a.at = i, a.v = v;
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const {
    if (b.at >= 0 && (a.at < 0 || wins(b.v, b.at, a.v, a.at))) a = b;
  }
  WATTLE_HD void store(int64_t row, const Acc& a) const {
    if (value) value[row] = a.v;
    if (index) index[row] = a.at;
  }
};

template <bool Largest>
const char* extremum(const Launch& l) {
  const Split s = split(l.in[0], mask_of(l));
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return fold(s.rows, s.n, Keyed<T, Largest>{s, in<T>(l, 0), out<T>(l, 0), out<int64_t>(l, 1)},
                s.side_by_side);
  });
}

// gy at the chosen element of each column, 0 elsewhere.
template <class T>
struct Put {
  Along at;
  const T* gy;
  const int64_t* index;
  T* gx;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t o = i / (at.n * at.inner), r = i - o * at.n * at.inner,
                  c = o * at.inner + r % at.inner;
    gx[i] = index[c] == r / at.inner ? gy[c] : T(0);
  }
};

}  // namespace

WATTLE_DEVICE_OP(sum) {
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using A = typename std::conditional<std::is_integral<T>::value, int64_t, T>::type;
    return sum_of<T, A>(l, false);
  });
}
WATTLE_DEVICE_OP(mean) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return sum_of<T, T>(l, true);
  });
}
WATTLE_DEVICE_OP(var) {
  const Split s = split(l.in[0], mask_of(l));
  const int64_t left = s.n - integer(l, "correction");
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return fold(s.rows, s.n, Var<T>{s, in<T>(l, 0), out<T>(l, 0), T(left > 0 ? left : 0)},
                s.side_by_side);
  });
}
WATTLE_DEVICE_OP(max) { return extremum<true>(l); }
WATTLE_DEVICE_OP(min) { return extremum<false>(l); }
WATTLE_DEVICE_OP(argmax) {
  const Field& dim = field(l, "dim");
  const int rank = l.in[0].rank;
  const int64_t d = dim.integer < 0 ? dim.integer + rank : dim.integer;
  const uint32_t mask = !dim.given || rank == 0 ? (1u << rank) - 1 : 1u << d;
  const Split s = split(l.in[0], mask);
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return fold(s.rows, s.n, Keyed<T, true>{s, in<T>(l, 0), nullptr, out<int64_t>(l, 0)},
                s.side_by_side);
  });
}
WATTLE_DEVICE_OP(max_grad) {
  const Along at = along(l.out[0], integer(l, "dim"));
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, Put<T>{at, in<T>(l, 0), in<int64_t>(l, 1), out<T>(l, 0)});
  });
}

}  // namespace wattle::device
