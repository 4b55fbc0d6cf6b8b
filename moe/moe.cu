// Device code of the routed layer's ops (equations in their own files).
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

WATTLE_HD float exp_of(float x) { return expf(x); }
WATTLE_HD double exp_of(double x) { return ::exp(x); }

struct Index {
  const void* p;
  bool wide;
  explicit Index(const View& v) : p(v.data), wide(v.dtype == i64) {}
  WATTLE_HD int64_t operator()(int64_t i) const {
    return wide ? static_cast<const int64_t*>(p)[i] : static_cast<const int32_t*>(p)[i];
  }
};

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

// ---- counting_sort ----

constexpr int64_t part_rows = 256;

// Rows in the order in which they are admitted, or as they lie.
struct RowOrder {
  int64_t tokens, k;
  bool by_choice;
  WATTLE_HD int64_t row(int64_t i) const { return by_choice ? i % tokens * k + i / tokens : i; }
};
struct CountPart {
  RowOrder order;
  const int64_t* to;  // the expert of each row, -1 = none
  int64_t rows, experts;
  int64_t* count;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t part = i / experts, e = i - part * experts;
    int64_t n = 0;
    for (int64_t r = part * part_rows; r < (part + 1) * part_rows && r < rows; ++r)
      n += to[order.row(r)] == e;
    count[i] = n;
  }
};
// Counts of an expert's parts become how many rows come before each; total[e] how many there are.
struct SumParts {
  int64_t parts, experts;
  int64_t *count, *total;
  WATTLE_HD void operator()(int64_t e) const {
    int64_t sum = 0;
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t n = count[p * experts + e];
      count[p * experts + e] = sum;
      sum += n;
    }
    total[e] = sum;
  }
};
WATTLE_HD int64_t rank_in(const RowOrder& order, const int64_t* to, const int64_t* count,
                          int64_t experts, int64_t i, int64_t e) {
  const int64_t part = i / part_rows;
  int64_t n = count[part * experts + e];
  for (int64_t r = part * part_rows; r < i; ++r) n += to[order.row(r)] == e;
  return n;
}
struct Offsets {
  int64_t experts;
  const int64_t* total;
  int64_t* offsets;
  WATTLE_HD void operator()(int64_t) const {
    int64_t sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      offsets[e] = sum;
      sum += total[e];
    }
    offsets[experts] = sum;
  }
};
struct Widen {
  Index from;
  int64_t experts;
  int64_t* to;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t e = from(i);
    to[i] = e >= 0 && e < experts ? e : -1;  // of an expert that does not exist: dropped
  }
};
struct Admit {
  RowOrder order;
  const int64_t *to, *count;
  int64_t experts, capacity;
  int64_t* admitted;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t r = order.row(i), e = to[r];
    admitted[r] = e >= 0 && rank_in(order, to, count, experts, i, e) < capacity ? e : -1;
  }
};
struct Slots {
  RowOrder order;
  const int64_t *to, *count, *offsets;
  int64_t experts;
  int64_t *position, *slots;
  WATTLE_HD void operator()(int64_t r) const {
    const int64_t e = to[r];
    position[r] = e < 0 ? -1 : offsets[e] + rank_in(order, to, count, experts, r, e);
    if (e >= 0) slots[position[r]] = r;
  }
};
struct Put {
  int64_t* p;
  int64_t value;
  WATTLE_HD void operator()(int64_t i) const { p[i] = value; }
};

const char* counting_sort(const Launch& l) {
  const int64_t experts = integer(l, "experts"), capacity = integer(l, "capacity");
  const View& in = l.in[0];
  const int64_t tokens = in.size[0], k = in.size[1], rows = in.numel;
  const int64_t parts = (rows + part_rows - 1) / part_rows;
  const Scratch held((2 * rows + parts * experts + experts) * 8);
  if (!held) return fail("out of memory for %lld rows", static_cast<long long>(rows));
  int64_t *to = held.as<int64_t>(), *admitted = to + rows, *count = admitted + rows;
  int64_t* const total = count + parts * experts;
  int64_t *slots = out<int64_t>(l, 0), *position = out<int64_t>(l, 1),
          *offsets = out<int64_t>(l, 2);
  const RowOrder lying{tokens, k, false};
  if (const char* e = each(rows, Widen{Index(in), experts, to})) return e;
  if (capacity > 0) {
    const RowOrder order{tokens, k, says(l, "priority", "choice")};
    if (const char* e = each(parts * experts, CountPart{order, to, rows, experts, count})) return e;
    if (const char* e = each(experts, SumParts{parts, experts, count, total})) return e;
    if (const char* e = each(rows, Admit{order, to, count, experts, capacity, admitted})) return e;
    std::swap(to, admitted);
  }
  if (const char* e = each(parts * experts, CountPart{lying, to, rows, experts, count})) return e;
  if (const char* e = each(experts, SumParts{parts, experts, count, total})) return e;
  if (const char* e = each(1, Offsets{experts, total, offsets})) return e;
  if (const char* e = each(rows, Put{slots, -1})) return e;
  return each(rows, Slots{lying, to, count, offsets, experts, position, slots});
}

