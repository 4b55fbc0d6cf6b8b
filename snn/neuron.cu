// Device code of spiking neurons: a thread a neuron, all steps in one launch, the state in a
// register. The equations are those of snn/neuron_rule.h and snn/neuron_grad.h, as written.
#include <algorithm>

#include "snn/surrogate.cuh"

namespace wattle::device {
namespace {

enum Charge : int32_t { integrate, lif, lif_plain, lif_rest, leaky };
enum Reset : int32_t { hard, soft, none, clear };

struct Rule {
  int32_t charge, reset;
  bool strict, delayed, detach, learned;
  double v_th, v_reset, tau, d;
  Surrogate surrogate;
  Rule(const Launch& l, bool has_decay) : surrogate(l) {
    reset = says(l, "reset", "hard")    ? hard
            : says(l, "reset", "soft")  ? soft
            : says(l, "reset", "clear") ? clear
                                        : none;
    v_th = number(l, "v_th"), v_reset = number(l, "v_reset"), tau = number(l, "tau");
    strict = integer(l, "strict"), delayed = integer(l, "delayed");
    detach = integer(l, "detach_reset"), learned = has_decay;
    const bool rests_at_0 = !to_rest() || v_reset == 0;
    if (says(l, "charge", "integrate")) charge = integrate;
    else if (says(l, "charge", "leaky")) charge = leaky;
    else if (integer(l, "decay_input")) charge = lif;
    else charge = rests_at_0 && !integer(l, "by_difference") ? lif_plain : lif_rest;
    d = charge == leaky ? number(l, "beta") : 1 / tau;
  }
  WATTLE_HD bool to_rest() const { return reset == hard || reset == clear; }
  WATTLE_HD double start() const { return to_rest() ? v_reset : 0; }
};

template <class T>
struct Equations {
  Rule r;
  const T* decay;  // one number in device memory, or null
  WATTLE_HD T d() const { return decay ? *decay : T(r.d); }
  WATTLE_HD T keep() const {
    if (!decay) return T(1 - r.d);
    return r.charge != integrate && r.charge != leaky ? T(1) - *decay : T(0);
  }
  WATTLE_HD bool fires(T h) const { return r.strict ? h > T(r.v_th) : h >= T(r.v_th); }
  WATTLE_HD T over_tau(T x) const { return r.learned ? x * d() : x / T(r.tau); }
  WATTLE_HD T charged(T v, T x) const {
    switch (r.charge) {
      case integrate: return v + x;
      case lif: return v + over_tau(x - (v - T(r.start())));
      case lif_plain: return v * keep() + x;
      case lif_rest: return v - over_tau(v - T(r.start())) + x;
      default: return v * d() + x;
    }
  }
  WATTLE_HD T after_reset(T h) const {
    if (r.reset == none) return h;
    if (r.reset == hard) return fires(h) ? T(r.v_reset) : h;
    return h - (fires(h) ? T(r.v_th) : T(0));
  }
  WATTLE_HD T charge_from(T v) const { return r.delayed && r.reset == hard ? after_reset(v) : v; }
  WATTLE_HD T potential(T v, T x) const {
    const T h = charged(charge_from(v), x);
    if (r.reset == clear) return fires(v) ? T(r.v_reset) : h;
    if (!r.delayed || r.reset != soft) return h;
    return h - (fires(v) ? T(r.v_th) : T(0));
  }
  WATTLE_HD T state(T h) const { return r.delayed ? h : after_reset(h); }

