// Device code of the ops that move elements: through an index, end to end, with a border.
//
// The device cannot stop a call for an index that is out of range: what it would have read becomes
// not-a-number (0 for integers), and nothing is written for it.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

template <class T>
WATTLE_HD T missing() {
  return std::is_floating_point<T>::value ? T(NAN) : T(0);
}

// y [outer, k, inner] = x [outer, index[k], inner]
template <class T>
struct TakeRows {
  const T* x;
  Index index;
  T* y;
  int64_t n, k, inner;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t q = i / inner, c = i - q * inner, r = index(q % k);
    y[i] = r >= 0 && r < n ? x[(q / k * n + r) * inner + c] : missing<T>();
  }
};

// gx [outer, n, inner]: a thread a column adds its rows in the order of the index.
template <class T>
struct AddRows {
  const T* gy;
  Index index;
  T* gx;
  int64_t n, k, inner;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t o = i / inner, c = i - o * inner;
    for (int64_t r = 0; r < n; ++r) gx[(o * n + r) * inner + c] = T(0);
    for (int64_t j = 0; j < k; ++j) {
      const int64_t r = index(j);
      if (r >= 0 && r < n) gx[(o * n + r) * inner + c] += gy[(o * k + j) * inner + c];
    }
  }
};

template <class T>
const char* take_rows(const Launch& l, const View& x, const View& index, Along at) {
  const int64_t k = index.numel;
  return each(l.out[0].numel, TakeRows<T>{static_cast<const T*>(x.data), Index(index), out<T>(l, 0),
                                          at.n, k, at.inner});
}
template <class T>
const char* add_rows(const Launch& l, Along at) {
  return each(at.columns(),
              AddRows<T>{in<T>(l, 0), Index(l.in[1]), out<T>(l, 0), at.n, l.in[1].numel, at.inner});
}

// Element i of an index tensor: where its coordinates lie in x (with `dim` at 0) and in src.
struct Coordinates {
  int rank, dim;
  int64_t size[max_rank], x[max_rank], src[max_rank];
  int64_t step = 1, n = 1;
  Coordinates(const View& index, const View& xs, const View& s, int64_t d)
      : rank(index.rank), dim(static_cast<int>(d < 0 ? d + index.rank : d)) {
    int64_t a = 1, b = 1;
    for (int i = rank - 1; i >= 0; --i) {
      size[i] = index.size[i];
      x[i] = a, src[i] = b;
      if (i == dim) step = a, n = xs.size[i];
      a *= xs.size[i], b *= s.size[i];
    }
  }
  WATTLE_HD void at(int64_t i, int64_t* in_x, int64_t* in_src) const {
    *in_x = *in_src = 0;
    for (int d = rank - 1; d >= 0; --d) {
      const int64_t q = i / size[d], r = i - q * size[d];
      if (d != dim) *in_x += r * x[d];
      *in_src += r * src[d];
      i = q;
    }
  }
};

template <class T>
struct Gather {
  Coordinates c;
  const T* x;
  Index index;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    int64_t o, unused;
    c.at(i, &o, &unused);
    const int64_t r = index(i);
    y[i] = r >= 0 && r < c.n ? x[o + r * c.step] : missing<T>();
  }
};

// A thread goes along `dim` of the index: only elements of one such column meet.
template <class T>
struct Scatter {
  Coordinates c;
  Along along_index;
  const T* src;
  Index index;
  T* y;
  WATTLE_HD void operator()(int64_t column) const {
    const int64_t base = along_index.base(column);
    for (int64_t k = 0; k < along_index.n; ++k) {
      const int64_t i = base + k * along_index.inner, r = index(i);
      int64_t o, s;
      c.at(i, &o, &s);
      if (r < 0 || r >= c.n) continue;
      T& to = y[o + r * c.step];
      to = static_cast<T>(to + src[s]);
    }
  }
};
template <class T>
struct Copy {
  const T* x;  // null = zeros
  T* y;
  WATTLE_HD void operator()(int64_t i) const { y[i] = x ? x[i] : T(0); }
};

