// Device code of neurons with a second state or a gain: a thread a neuron, all steps in one launch.
// The equations are those of snn/adaptive_neuron_rule.h, as written.
#include "snn/surrogate.cuh"

namespace wattle::device {
namespace {

enum AdaptiveKind : int32_t { klif, alif, izhikevich };

struct AdaptiveRule {
  int32_t kind;
  bool hard, strict, detach, decay_input, scale_reset;
  double v_th, v_reset, tau, tau_w, decay, rho, beta, a0, v_rest, v_c, a, b;
  Surrogate surrogate;
  explicit AdaptiveRule(const Launch& l) : surrogate(l) {
    kind = says(l, "kind", "klif") ? klif : says(l, "kind", "alif") ? alif : izhikevich;
    hard = says(l, "reset", "hard"), strict = integer(l, "strict");
    detach = integer(l, "detach_reset"), decay_input = integer(l, "decay_input");
    scale_reset = integer(l, "scale_reset");
    v_th = number(l, "v_th"), v_reset = number(l, "v_reset"), tau = number(l, "tau");
    tau_w = number(l, "tau_w"), decay = number(l, "decay"), rho = number(l, "rho");
    beta = number(l, "beta"), a0 = number(l, "a0"), v_rest = number(l, "v_rest");
    v_c = number(l, "v_c"), a = number(l, "a"), b = number(l, "b");
  }
  WATTLE_HD double start() const { return hard ? v_reset : 0; }
};

template <class T>
struct Adaptive {
  AdaptiveRule r;
  const T* k;  // one number in device memory, or null

  WATTLE_HD T gain() const { return k ? *k : T(1); }
  WATTLE_HD T inverse() const { return T(1) / gain(); }
  WATTLE_HD T threshold() const { return r.scale_reset ? T(r.v_th) / gain() : T(r.v_th); }
  WATTLE_HD bool fires(T h) const { return r.strict ? h > T(r.v_th) : h >= T(r.v_th); }
  WATTLE_HD T before(T v, T w) const { return r.kind == alif ? v - w * T(r.beta) : v; }
  WATTLE_HD T after(T h) const {
    const T base = r.scale_reset ? h / gain() : h;
    if (r.hard) return fires(h) ? T(r.v_reset) : base;
    return base - (fires(h) ? threshold() : T(0));
  }
  WATTLE_HD T step(T x, T last, T& v, T& w) const {
    const T none(0), tau(r.tau);
    if (r.kind == klif) {
      const T from = v - T(r.start());
      const T p = (r.decay_input ? v + (x - from) / tau : v - from / tau + x) * gain();
      const T h = p < none ? none : p;
      v = after(h);
      return h;
    }
    if (r.kind == alif) {
      v = v * T(r.decay) + x - (fires(last) ? T(r.v_th) : none);
      w = w * T(r.rho) + (fires(last) ? T(1) : none);
      return v - w * T(r.beta);
    }
    const T grows = (v - T(r.v_rest)) * T(r.a0) * (v - T(r.v_c));
    const T h = v + (x + grows - w) / tau;
    w = w + ((h - T(r.v_rest)) * T(r.a) - w) / T(r.tau_w) + (fires(h) ? T(r.b) : none);
    v = after(h);
    return h;
  }

