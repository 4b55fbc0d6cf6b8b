// Neurons with a second state or a gain: a step and its way back, for one number or a vector of
// them. The equations stand in snn/ops.h.
//
// With sg the surrogate at h - v_th, and gv, gw the gradients of the states behind a step:
//   klif        gh = gv dv/dh + gs sg;  back through relu(k c): gc = k gh [h > 0], gk += c gh [h >
//   0] alif        gS = gw[t+1] - v_th gv[t+1];  gh = gS sg + gs sg;  gv[t] = decay gv[t+1] + gh,
//               gw[t] = rho gw[t+1] - beta gh
//   izhikevich  gh = gv dv/dh + gw (b sg + a / tau_w) + gs sg;  gx = gh / tau,
//               gv' = gh + gx a0 (2 v - v_rest - v_c),  gw' = gw (1 - 1 / tau_w) - gx
// The second state takes the gradient of the spike whatever detach_reset says.
#pragma once
#include "snn/neuron_rule.h"

namespace wattle::snn {

enum class AdaptiveKind : uint8_t { klif, alif, izhikevich };

/// What the attribute says.
struct AdaptiveRule {
  AdaptiveKind kind;
  bool hard;  ///< reset to v_reset; else v_th is subtracted
  bool strict, detach, decay_input, scale_reset;
  double v_th, v_reset, tau, tau_w, decay, rho, beta, a0, v_rest, v_c, a, b;
  Surrogate surrogate;

  double start() const { return hard ? v_reset : 0; }
  bool has_w() const { return kind != AdaptiveKind::klif; }
};

/// The same with the switches that decide the code fixed.
template <AdaptiveKind Kind, bool Hard>
struct FixedAdaptive : AdaptiveRule {
  explicit FixedAdaptive(const AdaptiveRule& r) : AdaptiveRule(r) {}
  static constexpr AdaptiveKind kind = Kind;
  static constexpr bool hard = Hard;
};

/// Throws value_error that names the field.
AdaptiveRule adaptive_rule(const AdaptiveAttr& a);

/// The step. `v_th` is what a reset subtracts.
template <class K, class R>
struct AdaptiveStep {
  using T = Num<K>;
  const R& r;
  T gain, v_th;

  AdaptiveStep(const R& rule, const T& k)
      : r(rule), gain(k), v_th(rule.scale_reset ? K::of(rule.v_th) / k : K::of(rule.v_th)) {}

  /// h of alif before the first step.
  WATTLE_FORCE_INLINE T before(const T& v, const T& w) const {
    return r.kind == AdaptiveKind::alif ? v - w * K::of(r.beta) : v;
  }
  /// v behind a step that ended at h, where it does not wait for the next one.
  WATTLE_FORCE_INLINE T after(const T& h) const {
    const T none = K::of(0);
    if (r.hard) return if_fires<K>(r, h, K::of(r.v_reset), r.scale_reset ? h / gain : h);
    return (r.scale_reset ? h / gain : h) - if_fires<K>(r, h, v_th, none);
  }
  /// h; v and w become those behind the step. `last` is h of the step before.
  WATTLE_FORCE_INLINE T operator()(const T& x, const T& last, T& v, T& w) const {
    const T none = K::of(0), tau = K::of(r.tau);
    if (r.kind == AdaptiveKind::klif) {
      const T from = v - K::of(r.start());
      const T p = (r.decay_input ? v + (x - from) / tau : v - from / tau + x) * gain;
      const T h = p < none ? none : p;
      v = after(h);
      return h;
    }
    if (r.kind == AdaptiveKind::alif) {
      v = v * K::of(r.decay) + x - if_fires<K>(r, last, v_th, none);
      w = w * K::of(r.rho) + if_fires<K>(r, last, K::of(1), none);
      return v - w * K::of(r.beta);
    }
    const T grows = (v - K::of(r.v_rest)) * K::of(r.a0) * (v - K::of(r.v_c));
    const T h = v + (x + grows - w) / tau;
    w = w + ((h - K::of(r.v_rest)) * K::of(r.a) - w) / K::of(r.tau_w) +
        if_fires<K>(r, h, K::of(r.b), none);
    v = after(h);
    return h;
  }
};

/// The way back through a step.
template <class K, class R>
struct AdaptiveGrad {
  using T = Num<K>;
  const R& r;
  AdaptiveStep<K, R> step;
  bool learned;  ///< the gain takes a gradient
  T inverse;     ///< of the gain

  AdaptiveGrad(const R& rule, const T& gain, bool learns)
      : r(rule), step(rule, gain), learned(learns), inverse(K::of(1) / gain) {}

  /// dv/dh.
  WATTLE_FORCE_INLINE T reset(const T& h, const T& sg) const {
    const T none = K::of(0), one = K::of(1);
    if (!r.hard) {
      const T stays = r.scale_reset ? inverse : one;
      return r.detach ? stays : stays - sg * step.v_th;
    }
    T stays = if_fires<K>(r, h, none, one);
    if (r.scale_reset) stays = stays * inverse;
    if (r.detach) return stays;
    return stays + (K::of(r.v_reset) - (r.scale_reset ? h * inverse : h)) * sg;
  }
  /// What the gain takes from a reset that divides by it.
  WATTLE_FORCE_INLINE T reset_by_gain(const T& gv, const T& h) const {
    const T none = K::of(0), base = h * inverse;
    const T e = r.hard ? if_fires<K>(r, h, none, base) : base - if_fires<K>(r, h, step.v_th, none);
    return none - gv * e * inverse;
  }
  /// gx; gv and gw become those of the state before. `up` reaches h from outside, `v` is the state
  /// before, `by_gain` grows. Behind the last step of alif nothing follows.
  WATTLE_FORCE_INLINE T operator()(const T& up, const T& h, const T& sg, const T& v, bool last,
                                   T& gv, T& gw, T& by_gain) const {
    const T none = K::of(0);
    if (r.kind == AdaptiveKind::klif) {
      const T gh = gv * reset(h, sg) + up;
      if (learned && r.scale_reset) by_gain = by_gain + reset_by_gain(gv, h);
      const T gp = h > none ? gh : none;
      if (learned) by_gain = by_gain + gp * (h * inverse);
      const T gc = gp * step.gain;
      gv = gc * K::of(1 - 1 / r.tau);
      return r.decay_input ? gc * K::of(1 / r.tau) : gc;
    }
    if (r.kind == AdaptiveKind::alif) {
      if (last) {
        gv = gv + up, gw = gw - up * K::of(r.beta);
        return gv;
      }
      const T spike = r.detach ? gw : gw - gv * step.v_th;
      const T gh = spike * sg + up;
      gv = gv * K::of(r.decay) + gh, gw = gw * K::of(r.rho) - gh * K::of(r.beta);
      return gv;
    }
    const T gh = gv * reset(h, sg) + gw * (sg * K::of(r.b) + K::of(r.a / r.tau_w)) + up;
    const T gx = gh * K::of(1 / r.tau);
    gw = gw * K::of(1 - 1 / r.tau_w) - gx;
    gv = gh + gx * (v + v - K::of(r.v_rest + r.v_c)) * K::of(r.a0);
    return gx;
  }
};

}  // namespace wattle::snn