struct OneHot {
  Index index;
  int64_t classes;
  int64_t* y;
  WATTLE_HD void operator()(int64_t i) const { y[i] = index(i / classes) == i % classes; }
};

// One operand of concat: rows of `run` elements, `row` apart in the result.
template <class T>
struct Place {
  const T* x;
  T* y;
  int64_t run, row, at;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t o = i / run;
    y[o * row + at + (i - o * run)] = x[i];
  }
};
const char* join(const Launch& l, int64_t dim) {
  const View& y = l.out[0];
  int64_t row = 1, at = 0;
  if (dim < 0) dim += y.rank;
  for (int d = static_cast<int>(dim); d < y.rank; ++d) row *= y.size[d];
  for (int i = 0; i < l.ins; ++i) {
    const View& x = l.in[i];
    int64_t run = 1;
    for (int d = static_cast<int>(dim); d < x.rank; ++d) run *= x.size[d];
    const char* e = by_size(l, y.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      return each(x.numel, Place<T>{in<T>(l, i), out<T>(l, 0), run, row, at});
    });
    if (e) return e;
    at += run;
  }
  return nullptr;
}

template <class T>
struct SliceGrad {
  const T* gy;
  T* gx;
  int64_t size, inner, start, step, count;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t q = i / inner, c = i - q * inner, o = q / size, at = q - o * size - start;
    const bool shown = at >= 0 && at % step == 0 && at / step < count;
    gx[i] = shown ? gy[(o * count + at / step) * inner + c] : T(0);
  }
};

// ---- pad ----

struct Border {
  int rank;
  int64_t x[max_rank], y[max_rank], left[max_rank];
  int mode;  // 0 constant, 1 reflect, 2 replicate
  Border(const Launch& l, const View& small, const View& large) : rank(small.rank) {
    const Field& pad = field(l, "pad");
    mode = says(l, "mode", "reflect") ? 1 : says(l, "mode", "replicate") ? 2 : 0;
    for (int d = 0; d < rank; ++d) {
      const int at = 2 * (rank - 1 - d);
      x[d] = small.size[d], y[d] = large.size[d];
      left[d] = at < pad.count ? pad.list[at] : 0;
    }
  }
  WATTLE_HD int64_t source(int d, int64_t o) const {
    const int64_t i = o - left[d], n = x[d];
    if (i >= 0 && i < n) return i;
    if (mode == 0) return -1;
    if (mode == 2) return i < 0 ? 0 : n - 1;
    return i < 0 ? -i : 2 * (n - 1) - i;
  }
  // Position in x of element o of y; -1 = the constant.
  WATTLE_HD int64_t from(int64_t o) const {
    int64_t at = 0, step = 1;
    for (int d = rank - 1; d >= 0; --d) {
      const int64_t q = o / y[d], s = source(d, o - q * y[d]);
      if (s < 0) return -1;
      at += s * step;
      step *= x[d];
      o = q;
    }
    return at;
  }
};
template <class T>
struct Pad {
  Border b;
  const T* x;
  T* y;
  T value;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t from = b.from(i);
    y[i] = from < 0 ? value : x[from];
  }
};
// Every element of x sums the elements of y that show it: at most three places a dim (itself and
// its mirrors), but all of a border when it is replicated, so the whole range is looked through.
template <class T>
struct PadGrad {
  Border b;
  const T* gy;
  T* gx;
  WATTLE_HD void operator()(int64_t i) const {
    int64_t want[max_rank], at[max_rank] = {}, left = i;
    for (int d = b.rank - 1; d >= 0; --d) {
      want[d] = left % b.x[d];
      left /= b.x[d];
    }
    T sum = 0;
    walk(want, at, &sum);
    gx[i] = sum;
  }
  WATTLE_HD void walk(const int64_t* want, int64_t* at, T* sum) const {
    // An odometer over the positions of y whose source is `want`, dim by dim.
    for (int d = 0; d < b.rank; ++d) {
      at[d] = next(d, -1, want[d]);
      if (at[d] < 0) return;
    }
    for (;;) {
      int64_t o = 0;
      for (int d = 0; d < b.rank; ++d) o = o * b.y[d] + at[d];
      *sum += gy[o];
      int d = b.rank - 1;
      for (; d >= 0; --d) {
        at[d] = next(d, at[d], want[d]);
        if (at[d] >= 0) break;
        at[d] = next(d, -1, want[d]);
      }
      if (d < 0) return;
    }
  }
  WATTLE_HD int64_t next(int d, int64_t after, int64_t want) const {
    for (int64_t o = after + 1; o < b.y[d]; ++o)
      if (b.source(d, o) == want) return o;
    return -1;
  }
};

}  // namespace