  // ---- backwards ----
  WATTLE_HD T slope(T h) const { return r.surrogate(h - T(r.v_th)); }
  WATTLE_HD T reset(T h, T sg) const {
    if (!r.hard) {
      const T stays = r.scale_reset ? inverse() : T(1);
      return r.detach ? stays : stays - sg * threshold();
    }
    T stays = fires(h) ? T(0) : T(1);
    if (r.scale_reset) stays = stays * inverse();
    if (r.detach) return stays;
    return stays + (T(r.v_reset) - (r.scale_reset ? h * inverse() : h)) * sg;
  }
  WATTLE_HD T reset_by_gain(T gv, T h) const {
    const T base = h * inverse();
    const T e = r.hard ? (fires(h) ? T(0) : base) : base - (fires(h) ? threshold() : T(0));
    return T(0) - gv * e * inverse();
  }
  WATTLE_HD T back(T up, T h, T sg, T v, bool last, T& gv, T& gw, T& by_gain) const {
    if (r.kind == klif) {
      const T gh = gv * reset(h, sg) + up;
      if (k && r.scale_reset) by_gain = by_gain + reset_by_gain(gv, h);
      const T gp = h > T(0) ? gh : T(0);
      if (k) by_gain = by_gain + gp * (h * inverse());
      const T gc = gp * gain();
      gv = gc * T(1 - 1 / r.tau);
      return r.decay_input ? gc * T(1 / r.tau) : gc;
    }
    if (r.kind == alif) {
      if (last) {
        gv = gv + up, gw = gw - up * T(r.beta);
        return gv;
      }
      const T spike = r.detach ? gw : gw - gv * threshold();
      const T gh = spike * sg + up;
      gv = gv * T(r.decay) + gh, gw = gw * T(r.rho) - gh * T(r.beta);
      return gv;
    }
    const T gh = gv * reset(h, sg) + gw * (sg * T(r.b) + T(r.a / r.tau_w)) + up;
    const T gx = gh * T(1 / r.tau);
    gw = gw * T(1 - 1 / r.tau_w) - gx;
    gv = gh + gx * (v + v - T(r.v_rest + r.v_c)) * T(r.a0);
    return gx;
  }
};

template <class T>
struct AdaptiveForward {
  Adaptive<T> q;
  int64_t steps, n;
  const T *x, *v0, *w0;  // w0 and w_end are null without a second state
  T *spikes, *v_end, *w_end, *h_all;
  WATTLE_HD void operator()(int64_t i) const {
    T v = v0 ? v0[i] : T(q.r.start()), w = w0 ? w0[i] : T(0), h = q.before(v, w);
    for (int64_t t = 0; t < steps; ++t) {
      h = q.step(x[t * n + i], h, v, w);
      spikes[t * n + i] = q.fires(h) ? T(1) : T(0);
      h_all[t * n + i] = h;
    }
    v_end[i] = v;
    if (w_end) w_end[i] = w;
  }
};

template <class T>
struct AdaptiveBackward {
  Adaptive<T> q;
  int64_t steps, n;
  const T *h_all, *gs, *gv_end, *gw_end, *gh, *v0, *w0;
  T *gx, *gv0, *gw0, *by_gain;  // by_gain: [n], null unless the gain learns
  WATTLE_HD void operator()(int64_t i) const {
    const T start = v0 ? v0[i] : T(q.r.start());
    T gv = gv_end ? gv_end[i] : T(0), gw = gw_end ? gw_end[i] : T(0), k(0);
    for (int64_t t = steps; t-- > 0;) {
      const int64_t at = t * n + i;
      const T h = h_all[at], sg = q.slope(h);
      const T up = (gs ? gs[at] * sg : T(0)) + (gh ? gh[at] : T(0));
      const T v = q.r.kind == izhikevich && t > 0 ? q.after(h_all[at - n]) : start;
      gx[at] = q.back(up, h, sg, v, t == steps - 1, gv, gw, k);
    }
    if (q.r.kind == alif) {
      const T first = q.before(start, w0 ? w0[i] : T(0));
      q.back(T(0), first, q.slope(first), start, false, gv, gw, k);
    }
    gv0[i] = gv;
    if (gw0) gw0[i] = gw;
    if (by_gain) by_gain[i] = k;
  }
};

}  // namespace

WATTLE_DEVICE_OP(adaptive_neuron) {
  const int64_t n = l.out[1].numel;
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const AdaptiveRule r(l);
    const bool second = r.kind != klif;
    return each(n, AdaptiveForward<T>{{r, in<T>(l, 3)},
                                      l.in[0].size[0],
                                      n,
                                      in<T>(l, 0),
                                      in<T>(l, 1),
                                      second ? in<T>(l, 2) : nullptr,
                                      out<T>(l, 0),
                                      out<T>(l, 1),
                                      second ? out<T>(l, 2) : nullptr,
                                      out<T>(l, 3)});
  });
}
WATTLE_DEVICE_OP(adaptive_neuron_grad) {
  const int64_t n = l.out[1].numel, steps = l.in[0].size[0];
  return floating(l, l.in[0].dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    const AdaptiveRule r(l);
    const bool second = r.kind != klif, learns = has(l, 7);
    const Scratch held(learns ? n * static_cast<int64_t>(sizeof(T)) : 0);
    T* const parts = learns ? held.template as<T>() : nullptr;
    if (const char* e = each(n, AdaptiveBackward<T>{{r, in<T>(l, 7)},
                                                    steps,
                                                    n,
                                                    in<T>(l, 0),
                                                    in<T>(l, 1),
                                                    in<T>(l, 2),
                                                    second ? in<T>(l, 3) : nullptr,
                                                    in<T>(l, 4),
                                                    in<T>(l, 5),
                                                    second ? in<T>(l, 6) : nullptr,
                                                    out<T>(l, 0),
                                                    out<T>(l, 1),
                                                    second ? out<T>(l, 2) : nullptr,
                                                    parts}))
      return e;
    return fold(1, parts ? n : 0, Total<T>{parts, out<T>(l, 3)});
  });
}

}  // namespace wattle::device