  // ---- backwards (snn/neuron_grad.h) ----
  WATTLE_HD T k() const { return r.charge == leaky ? d() : keep(); }
  WATTLE_HD T through_charge(T g) const { return r.charge == integrate ? g : g * k(); }
  WATTLE_HD T through_reset(T g, T h, T sg) const {
    if (r.reset == none || (r.reset == soft && r.detach)) return g;
    if (r.reset == soft) return g * (T(1) - sg * T(r.v_th));
    const T stays = fires(h) ? T(0) : T(1);
    return g * (r.detach ? stays : stays + (T(r.v_reset) - h) * sg);
  }
  WATTLE_HD T back(T g, T h, T sg) const {
    if (!r.delayed || r.reset != soft) return through_reset(through_charge(g), h, sg);
    if (r.detach) return through_charge(g);
    return g * ((r.charge == integrate ? T(1) : k()) - sg * T(r.v_th));
  }
  WATTLE_HD T last(T gv, T h, T sg) const { return r.delayed ? gv : through_reset(gv, h, sg); }
  WATTLE_HD bool cleared(T v) const { return r.reset == clear && fires(v); }
  WATTLE_HD T to_x(T g, T v) const { return cleared(v) ? T(0) : r.charge == lif ? g * d() : g; }
  WATTLE_HD T to_start(T g, T v0, T sg) const {
    return r.delayed ? back(g, v0, sg) : through_charge(g);
  }
  WATTLE_HD T by_decay(T h, T v) const {
    if (cleared(v)) return T(0);
    const T from = charge_from(v);
    if (r.charge == lif_plain) return T(0) - from;
    if (r.charge == lif_rest) return T(r.start()) - from;
    if (r.charge == leaky) return from;
    const T charged = r.delayed && r.reset == soft ? h + (fires(v) ? T(r.v_th) : T(0)) : h;
    return (charged - from) / d();
  }
};

template <class T>
struct Forward {
  Equations<T> q;
  int64_t steps, n, x_step;
  const T *x, *v0;
  T *spikes, *v_end, *h_all;
  WATTLE_HD void operator()(int64_t i) const {
    T v = v0 ? v0[i] : T(q.r.start());
    for (int64_t t = 0; t < steps; ++t) {
      const T h = q.potential(v, x[t * x_step + i]);
      spikes[t * n + i] = q.fires(h) ? T(1) : T(0);
      h_all[t * n + i] = h;
      v = q.state(h);
    }
    v_end[i] = v;
  }
};

template <class T>
struct Backward {
  Equations<T> q;
  int64_t steps, n;
  bool same_input;
  const T *gs, *gv, *gh_all, *h_all, *v0;
  T *gx, *gv0, *by_decay;  // by_decay: [n], null unless the decay is learned
  WATTLE_HD T slope(T h) const { return q.r.surrogate(h - T(q.r.v_th)); }
  WATTLE_HD void operator()(int64_t i) const {
    const T start = v0 ? v0[i] : T(q.r.start());
    T gh = gv ? gv[i] : T(0), sum_x = 0, sum_d = 0;
    for (int64_t t = steps; t-- > 0;) {
      const int64_t at = t * n + i;
      const T h = h_all[at], sg = slope(h);
      gh = t == steps - 1 ? q.last(gh, h, sg) : q.back(gh, h, sg);
      if (gs) gh = gh + gs[at] * sg;
      if (gh_all) gh = gh + gh_all[at];
      const T v = t > 0 ? q.state(h_all[at - n]) : start;
      if (same_input) sum_x = sum_x + q.to_x(gh, v);
      else gx[at] = q.to_x(gh, v);
      if (by_decay) sum_d = sum_d + gh * q.by_decay(h, v);
    }
    if (same_input) gx[i] = sum_x;
    const bool start_fires = q.r.delayed && q.r.reset != none;
    if (steps > 0) gh = q.to_start(gh, start, start_fires ? slope(start) : T(0));
    gv0[i] = gh;
    if (by_decay) by_decay[i] = sum_d;
  }
};

template <class T>
struct Fire {
  bool strict;
  const T* u;
  T* s;
  WATTLE_HD void operator()(int64_t i) const {
    s[i] = (strict ? u[i] > T(0) : u[i] >= T(0)) ? T(1) : T(0);
  }
};
template <class T>
struct FireGrad {
  Surrogate surrogate;
  const T *g, *u;
  T* gu;
  WATTLE_HD void operator()(int64_t i) const { gu[i] = g[i] * surrogate(u[i]); }
};

// f as if result 0 were numbers like operand 0, packed to bits afterwards.
template <class F>
const char* packed(const Launch& l, F f) {
  View results[max_operands];
  std::copy_n(l.out, l.outs, results);
  results[0].dtype = l.in[0].dtype;
  const Scratch numbers(results[0].numel * element_bytes(results[0].dtype));
  if (!numbers)
    return fail("out of memory for %lld spikes", static_cast<long long>(results[0].numel));
  results[0].data = numbers.as<void>();
  Launch first = l, pack;
  first.out = results;
  if (const char* const e = f(first)) return e;
  pack.in = results, pack.ins = 1;
  pack.out = l.out, pack.outs = 1;
  return cast_codes(pack);
}

const char* forward(const Launch& l) {
  if (l.out[0].dtype != l.in[0].dtype) return packed(l, forward);
  const int64_t steps = integer(l, "steps"), n = l.out[1].numel;
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Equations<T> q{Rule(l, has(l, 2)), in<T>(l, 2)};
    return each(n, Forward<T>{q, steps > 0 ? steps : l.in[0].size[0], n, steps > 0 ? 0 : n,
                              in<T>(l, 0), in<T>(l, 1), out<T>(l, 0), out<T>(l, 1), out<T>(l, 2)});
  });
}

}  // namespace

WATTLE_DEVICE_OP(neuron) { return forward(l); }
WATTLE_DEVICE_OP(neuron_grad) {
  const int64_t n = l.out[1].numel, steps = l.in[3].size[0];
  return floating(l, l.in[3].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const Equations<T> q{Rule(l, has(l, 5)), in<T>(l, 5)};
    const Scratch held(q.r.learned ? n * static_cast<int64_t>(sizeof(T)) : 0);
    T* const parts = q.r.learned ? held.template as<T>() : nullptr;
    if (const char* e = each(n, Backward<T>{q, steps, n, integer(l, "steps") > 0, in<T>(l, 0),
                                            in<T>(l, 1), in<T>(l, 2), in<T>(l, 3), in<T>(l, 4),
                                            out<T>(l, 0), out<T>(l, 1), parts}))
      return e;
    return fold(1, parts ? n : 0, Total<T>{parts, out<T>(l, 2)});
  });
}
WATTLE_DEVICE_OP(fire) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[0].numel, Fire<T>{integer(l, "strict") != 0, in<T>(l, 0), out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(fire_grad) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[0].numel, FireGrad<T>{Surrogate(l), in<T>(l, 0), in<T>(l, 1), out<T>(l, 0)});
  });
}

}  // namespace wattle::device
