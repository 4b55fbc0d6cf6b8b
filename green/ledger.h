// From counter rows to the layer table: who spent what, in FLOPs, bytes, milliseconds and joules.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/counters.h"
#include "green/row_joules.h"
#include "nn/module.h"

namespace wattle::green {

/// Work of one layer in one phase.
struct LedgerRow {
  std::string layer;  ///< scope path; "" for ops outside every scope
  std::string kind;   ///< the module's kind, or the scope's name ("loss", "data")
  Phase phase = Phase::forward;
  int64_t calls = 0;
  Cost cost;      ///< by the ops' rules
  Cost executed;  ///< by the kernels that ran
  double ns = 0;
  Joules joules;
};

/// Name of the row that holds what a measured window holds beside all ops.
constexpr const char* unattributed_row = "(unattributed)";

/// Rows in the order in which their layers first ran. The rows' microjoules add up to those of the
/// total exactly, whatever they are: shares of a measured window, a calibrated model, or published
/// energies of the operations that the kernels executed and of the unique bytes of their operands.
struct Ledger {
  std::vector<LedgerRow> rows;
  std::vector<OpJoules> ops;  ///< the same joules by op and phase (without the unattributed ones)
  int64_t calls = 0;
  Cost cost, executed;
  double ns = 0;
  Joules joules;
  Joules idle, net;     ///< of a measured window with an idle baseline; else unavailable
  double kappa = 0;     ///< measured over modelled joules; NaN without a measurement
  std::string warning;  ///< empty, or why the shares deserve less trust
};

/// Module kinds by scope path.
using Kinds = std::map<std::string, std::string>;
Kinds module_kinds(const nn::Module& net);

Ledger make_ledger(const Counters& counters, const Kinds& kinds,
                   const energy::Table& table = energy::horowitz45());
/// The same from the best that `basis` holds.
Ledger make_ledger(const Counters& counters, const Kinds& kinds, const JouleBasis& basis);

}  // namespace wattle::green
