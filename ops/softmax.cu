// Device code of what runs along one dim: softmax, log_softmax, their gradients, and the losses.
// A warp works on a column, or one thread where columns are short.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

template <class T>
struct Column {
  Along at;
  const T* x;
  template <class L>
  WATTLE_HD T max(int64_t base, L w) const {
    T m = x[base];
    for (int64_t i = w.first; i < at.n; i += w.step) {
      const T v = x[base + i * at.inner];
      m = v > m ? v : m;
    }
    return w.max(m);
  }
  template <class L>
  WATTLE_HD T exp_sum(int64_t base, T m, L w) const {
    T s = 0;
    for (int64_t i = w.first; i < at.n; i += w.step) s += exp_of(x[base + i * at.inner] - m);
    return w.sum(s);
  }
};

template <class T, bool Log>
struct Softmax {
  Column<T> c;
  T* y;
  template <class L>
  WATTLE_HD void operator()(int64_t column, L w) const {
    const int64_t base = c.at.base(column);
    const T m = c.max(base, w), s = c.exp_sum(base, m, w), log_s = Log ? ::log(s) : T(0);
    for (int64_t i = w.first; i < c.at.n; i += w.step) {
      const int64_t k = base + i * c.at.inner;
      y[k] = Log ? c.x[k] - m - log_s : exp_of(c.x[k] - m) / s;
    }
  }
};

// softmax: y (gy - <gy, y>);  log_softmax: gy - e^y sum gy.
template <class T, bool Log>
struct SoftmaxGrad {
  Along at;
  const T *gy, *y;
  T* gx;
  template <class L>
  WATTLE_HD void operator()(int64_t column, L w) const {
    const int64_t base = at.base(column);
    T s = 0;
    for (int64_t i = w.first; i < at.n; i += w.step) {
      const int64_t k = base + i * at.inner;
      s += Log ? gy[k] : gy[k] * y[k];
    }
    s = w.sum(s);
    for (int64_t i = w.first; i < at.n; i += w.step) {
      const int64_t k = base + i * at.inner;
      gx[k] = Log ? gy[k] - exp_of(y[k]) * s : y[k] * (gy[k] - s);
    }
  }
};

template <bool Log>
const char* softmax(const Launch& l) {
  const Along at = along(l.in[0], integer(l, "dim"));
  if (l.in[0].numel == 0) return nullptr;
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return rows(at.columns(), at.n, Softmax<T, Log>{{at, in<T>(l, 0)}, out<T>(l, 0)});
  });
}
template <bool Log>
const char* softmax_grad(const Launch& l) {
  const Along at = along(l.in[0], integer(l, "dim"));
  if (l.in[0].numel == 0) return nullptr;
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return rows(at.columns(), at.n,
                SoftmaxGrad<T, Log>{at, in<T>(l, 0), in<T>(l, 1), out<T>(l, 0)});
  });
}

// ---- cross entropy ----

struct Targets {
  const void* p;
  bool wide;
  int64_t ignore;
  double smoothing;
  Targets(const Launch& l, int i)
      : p(l.in[i].data),
        wide(l.in[i].dtype == i64),
        ignore(integer(l, "ignore_index")),
        smoothing(number(l, "label_smoothing")) {}
  WATTLE_HD int64_t at(int64_t c) const {
    return wide ? static_cast<const int64_t*>(p)[c] : static_cast<const int32_t*>(p)[c];
  }
};

// Probabilities and the loss of every column. A class that does not exist gives not-a-number: the
// device cannot stop the call, and a wrong loss must not look like a right one.
template <class T>
struct Losses {
  Column<T> c;
  Targets targets;
  T *p, *loss;
  template <class L>
  WATTLE_HD void operator()(int64_t column, L w) const {
    const int64_t base = c.at.base(column), t = targets.at(column);
    const T m = c.max(base, w), s = c.exp_sum(base, m, w), l = ::log(s);
    T shifted = 0;
    for (int64_t i = w.first; i < c.at.n; i += w.step) {
      const int64_t k = base + i * c.at.inner;
      p[k] = exp_of(c.x[k] - m) / s;
      shifted += c.x[k] - m;
    }
    shifted = w.sum(shifted);
    if (w.first != 0) return;
    const bool exists = t >= 0 && t < c.at.n;
    T one = exists ? l - (c.x[base + (exists ? t : 0) * c.at.inner] - m) : T(NAN);
    if (targets.smoothing != 0)
      one = T(1 - targets.smoothing) * one + T(targets.smoothing) * (l - shifted / T(c.at.n));
    loss[column] = t == targets.ignore ? T(0) : one;
  }
};

// The losses added up, and how many of them count.
template <class T>
struct Total {
  const T* loss;
  Targets targets;
  T* y;
  bool mean;
  struct Acc {
    T sum, count;
  };
  WATTLE_HD Acc start() const { return {T(0), T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t, int64_t i) const {
    a.sum += loss[i];
    a.count += targets.at(i) == targets.ignore ? T(0) : T(1);
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.sum += b.sum, a.count += b.count; }
  WATTLE_HD void store(int64_t, const Acc& a) const { y[0] = mean ? a.sum / a.count : a.sum; }
};

// Losses and total in one launch, where a block does both: a thread a column.
template <class T>
struct LossesAndTotal : Total<T> {
  Losses<T> losses;
  LossesAndTotal(const Total<T>& t, const Losses<T>& l) : Total<T>(t), losses(l) {}
  WATTLE_HD void take(typename Total<T>::Acc& a, int64_t row, int64_t i) const {
    losses(i, OneLane{});
    Total<T>::take(a, row, i);
  }
};

template <class T>
struct CountTargets {
  Targets targets;
  T* count;
  struct Acc {
    int64_t n;
  };
  WATTLE_HD Acc start() const { return {0}; }
  WATTLE_HD void take(Acc& a, int64_t, int64_t i) const { a.n += targets.at(i) != targets.ignore; }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.n += b.n; }
  WATTLE_HD void store(int64_t, const Acc& a) const { *count = T(a.n); }
};

