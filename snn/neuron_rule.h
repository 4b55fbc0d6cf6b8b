// A neuron's switches as numbers, and its definition for one neuron and one step.
#pragma once
#include <cmath>
#include <limits>
#include <type_traits>

#include "core/counted.h"
#include "snn/ops.h"
#include "snn/surrogate.h"

namespace wattle::snn {

enum class Charge : uint8_t { integrate, lif, lif_plain, lif_rest, leaky };
enum class ResetTo : uint8_t { hard, soft, none, clear };

/// What the attribute says; d is 1/tau or beta. The two forms of lif without decay_input are
/// h = (1 - d) v + x where the rest is 0, h = v - d (v - v_reset) + x otherwise.
struct NeuronRule {
  Charge charge;
  ResetTo reset;
  bool strict, delayed, detach;
  bool learned;  ///< d is an operand
  bool product;  ///< d times something, instead of dividing by tau
  double v_th, v_reset, tau, d;
  Surrogate surrogate;

  bool to_rest() const { return reset == ResetTo::hard || reset == ResetTo::clear; }
  double start() const { return to_rest() ? v_reset : 0; }
};

/// The same with the switches that decide the code fixed.
template <Charge C, ResetTo R, bool Delayed>
struct FixedRule : NeuronRule {
  explicit FixedRule(const NeuronRule& r) : NeuronRule(r) {}
  static constexpr Charge charge = C;
  static constexpr ResetTo reset = R;
  static constexpr bool delayed = Delayed;
};

/// Throws value_error that names the field. `learned`: an operand replaces 1/tau or beta.
NeuronRule neuron_rule(const NeuronAttr& a, bool learned);

// K below says what the equations run on: numbers of type T, or vectors of N floats.
template <class T>
struct Scalar {
  using type = T;
  static T of(double x) { return T(x); }
  /// The number after x.
  static T above(double x) {
    if constexpr (std::is_same_v<T, float>)
      return std::nextafter(static_cast<float>(x), std::numeric_limits<float>::infinity());
    else return T(std::nextafter(x, std::numeric_limits<double>::infinity()));
  }
};
template <int N>
struct Lanes {
  using type = simd::f32<N>;
  WATTLE_FORCE_INLINE static type of(double x) { return type{} + static_cast<float>(x); }
  WATTLE_FORCE_INLINE static type above(double x) { return type{} + Scalar<float>::above(x); }
};
template <class K>
using Num = typename K::type;

/// `yes` where a potential of h fires, else `no`. One comparison in one expression: GCC 12 takes
/// comparisons of 16 lanes that meet anything else apart into single ones.
template <class K, class R>
WATTLE_FORCE_INLINE Num<K> if_fires(const R& r, const Num<K>& h, const Num<K>& yes,
                                    const Num<K>& no) {
  const Num<K> least = r.strict ? K::above(r.v_th) : K::of(r.v_th);
  return h >= least ? yes : no;
}

template <class K, class R>
WATTLE_FORCE_INLINE Num<K> over_tau(const R& r, const Num<K>& x, const Num<K>& d) {
  return r.product ? x * d : x / K::of(r.tau);
}

/// h from v and x. `keep` is 1 - d.
template <class K, class R>
WATTLE_FORCE_INLINE Num<K> charged(const R& r, const Num<K>& v, const Num<K>& x, const Num<K>& d,
                                   const Num<K>& keep) {
  switch (r.charge) {
    case Charge::integrate: return v + x;
    case Charge::lif: return v + over_tau<K>(r, x - (v - K::of(r.start())), d);
    case Charge::lif_plain: return v * keep + x;
    case Charge::lif_rest: return v - over_tau<K>(r, v - K::of(r.start()), d) + x;
    case Charge::leaky: return v * d + x;
  }
  return v;
}

/// v after a step that ended at h, with a reset at its end.
template <class K, class R>
WATTLE_FORCE_INLINE Num<K> after_reset(const R& r, const Num<K>& h) {
  const Num<K> none = K::of(0);
  if (r.reset == ResetTo::none) return h;
  if (r.reset == ResetTo::hard) return if_fires<K>(r, h, K::of(r.v_reset), h);
  return h - if_fires<K>(r, h, K::of(r.v_th), none);
}

/// What the charge starts from, given v at the end of the step before.
template <class K, class R>
WATTLE_FORCE_INLINE Num<K> charge_from(const R& r, const Num<K>& v) {
  return r.delayed && r.reset == ResetTo::hard ? after_reset<K>(r, v) : v;
}

/// h of a step, the definition that every other form is compared with.
template <class K, class R>
WATTLE_FORCE_INLINE Num<K> potential(const R& r, const Num<K>& v, const Num<K>& x, const Num<K>& d,
                                     const Num<K>& keep) {
  const Num<K> none = K::of(0);
  const Num<K> h = charged<K>(r, charge_from<K>(r, v), x, d, keep);
  if (r.reset == ResetTo::clear) return if_fires<K>(r, v, K::of(r.v_reset), h);
  if (!r.delayed || r.reset != ResetTo::soft) return h;
  return h - if_fires<K>(r, v, K::of(r.v_th), none);
}

/// v at the end of a step.
template <class K, class R>
WATTLE_FORCE_INLINE Num<K> state(const R& r, const Num<K>& h) {
  return r.delayed ? h : after_reset<K>(r, h);
}

}  // namespace wattle::snn
