// Device code of batch_norm, layer_norm and rms_norm (equations in their own files).
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// x [N,C,S]; a row of the folds is a channel.
struct Channels {
  int64_t n, c, s;
  explicit Channels(const View& x) : n(x.size[0]), c(x.size[1]), s(1) {
    for (int d = 2; d < x.rank; ++d) s *= x.size[d];
  }
  WATTLE_HD int64_t of(int64_t i) const {
    const int64_t q = quotient(i, s);
    return q - quotient(q, c) * c;
  }
  WATTLE_HD int64_t at(int64_t channel, int64_t i) const {
    const int64_t q = quotient(i, s);
    return (q * c + channel) * s + (i - q * s);
  }
};

// Mean and variance from sums of x - p and of its square, p an element of the channel: near the
// mean, so that the difference of the sums keeps its digits. Moves the running statistics.
template <class T>
struct Statistics {
  Channels d;
  const T* x;
  T *mean, *invstd, *running_mean, *running_var;
  double eps, momentum;
  struct Acc {
    T sum, squares;
  };
  WATTLE_HD T pivot(int64_t channel) const { return x[channel * d.s]; }
  WATTLE_HD Acc start() const { return {T(0), T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t channel, int64_t i) const {
    const T v = x[d.at(channel, i)] - pivot(channel);
    a.sum += v;
    a.squares += v * v;
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.sum += b.sum, a.squares += b.squares; }
  WATTLE_HD void store(int64_t c, const Acc& a) const {
    const T n = T(d.n * d.s), shift = a.sum / n, m = pivot(c) + shift;
    const T about = a.squares - a.sum * shift, squares = about > T(0) ? about : T(0);
    mean[c] = m;
    invstd[c] = T(1) / ::sqrt(squares / n + T(eps));
    if (!running_mean) return;
    const T keep = T(1 - momentum), move = T(momentum);
    running_mean[c] = keep * running_mean[c] + move * m;
    running_var[c] = keep * running_var[c] + move * (squares / (n - T(1)));
  }
};

template <class T>
struct Running {
  const T *running_mean, *running_var;
  T *mean, *invstd;
  double eps;
  WATTLE_HD void operator()(int64_t c) const {
    mean[c] = running_mean[c];
    invstd[c] = T(1) / ::sqrt(running_var[c] + T(eps));
  }
};

template <class T>
struct Normalise {
  Channels d;
  const T *x, *mean, *invstd, *weight, *bias;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t c = d.of(i);
    const T k = weight ? weight[c] * invstd[c] : invstd[c], v = (x[i] - mean[c]) * k;
    y[i] = bias ? v + bias[c] : v;
  }
};

template <class T>
struct GradSums {
  Channels d;
  const T *gy, *x, *mean, *invstd;
  T *gweight, *gbias;
  struct Acc {
    T sum, along;
  };
  WATTLE_HD Acc start() const { return {T(0), T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t c, int64_t i) const {
    const int64_t k = d.at(c, i);
    a.sum += gy[k];
    a.along += gy[k] * (x[k] - mean[c]);
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.sum += b.sum, a.along += b.along; }
  WATTLE_HD void store(int64_t c, const Acc& a) const {
    gbias[c] = a.sum;
    gweight[c] = a.along * invstd[c];
  }
};

template <class T>
struct GradInput {
  Channels d;
  const T *gy, *x, *mean, *invstd, *weight, *gweight, *gbias;
  T* gx;
  bool training;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t c = d.of(i);
    const T count = T(d.n * d.s), k = weight ? weight[c] * invstd[c] : invstd[c];
    const T level = gbias[c] / count, slope = gweight[c] * invstd[c] / count;
    gx[i] = training ? k * (gy[i] - level - (x[i] - mean[c]) * slope) : k * gy[i];
  }
};

template <class T>
struct Zero {
  T* p;
  WATTLE_HD void operator()(int64_t i) const { p[i] = T(0); }
};
// Statistics of a batch of nothing.
template <class T>
const char* nothing(const Launch& l, int64_t c) {
  for (int i : {1, 2})
    if (const char* e = each(c, Zero<T>{out<T>(l, i)})) return e;
  return nullptr;
}

// ---- layer_norm and rms_norm: a warp a row ----

template <class T, bool Centered>
struct Rows {
  int64_t d;
  T eps;
  // The mean (0 unless centred) and 1 / sqrt(mean square + eps) of a row.
  template <class L>
  WATTLE_HD void moments(const T* x, L w, T* mean, T* rstd) const {
    const T inv = T(1) / T(d);
    T m = 0, q = 0;
    if (Centered) {
      for (int64_t i = w.first; i < d; i += w.step) m += x[i];
      m = w.sum(m) * inv;
    }
    for (int64_t i = w.first; i < d; i += w.step) q += (x[i] - m) * (x[i] - m);
    *mean = m;
    *rstd = T(1) / ::sqrt(w.sum(q) * inv + eps);
  }
};

template <class T, bool Centered>
struct RowNorm : Rows<T, Centered> {
  const T *x, *weight, *bias;
  T* y;
  template <class L>
  WATTLE_HD void operator()(int64_t row, L w) const {
    const T* const from = x + row * this->d;
    T m, r;
    this->moments(from, w, &m, &r);
    for (int64_t i = w.first; i < this->d; i += w.step) {
      T v = (from[i] - m) * r;
      if (weight) v = v * weight[i];
      y[row * this->d + i] = bias ? v + bias[i] : v;
    }
  }
};

