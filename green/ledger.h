// From counter rows to the layer table: who spent what, in FLOPs, bytes, milliseconds and joules.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/counters.h"
#include "energy/table_model.h"
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

/// Rows in the order in which their layers first ran. Joules are modelled: published energies of
/// the operations that the kernels executed and of the unique bytes of their operands. The rows'
/// microjoules add up to those of the total exactly.
struct Ledger {
  std::vector<LedgerRow> rows;
  int64_t calls = 0;
  Cost cost, executed;
  double ns = 0;
  Joules joules;
};

/// Module kinds by scope path.
using Kinds = std::map<std::string, std::string>;
Kinds module_kinds(const nn::Module& net);

Ledger make_ledger(const Counters& counters, const Kinds& kinds,
                   const energy::Table& table = energy::horowitz45());

/// What a row spends according to the table: executed operations, unique bytes.
energy::Femtojoules row_energy(const Row& row, const energy::Table& table);

}  // namespace wattle::green
