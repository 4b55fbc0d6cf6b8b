// Backward of a neuron's step, for one number or a vector of them (the equations stand in
// snn/neuron.cpp).
#pragma once
#include "snn/neuron_rule.h"

namespace wattle::snn {

template <class K, class R>
struct NeuronGrad {
  using T = Num<K>;
  const R& r;
  T d, k, q;  ///< k = dh/dv, q = dh/dx

  NeuronGrad(const R& rule, const T& decay, const T& keep)
      : r(rule), d(decay), k(rule.charge == Charge::leaky ? decay : keep), q(decay) {}

  WATTLE_FORCE_INLINE T through_charge(const T& g) const {
    return r.charge == Charge::integrate ? g : g * k;
  }
  WATTLE_FORCE_INLINE T through_reset(const T& g, const T& h, const T& sg) const {
    if (r.reset == ResetTo::none || (r.reset == ResetTo::soft && r.detach)) return g;
    if (r.reset == ResetTo::soft) return g * (K::of(1) - sg * K::of(r.v_th));
    const T none = K::of(0), one = K::of(1);
    const T stays = if_fires<K>(r, h, none, one);
    return g * (r.detach ? stays : stays + (K::of(r.v_reset) - h) * sg);  // clear is detached
  }
  /// Gradient of v at the end of a step from that of the next step's h.
  WATTLE_FORCE_INLINE T back(const T& g, const T& h, const T& sg) const {
    if (!r.delayed || r.reset != ResetTo::soft) return through_reset(through_charge(g), h, sg);
    if (r.detach) return through_charge(g);
    const T leak = r.charge == Charge::integrate ? K::of(1) : k;
    return g * (leak - sg * K::of(r.v_th));
  }
  /// The same for the last step, whose v is a result.
  WATTLE_FORCE_INLINE T last(const T& gv, const T& h, const T& sg) const {
    return r.delayed ? gv : through_reset(gv, h, sg);
  }
  /// Gradient of the input of a step that started with v.
  WATTLE_FORCE_INLINE T to_x(const T& g, const T& v) const {
    return unless_cleared(r.charge == Charge::lif ? g * q : g, v);
  }
  /// Whether the way back to the first v passes a surrogate.
  bool start_fires() const { return r.delayed && r.reset != ResetTo::none; }
  WATTLE_FORCE_INLINE T to_start(const T& g, const T& v0, const T& sg) const {
    return r.delayed ? back(g, v0, sg) : through_charge(g);
  }
  /// g, or 0 where the spike before clears the charge of this step.
  WATTLE_FORCE_INLINE T unless_cleared(const T& g, const T& v) const {
    return r.reset == ResetTo::clear ? if_fires<K>(r, v, K::of(0), g) : g;
  }
  /// dh/dd of a step that ended at h and started with v.
  WATTLE_FORCE_INLINE T by_decay(const T& h, const T& v) const {
    return unless_cleared(charge_by_decay(h, v), v);
  }

 private:
  WATTLE_FORCE_INLINE T charge_by_decay(const T& h, const T& v) const {
    const T from = charge_from<K>(r, v), none = K::of(0);
    if (r.charge == Charge::lif_plain) return none - from;
    if (r.charge == Charge::lif_rest) return K::of(r.start()) - from;
    if (r.charge == Charge::leaky) return from;
    const T charged =
        r.delayed && r.reset == ResetTo::soft ? h + if_fires<K>(r, v, K::of(r.v_th), none) : h;
    return (charged - from) / d;
  }
};

}  // namespace wattle::snn