// gx, and h = (x - m) r for the sums over rows.
template <class T, bool Centered>
struct RowNormGrad : Rows<T, Centered> {
  const T *gy, *x, *weight;
  T *gx, *h;
  template <class L>
  WATTLE_HD void operator()(int64_t row, L w) const {
    const int64_t base = row * this->d;
    T m, r, along = 0, sum = 0;
    this->moments(x + base, w, &m, &r);
    for (int64_t i = w.first; i < this->d; i += w.step) {
      const T g = weight ? gy[base + i] * weight[i] : gy[base + i];
      along += g * ((x[base + i] - m) * r);
      sum += g;
    }
    const T inv = T(1) / T(this->d);
    along = w.sum(along) * inv;
    sum = Centered ? w.sum(sum) * inv : T(0);
    for (int64_t i = w.first; i < this->d; i += w.step) {
      const T g = weight ? gy[base + i] * weight[i] : gy[base + i], hat = (x[base + i] - m) * r;
      gx[base + i] = r * (g - hat * along - sum);
      if (h) h[base + i] = hat;
    }
  }
};

// gw = sum over rows of gy h, gb = of gy; a row of the fold is a feature.
template <class T>
struct FeatureSums {
  int64_t d;
  const T *gy, *h;
  T *gw, *gb;
  struct Acc {
    T w, b;
  };
  WATTLE_HD Acc start() const { return {T(0), T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t f, int64_t row) const {
    a.w += gy[row * d + f] * h[row * d + f];
    a.b += gy[row * d + f];
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.w += b.w, a.b += b.b; }
  WATTLE_HD void store(int64_t f, const Acc& a) const {
    gw[f] = a.w;
    if (gb) gb[f] = a.b;
  }
};

int64_t row_length(const Launch& l) {
  const Field& tail = field(l, "normalized_shape");
  int64_t d = 1;
  for (int i = 0; i < tail.count; ++i) d *= tail.list[i];
  return d;
}
template <class T>
T eps_of(const Launch& l) {
  const Field& e = field(l, "eps");
  return e.given          ? T(e.number)
         : sizeof(T) == 4 ? T(1.1920928955078125e-7)
                          : T(2.220446049250313e-16);
}

template <bool Centered>
const char* row_norm(const Launch& l) {
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const int64_t d = row_length(l);
    if (d == 0) return nullptr;
    RowNorm<T, Centered> f;
    f.d = d, f.eps = eps_of<T>(l);
    f.x = in<T>(l, 0), f.weight = in<T>(l, 1), f.bias = in<T>(l, 2), f.y = out<T>(l, 0);
    return rows(l.in[0].numel / d, d, f);
  });
}
template <bool Centered>
const char* row_norm_grad(const Launch& l) {
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const int64_t d = row_length(l);
    if (d == 0) return nullptr;
    const int64_t count = l.in[1].numel / d;
    const bool params = l.outs > 1;
    const Scratch held(params ? l.in[1].numel * static_cast<int64_t>(sizeof(T)) : 0);
    if (!held) return fail("out of memory for %lld numbers", static_cast<long long>(l.in[1].numel));
    RowNormGrad<T, Centered> f;
    f.d = d, f.eps = eps_of<T>(l);
    f.gy = in<T>(l, 0), f.x = in<T>(l, 1), f.weight = in<T>(l, 2);
    f.gx = out<T>(l, 0), f.h = params ? held.template as<T>() : nullptr;
    if (const char* e = rows(count, d, f)) return e;
    if (!params) return nullptr;
    return fold(d, count, FeatureSums<T>{d, f.gy, f.h, out<T>(l, 1), out<T>(l, 2)}, true);
  });
}

}  // namespace

WATTLE_DEVICE_OP(batch_norm) {
  const Channels d(l.in[0]);
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    if (l.in[0].numel == 0) return nothing<T>(l, d.c);
    T *const mean = out<T>(l, 1), *const invstd = out<T>(l, 2);
    const double eps = number(l, "eps");
    const char* e = integer(l, "training")
                        ? fold(d.c, d.n * d.s,
                               Statistics<T>{d, in<T>(l, 0), mean, invstd, inout<T>(l, 1),
                                             inout<T>(l, 2), eps, number(l, "momentum")})
                        : each(d.c, Running<T>{in<T>(l, 1), in<T>(l, 2), mean, invstd, eps});
    if (e) return e;
    return each(l.in[0].numel,
                Normalise<T>{d, in<T>(l, 0), mean, invstd, in<T>(l, 3), in<T>(l, 4), out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(batch_norm_grad) {
  const Channels d(l.in[0]);
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    if (l.in[0].numel == 0) return nothing<T>(l, d.c);
    const T *gy = in<T>(l, 0), *x = in<T>(l, 1), *mean = in<T>(l, 2), *invstd = in<T>(l, 3);
    T *const gw = out<T>(l, 1), *const gb = out<T>(l, 2);
    if (const char* e = fold(d.c, d.n * d.s, GradSums<T>{d, gy, x, mean, invstd, gw, gb})) return e;
    return each(l.in[0].numel, GradInput<T>{d, gy, x, mean, invstd, in<T>(l, 4), gw, gb,
                                            out<T>(l, 0), integer(l, "training") != 0});
  });
}
WATTLE_DEVICE_OP(layer_norm) { return row_norm<true>(l); }
WATTLE_DEVICE_OP(layer_norm_grad) { return row_norm_grad<true>(l); }
WATTLE_DEVICE_OP(rms_norm) { return row_norm<false>(l); }
WATTLE_DEVICE_OP(rms_norm_grad) { return row_norm_grad<false>(l); }

}  // namespace wattle::device
