#include "snn/neuron_rule.h"

#include "core/error.h"

namespace wattle::snn {
namespace {

[[noreturn]] void fail(const char* field, const std::string& found, const char* expected) {
  throw value_error(str("neuron: attribute ", field, ": found '", found, "', expected ", expected));
}

Charge charge_of(const NeuronAttr& a, bool rests_at_0) {
  if (a.charge == "integrate") return Charge::integrate;
  if (a.charge == "leaky") return Charge::leaky;
  if (a.charge != "lif") fail("charge", a.charge, "integrate, lif or leaky");
  if (a.decay_input) return Charge::lif;
  return rests_at_0 && !a.by_difference ? Charge::lif_plain : Charge::lif_rest;
}

ResetTo reset_of(const std::string& s) {
  if (s == "hard") return ResetTo::hard;
  if (s == "soft") return ResetTo::soft;
  if (s == "clear") return ResetTo::clear;
  if (s != "none") fail("reset", s, "hard, soft, none or clear");
  return ResetTo::none;
}

}  // namespace

NeuronRule neuron_rule(const NeuronAttr& a, bool learned) {
  NeuronRule r{};
  r.reset = reset_of(a.reset);
  r.charge = charge_of(a, !r.to_rest() || a.v_reset == 0);
  r.strict = a.strict, r.delayed = a.delayed, r.detach = a.detach_reset;
  if (r.reset == ResetTo::clear && !(r.delayed && r.detach))
    fail("reset", a.reset, "hard, soft or none; clear needs delayed and detach_reset");
  r.v_th = a.v_th, r.v_reset = a.v_reset, r.tau = a.tau;
  r.surrogate = surrogate("neuron", a.surrogate, a.slope);
  r.learned = r.product = learned;
  r.d = r.charge == Charge::leaky ? a.beta : 1 / a.tau;
  if (r.charge == Charge::integrate && learned)
    throw value_error("neuron: found a decay, expected none with charge integrate");
  if (a.charge == "lif" && !(a.tau > 1)) fail("tau", str(a.tau), "more than 1");
  return r;
}

}  // namespace wattle::snn
