// Device code of the losses of a router.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// ---- losses of the router ----

// f of every group in every sequence; a row of the fold is one of them.
template <class T>
struct Fractions {
  Index expert;
  int64_t groups, group_size, per_sequence;
  T factor;
  T* f;
  struct Acc {
    int64_t n;
  };
  WATTLE_HD Acc start() const { return {0}; }
  WATTLE_HD void take(Acc& a, int64_t row, int64_t i) const {
    const int64_t q = row / groups, g = row - q * groups;
    a.n += expert(q * per_sequence + i) / group_size == g;
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.n += b.n; }
  WATTLE_HD void store(int64_t row, const Acc& a) const { f[row] = T(a.n) * factor; }
};
struct BalanceSizes {
  int64_t sequences, tokens, experts, k, groups, group_size, routed;
  BalanceSizes(const Launch& l, int64_t all_tokens, int64_t n)
      : sequences(integer(l, "sequences")), experts(n) {
    const View& e = l.in[1];
    const int64_t d = integer(l, "device_groups");
    tokens = all_tokens / sequences;
    k = e.size[1];
    groups = d > 0 ? d : n;
    group_size = d > 0 ? n / d : 1;
    routed = e.size[0] / sequences;
  }
};
template <class T>
const char* fractions(const Launch& l, const BalanceSizes& s, T* f) {
  const T factor = T(static_cast<double>(s.groups) / static_cast<double>(s.k * s.routed));
  return fold(s.sequences * s.groups, s.routed * s.k,
              Fractions<T>{Index(l.in[1]), s.groups, s.group_size, s.routed * s.k, factor, f});
}
template <class T>
struct BalanceSum {
  const T *score, *f;
  int64_t tokens, experts, groups, group_size, all;
  T* y;
  struct Acc {
    T v;
  };
  WATTLE_HD Acc start() const { return {T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t, int64_t i) const {
    const int64_t t = i / experts, e = i - t * experts;
    a.v += f[t / tokens * groups + e / group_size] * score[i];
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.v += b.v; }
  WATTLE_HD void store(int64_t, const Acc& a) const { y[0] = all ? a.v / T(all) : T(0); }
};
template <class T>
struct BalanceGrad {
  const T *g, *f;
  int64_t tokens, experts, groups, group_size, all;
  T* gx;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t t = i / experts, e = i - t * experts;
    gx[i] = g[0] * f[t / tokens * groups + e / group_size] / T(all);
  }
};

// z of every token, or with g the gradient of its mean square.
template <class T>
struct LogPartition {
  const T *x, *g;
  int64_t n, tokens;
  T* y;  // [T] z^2, or [T,N] the gradient
  template <class L>
  WATTLE_HD void operator()(int64_t t, L w) const {
    const T* const from = x + t * n;
    T m = from[0], total = 0;
    for (int64_t i = w.first; i < n; i += w.step) m = from[i] > m ? from[i] : m;
    m = w.max(m);
    for (int64_t i = w.first; i < n; i += w.step) total += exp_of(from[i] - m);
    total = w.sum(total);
    const T z = m + ::log(total);
    if (!g) {
      if (w.first == 0) y[t] = z * z;
      return;
    }
    const T factor = g[0] * T(2.0 / static_cast<double>(tokens)) * z / total;
    for (int64_t i = w.first; i < n; i += w.step) y[t * n + i] = factor * exp_of(from[i] - m);
  }
};
template <class T>
struct MeanOf {
  const T* x;
  int64_t n;
  T* y;
  struct Acc {
    T v;
  };
  WATTLE_HD Acc start() const { return {T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t, int64_t i) const { a.v += x[i]; }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.v += b.v; }
  WATTLE_HD void store(int64_t, const Acc& a) const { y[0] = n ? a.v / T(n) : T(0); }
};

}  // namespace

WATTLE_DEVICE_OP(balance_loss) {
  const int64_t tokens = l.in[0].size[0];
  const BalanceSizes s(l, tokens, l.in[0].size[1]);
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const Scratch held(s.sequences * s.groups * static_cast<int64_t>(sizeof(T)));
    T* const f = held.template as<T>();
    if (const char* e = fractions(l, s, f)) return e;
    return fold(1, l.in[0].numel,
                BalanceSum<T>{in<T>(l, 0), f, s.tokens, s.experts, s.groups, s.group_size, tokens,
                              out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(balance_loss_grad) {
  const int64_t tokens = integer(l, "tokens");
  const BalanceSizes s(l, tokens, integer(l, "experts"));
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const Scratch held(s.sequences * s.groups * static_cast<int64_t>(sizeof(T)));
    T* const f = held.template as<T>();
    if (const char* e = fractions(l, s, f)) return e;
    return each(l.out[0].numel, BalanceGrad<T>{in<T>(l, 0), f, s.tokens, s.experts, s.groups,
                                               s.group_size, tokens, out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(router_z_loss) {
  const int64_t tokens = l.in[0].size[0], n = l.in[0].size[1];
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const Scratch held(tokens * static_cast<int64_t>(sizeof(T)));
    T* const z = held.template as<T>();
    if (const char* e = rows(tokens, n, LogPartition<T>{in<T>(l, 0), nullptr, n, tokens, z}))
      return e;
    return fold(1, tokens, MeanOf<T>{z, tokens, out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(router_z_loss_grad) {
  const int64_t tokens = l.in[1].size[0], n = l.in[1].size[1];
  return floating(l, l.in[1].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return rows(tokens, n, LogPartition<T>{in<T>(l, 1), in<T>(l, 0), n, tokens, out<T>(l, 0)});
  });
}

}  // namespace wattle::device