WATTLE_DEVICE_OP(index_select) {
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return take_rows<T>(l, l.in[0], l.in[1], along(l.in[0], integer(l, "dim")));
  });
}
WATTLE_DEVICE_OP(index_select_grad) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return add_rows<T>(l, along(l.out[0], integer(l, "dim")));
  });
}
WATTLE_DEVICE_OP(embedding) {
  return any_type(l, l.in[1].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return take_rows<T>(l, l.in[1], l.in[0], along(l.in[1], 0));
  });
}
WATTLE_DEVICE_OP(embedding_grad) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return add_rows<T>(l, along(l.out[0], 0));
  });
}
WATTLE_DEVICE_OP(gather) {
  const Coordinates c(l.in[1], l.in[0], l.in[1], integer(l, "dim"));
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, Gather<T>{c, in<T>(l, 0), Index(l.in[1]), out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(gather_grad) {
  const int64_t dim = integer(l, "dim");
  const Coordinates c(l.in[1], l.out[0], l.in[1], dim);
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    if (const char* e = each(l.out[0].numel, Copy<T>{nullptr, out<T>(l, 0)})) return e;
    const Along at = along(l.in[1], dim);
    return each(l.in[1].numel ? at.columns() : 0,
                Scatter<T>{c, at, in<T>(l, 0), Index(l.in[1]), out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(scatter_add) {
  const int64_t dim = integer(l, "dim");
  const Coordinates c(l.in[1], l.in[0], l.in[2], dim);
  return numeric(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    if (const char* e = each(l.out[0].numel, Copy<T>{in<T>(l, 0), out<T>(l, 0)})) return e;
    const Along at = along(l.in[1], dim);
    return each(l.in[1].numel ? at.columns() : 0,
                Scatter<T>{c, at, in<T>(l, 2), Index(l.in[1]), out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(one_hot) {
  const View& y = l.out[0];
  return each(y.numel, OneHot{Index(l.in[0]), y.size[y.rank - 1], out<int64_t>(l, 0)});
}
WATTLE_DEVICE_OP(concat) { return join(l, integer(l, "dim")); }
WATTLE_DEVICE_OP(stack) {
  // Seen as a concat of operands with a dim of size 1 more: their runs are what lies behind it.
  const View& y = l.out[0];
  int64_t dim = integer(l, "dim"), inner = 1;
  if (dim < 0) dim += y.rank;
  for (int d = static_cast<int>(dim) + 1; d < y.rank; ++d) inner *= y.size[d];
  return by_size(l, y.dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    for (int i = 0; i < l.ins; ++i)
      if (const char* e = each(
              l.in[i].numel, Place<T>{in<T>(l, i), out<T>(l, 0), inner, inner * l.ins, i * inner}))
        return e;
    return nullptr;
  });
}
WATTLE_DEVICE_OP(slice_grad) {
  const Along from = along(l.in[0], integer(l, "dim"));
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel,
                SliceGrad<T>{in<T>(l, 0), out<T>(l, 0), integer(l, "size"), from.inner,
                             integer(l, "start"), integer(l, "step"), from.n});
  });
}
WATTLE_DEVICE_OP(pad) {
  const Border b(l, l.in[0], l.out[0]);
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel,
                Pad<T>{b, in<T>(l, 0), out<T>(l, 0), static_cast<T>(number(l, "value"))});
  });
}
WATTLE_DEVICE_OP(pad_grad) {
  const Border b(l, l.out[0], l.in[0]);
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, PadGrad<T>{b, in<T>(l, 0), out<T>(l, 0)});
  });
}

}  // namespace wattle::device