// A warp a column; few columns are counted by every warp, instead of by a launch.
template <class T>
struct LossGrad {
  Along at;
  Targets targets;
  const T *gy, *p, *count;  // count: null unless the mean of many columns was taken
  T* gx;
  bool none, mean;
  template <class L>
  WATTLE_HD void operator()(int64_t column, L lanes) const {
    T w = none ? gy[column] : gy[0];
    if (count) w /= *count;
    else if (mean) w /= T(counted(lanes));
    const int64_t base = at.base(column), t = targets.at(column);
    const bool exists = t >= 0 && t < at.n;
    for (int64_t k = lanes.first; k < at.n; k += lanes.step) {
      const double q =
          targets.smoothing / static_cast<double>(at.n) + (k == t ? 1 - targets.smoothing : 0);
      const int64_t i = base + k * at.inner;
      gx[i] = t == targets.ignore ? T(0) : exists ? (p[i] - T(q)) * w : T(NAN);
    }
  }
  template <class L>
  WATTLE_HD int64_t counted(L lanes) const {
    int64_t n = 0;
    for (int64_t c = lanes.first; c < at.columns(); c += lanes.step)
      n += targets.at(c) != targets.ignore;
    return lanes.sum(n);
  }
};

// Classes lie along dim 1, or along dim 0 of a single sample.
Along classes(const View& x) { return along(x, x.rank > 1 ? 1 : 0); }

// ---- mse ----

template <class T>
struct Squares {
  const T *x, *t;
  T* y;
  T divisor;
  struct Acc {
    T v;
  };
  WATTLE_HD Acc start() const { return {T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t, int64_t i) const {
    const T d = x[i] - t[i];
    a.v += d * d;
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.v += b.v; }
  WATTLE_HD void store(int64_t, const Acc& a) const { y[0] = a.v / divisor; }
};
struct SquareGrad {
  double factor;
  template <class T>
  WATTLE_HD T operator()(T gy, T x, T t) const {
    return T(factor) * (x - t) * gy;
  }
};
struct Square {
  template <class T>
  WATTLE_HD T operator()(T x, T t) const {
    return (x - t) * (x - t);
  }
};

}  // namespace

WATTLE_DEVICE_OP(softmax) { return softmax<false>(l); }
WATTLE_DEVICE_OP(softmax_grad) { return softmax_grad<false>(l); }
WATTLE_DEVICE_OP(log_softmax) { return softmax<true>(l); }
WATTLE_DEVICE_OP(log_softmax_grad) { return softmax_grad<true>(l); }

WATTLE_DEVICE_OP(cross_entropy) {
  const Along at = classes(l.in[0]);
  const Targets targets(l, 1);
  const int64_t n = at.columns();
  const bool none = says(l, "reduction", "none");
  return floating(l, l.in[0].dtype, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::type;
    const Scratch held(none ? 0 : n * static_cast<int64_t>(sizeof(T)));
    T* const loss = none ? out<T>(l, 0) : held.template as<T>();
    const Losses<T> losses{{at, in<T>(l, 0)}, targets, out<T>(l, 1), loss};
    const Total<T> total{loss, targets, out<T>(l, 0), says(l, "reduction", "mean")};
    if (!none && at.n <= 64 && n < 2048) return fold(1, n, LossesAndTotal<T>(total, losses));
    if (const char* e = rows(n, at.n, Losses<T>{{at, in<T>(l, 0)}, targets, out<T>(l, 1), loss}))
      return e;
    if (none) return nullptr;
    return fold(1, n, total);
  });
}
WATTLE_DEVICE_OP(cross_entropy_grad) {
  const Along at = classes(l.in[1]);
  const Targets targets(l, 2);
  const bool mean = says(l, "reduction", "mean");
  return floating(l, l.in[1].dtype, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::type;
    const Scratch held(sizeof(T));
    T* const count = mean && at.columns() > 512 ? held.template as<T>() : nullptr;
    if (count)
      if (const char* e = fold(1, at.columns(), CountTargets<T>{targets, count})) return e;
    const LossGrad<T> f{
        at,  targets, in<T>(l, 0), in<T>(l, 1), count, out<T>(l, 0), says(l, "reduction", "none"),
        mean};
    return rows(at.columns(), at.n < 32 ? 32 : at.n, f);
  });
}
WATTLE_DEVICE_OP(mse_loss) {
  return floating(l, l.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (says(l, "reduction", "none")) return map<T, T, T>(l, Square{});
    const T divisor = says(l, "reduction", "mean") ? T(l.in[0].numel) : T(1);
    return fold(1, l.in[0].numel, Squares<T>{in<T>(l, 0), in<T>(l, 1), out<T>(l, 0), divisor});
  });
}

WATTLE_DEVICE_OP(mse_loss_grad) {
  return floating(l, l.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return map<T, T, T, T>(l, SquareGrad{number(l, "factor")});
  });
}

}  // namespace wattle::device
