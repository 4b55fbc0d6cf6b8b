// Device code of topk_gate and its gradient: a thread a token.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// ---- topk_gate: a thread a token ----

struct GateAttr {
  int64_t n, k, skip, groups, topk_groups;
  bool softmax, norm;
  double scale;
  explicit GateAttr(const Launch& l, int64_t experts)
      : n(experts),
        k(integer(l, "k")),
        skip(integer(l, "skip")),
        groups(integer(l, "groups")),
        topk_groups(integer(l, "topk_groups")),
        softmax(says(l, "score", "softmax")),
        norm(integer(l, "norm_topk") != 0),
        scale(number(l, "route_scale")) {}
};

// Whether (a, i) comes before (b, j): larger first, not-a-number largest, equals by number.
template <class T>
WATTLE_HD bool comes_first(T a, int64_t i, T b, int64_t j) {
  const bool nan_a = a != a, nan_b = b != b;
  if (nan_a || nan_b) return nan_a && (!nan_b || i < j);
  return a > b || (a == b && i < j);
}

template <class T>
struct Gate {
  GateAttr a;
  const T *x, *bias;
  bool given;
  Index expert_in;
  T *weight, *score;
  int64_t* expert;

  WATTLE_HD T key(const T* s, int64_t i) const { return bias ? s[i] + bias[i] : s[i]; }
  WATTLE_HD void scores(const T* from, T* s) const {
    if (!a.softmax) {
      for (int64_t i = 0; i < a.n; ++i) s[i] = T(1) / (T(1) + exp_of(-from[i]));
      return;
    }
    T m = from[0], total = 0;
    for (int64_t i = 1; i < a.n; ++i) m = from[i] > m ? from[i] : m;
    for (int64_t i = 0; i < a.n; ++i) total += s[i] = exp_of(from[i] - m);
    for (int64_t i = 0; i < a.n; ++i) s[i] /= total;
  }
  WATTLE_HD T group_key(const T* s, int64_t g) const {
    const int64_t size = a.n / a.groups, first = g * size;
    int64_t best = first, second = -1;
    for (int64_t i = first + 1; i < first + size; ++i)
      if (comes_first(key(s, i), i, key(s, best), best)) second = best, best = i;
      else if (second < 0 || comes_first(key(s, i), i, key(s, second), second)) second = i;
    return bias && size > 1 ? key(s, best) + key(s, second) : key(s, best);
  }
  WATTLE_HD uint64_t eligible(const T* s) const {
    if (a.groups == 1) return ~uint64_t{0};
    uint64_t kept = 0;
    for (int64_t g = 0; g < a.groups; ++g) {
      const T mine = group_key(s, g);
      int64_t before = 0;
      for (int64_t o = 0; o < a.groups; ++o)
        before += o != g && comes_first(group_key(s, o), o, mine, g);
      if (before < a.topk_groups) kept |= uint64_t{1} << g;
    }
    return kept;
  }
  WATTLE_HD void choose(const T* s, int64_t* to) const {
    const uint64_t kept = eligible(s);
    const int64_t size = a.n / a.groups;
    int64_t last = -1;
    for (int64_t j = 0; j < a.skip + a.k; ++j) {
      int64_t best = -1;
      for (int64_t i = 0; i < a.n; ++i) {
        if (a.groups > 1 && !(kept >> (i / size) & 1)) continue;
        if (last >= 0 && !comes_first(key(s, last), last, key(s, i), i)) continue;
        if (best < 0 || comes_first(key(s, i), i, key(s, best), best)) best = i;
      }
      last = best;
      if (j >= a.skip) to[j - a.skip] = best;
    }
  }
  WATTLE_HD void operator()(int64_t t) const {
    T* const s = score + t * a.n;
    int64_t* const e = expert + t * a.k;
    scores(x + t * a.n, s);
    if (given)
      for (int64_t k = 0; k < a.k; ++k) e[k] = expert_in(t * a.k + k);
    else choose(s, e);
    T* const w = weight + t * a.k;
    T sum = 0;
    for (int64_t k = 0; k < a.k; ++k) {
      const bool exists = e[k] >= 0 && e[k] < a.n;
      w[k] = exists ? s[e[k]] : T(NAN);
      sum += w[k];
    }
    for (int64_t k = 0; k < a.k; ++k) {
      if (a.norm) w[k] /= sum;
      if (a.scale != 1) w[k] *= T(a.scale);
    }
  }
};

template <class T>
struct GateGrad {
  GateAttr a;
  const T *gw, *gs, *s;
  const int64_t* expert;
  T* gx;
  WATTLE_HD void operator()(int64_t t) const {
    const T *score = s + t * a.n, *g = gw ? gw + t * a.k : nullptr;
    const int64_t* const e = expert + t * a.k;
    T* const d = gx + t * a.n;  // dscore first, then turned into dlogits in place
    for (int64_t i = 0; i < a.n; ++i) d[i] = gs ? gs[t * a.n + i] : T(0);
    T sum = 0, dot = 0;
    for (int64_t k = 0; g && a.norm && k < a.k; ++k) sum += score[e[k]];
    for (int64_t k = 0; g && a.norm && k < a.k; ++k) dot += g[k] * (score[e[k]] / sum);
    for (int64_t k = 0; g && k < a.k; ++k) {
      T v = a.norm ? (g[k] - dot) / sum : g[k];
      if (a.scale != 1) v *= T(a.scale);
      d[e[k]] += v;
    }
    T total = 0;
    for (int64_t i = 0; a.softmax && i < a.n; ++i) total += score[i] * d[i];
    for (int64_t i = 0; i < a.n; ++i)
      d[i] = a.softmax ? score[i] * (d[i] - total) : d[i] * (score[i] * (T(1) - score[i]));
  }
};

}  // namespace

WATTLE_DEVICE_OP(topk_gate) {
  const GateAttr a(l, l.in[0].size[1]);
  if (a.groups > 64)
    return fail("%lld groups found, device code takes 64", static_cast<long long>(a.groups));
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const bool given = has(l, 2);
    return each(l.in[0].size[0], Gate<T>{a, in<T>(l, 0), given ? nullptr : in<T>(l, 1), given,
                                         Index(given ? l.in[2] : l.in[0]), out<T>(l, 0),
                                         out<T>(l, 2), out<int64_t>(l, 1)});
  });
}
WATTLE_DEVICE_OP(topk_gate_grad) {
  const GateAttr a(l, l.in[2].size[1]);
  return floating(l, l.in[2].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[2].size[0], GateGrad<T>{a, in<T>(l, 0), in<T>(l, 1), in<T>(l, 2),
                                             in<int64_t>(l, 3), out<T>(l, 0)});
  });
}
}  // namespace wattle::device