// ---- rows to slots and back ----

template <class T>
struct Combine {
  const T *y, *weight;
  const int64_t* position;
  int64_t k, width;
  T* to;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t t = i / width, j = i - t * width;
    T sum = 0;
    for (int64_t c = 0; c < k; ++c) {
      const int64_t p = position[t * k + c];
      if (p >= 0) sum += weight ? weight[t * k + c] * y[p * width + j] : y[p * width + j];
    }
    to[i] = sum;
  }
};
template <class T>
struct DispatchRows {
  const T *x, *weight;
  const int64_t* order;
  int64_t k, width;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t p = i / width, j = i - p * width, r = order[p];
    const T v = r < 0 ? T(0) : x[r / k * width + j];
    y[i] = r >= 0 && weight ? weight[r] * v : v;
  }
};
template <class T>
struct RowDot {
  const T *a, *b;
  const int64_t* position;
  int64_t k, width;
  T* y;
  template <class L>
  WATTLE_HD void operator()(int64_t r, L w) const {
    const int64_t p = position[r];
    T sum = 0;
    for (int64_t j = w.first; p >= 0 && j < width; j += w.step)
      sum += a[r / k * width + j] * b[p * width + j];
    sum = w.sum(sum);
    if (w.first == 0) y[r] = sum;
  }
};

// ---- grouped products ----

// The group of a slot; -1 past the last one.
WATTLE_HD int64_t group_of(const int64_t* offsets, int64_t groups, int64_t p) {
  int64_t lo = 0, hi = groups;
  while (lo < hi) {
    const int64_t mid = (lo + hi) / 2;
    if (offsets[mid + 1] <= p) lo = mid + 1;
    else hi = mid;
  }
  return lo < groups && p >= offsets[lo] ? lo : -1;
}

template <class T>
struct GroupedGemm {
  const T *x, *w;
  const int64_t *offsets, *order;
  int64_t groups, choices, k, n;
  bool transposed, relu;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t p = i / n, j = i - p * n, e = group_of(offsets, groups, p);
    T sum = 0;
    if (e >= 0 && (!order || order[p] >= 0)) {
      const T* const from = x + (order ? order[p] / choices : p) * k;
      const T* const m = w + e * k * n;
      for (int64_t c = 0; c < k; ++c) sum += from[c] * m[transposed ? j * k + c : c * n + j];
      if (relu && sum < T(0)) sum = T(0);
    }
    y[i] = sum;
  }
};
template <class T>
struct GroupedGrad {
  const T *a, *b;
  const int64_t *offsets, *order;
  int64_t choices, k, n;
  bool gathers_b;
  T* dw;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t e = i / (k * n), r = i - e * k * n, row = r / n, col = r - row * n;
    T sum = 0;
    for (int64_t p = offsets[e]; p < offsets[e + 1]; ++p) {
      const int64_t at = order ? order[p] / choices : p;
      sum += a[(gathers_b ? p : at) * k + row] * b[(gathers_b ? at : p) * n + col];
    }
    dw[i] = sum;
  }
};
int64_t choices(const Launch& l) { return has(l, 4) ? l.in[4].size[1] : 1; }

const char* grouped(const Launch& l, bool relu) {
  const View& y = l.out[0];
  return floating(l, y.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(y.numel,
                GroupedGemm<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2), in<int64_t>(l, 3),
                               l.in[2].numel - 1, choices(l), l.in[0].size[1], y.size[1],
                               integer(l, "transpose_weight") != 0, relu, out<T>(l, 0)});
  });
}

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
WATTLE_DEVICE_OP(counting_sort) { return counting_sort(l); }
WATTLE_DEVICE_OP(combine) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, Combine<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2),
                                           l.in[2].size[1], l.in[0].size[1], out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(dispatch_rows) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, DispatchRows<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2),
                                                l.in[3].size[1], l.in[0].size[1], out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(row_dot) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return rows(l.in[2].numel, l.in[0].size[1],
                RowDot<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2), l.in[2].size[1],
                          l.in[0].size[1], out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(grouped_gemm) { return grouped(l, false); }
WATTLE_DEVICE_OP(grouped_gemm_relu) { return grouped(l, true); }
WATTLE_DEVICE_OP(grouped_gemm_grad) {
  const View& dw = l.out[0];
  return floating(l, dw.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(dw.numel, GroupedGrad<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2),
                                         in<int64_t>(l, 3), choices(l), dw.size[1], dw.size[2],
                                         integer(l, "gathers_b") != 0, out<T>(l, 0)});
  });
}
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
