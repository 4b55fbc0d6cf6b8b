// Joules of counter rows: one figure per (scope, op, kernel, dtype, phase), from which sums per
// layer, op and phase follow as integer sums.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/counters.h"
#include "energy/attribution.h"
#include "energy/host_model.h"
#include "energy/table_model.h"
#include "energy/window.h"

namespace wattle::green {

/// What joules are made from. The best there is wins: a measured window, shared out by the
/// calibrated model or by the table; else the calibrated model; else the table.
struct JouleBasis {
  const energy::Table* table = &energy::horowitz45();
  const energy::HostModel* calibrated = nullptr;
  const energy::WindowResult* window = nullptr;  ///< measured while the rows ran
  energy::IdleBaseline idle;                     ///< of the host; weighs time where it is known
};

struct RowJoules {
  std::vector<Joules> rows;  ///< per row of the counters
  Joules unattributed;       ///< of a measured window: time that no op stands for; else unavailable
  Joules total;              ///< rows + unattributed, exactly
  double kappa = 0;          ///< measured over modelled; NaN without a measurement
  std::string warning;       ///< empty, or why the shares deserve less trust
};

/// Rows' microjoules (and the unattributed ones) sum to the total's exactly.
RowJoules joules_of_rows(std::span<const Row> rows, const JouleBasis& basis);

/// What a row spends according to the table: executed operations, unique bytes.
energy::Femtojoules row_energy(const Row& row, const energy::Table& table);
/// The same of any work. On a coded dtype what is executed is float work of the type it computes in
/// and 32-bit integer work of the codecs (shifts, additions, logic: priced as additions); only its
/// bytes are the format's own. Nothing emulated is priced as the hardware that it stands for.
energy::Femtojoules energy_of(const Cost& cost, DType dtype, const energy::Table& table);

/// Joules per "op, phase", in order of first appearance; sums are those of the rows.
struct OpJoules {
  std::string op;
  Phase phase = Phase::forward;
  Joules joules;
};
std::vector<OpJoules> joules_per_op(const Counters& counters, const RowJoules& joules);

}  // namespace wattle::green
