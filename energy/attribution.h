// Sharing a window's energy out to the work inside it, so that the shares add up to the window.
//
//   model of item i      s_i = P0 t_i + d_i           idle power x its share of the time + work
//   proportional         E_i = E_w s_i / sum s
//   covariance           E_i = s_i + v_i / (sum v + sd_w^2) (E_w - sum s),   v_i = var(s_i)
//
// and what the window holds beside all items, P0 (T_w - union of their times), is the row
// `unattributed`. Shares below 0 become 0. Rounding is by largest remainder: the integers add up to
// the window's microjoules exactly, whatever the model says.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "energy/joules.h"

namespace wattle::energy {

/// When a piece of work ran; nanoseconds on any one clock.
struct Span {
  int64_t begin = 0, end = 0;
};

/// Seconds of a window that each of some spans stands for: an instant at which k of them are active
/// counts 1/k for each. Parts outside the window count nothing.
struct SharedTime {
  std::vector<double> seconds;  ///< per span
  double idle_seconds = 0;      ///< of the window during which none was active
};
/// Throws value_error for a span or a window that ends before it begins.
SharedTime share_time(const std::vector<Span>& spans, Span window);

/// What the model says of one item.
struct Load {
  double seconds = 0;    ///< its share of the window's time (share_time)
  double dynamic_j = 0;  ///< joules of its work beside idle power, >= 0
  double sd_j = 0;       ///< standard deviation of its whole figure, static part included
};

enum class AttributionMethod : uint8_t { proportional, covariance };

/// The energy to share out.
struct WindowEnergy {
  Joules energy;          ///< of the whole window, measured; >= 0
  double seconds = 0;     ///< its length
  double idle_watts = 0;  ///< P0
  double sd_idle_watts = 0;
};

struct Attribution {
  std::vector<Joules> items;      ///< kind attributed, source that of the window
  Joules unattributed;            ///< of the window, of no item
  std::vector<double> static_j;   ///< P0 t_i, joules, as modelled
  std::vector<double> dynamic_j;  ///< d_i, joules, as modelled
  /// Measured over modelled energy of the window: 1 = the model predicts it; NaN when the model
  /// says 0.
  double kappa = 0;
  /// Empty, or one sentence: kappa is off by more than a factor of 1.5, or there is no model.
  std::string warning;
};

/// Shares `window` out. Items' joules and `unattributed` sum to window.energy.uj exactly. Without
/// any model (all s zero) everything is unattributed. An unavailable window gives unavailable
/// shares. Throws value_error for a negative or non-finite load or a negative window.
Attribution attribute(const WindowEnergy& window, const std::vector<Load>& loads,
                      AttributionMethod method = AttributionMethod::covariance);

/// Windows measured inside a window: they keep their figures and the parent's own work gets the
/// rest. Where they exceed the parent (updates of the counter fall into one and not the other) they
/// are scaled down to it.
struct Reconciled {
  std::vector<int64_t> children_uj;
  int64_t rest_uj = 0;  ///< >= 0
  bool scaled = false;
};
/// children_uj and rest_uj sum to parent_uj exactly. Throws value_error on negative energies.
Reconciled reconcile(int64_t parent_uj, const std::vector<int64_t>& children_uj);

}  // namespace wattle::energy
