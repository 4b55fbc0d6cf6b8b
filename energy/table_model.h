// Energy from counts: published energies per operation times what an op declares or executes.
//
//   E = mac (add + mul) + add_n add + mul_n mul + cmp_n cmp + special_n 12 (add + mul)
//     + iop_n (add + mul)/2 + bytes dram/8
//
// These are energies of the datapath and of DRAM alone. A CPU also fetches, decodes and renames
// instructions (tens of pJ each), a cache answers part of the bytes, and an idle machine draws
// power: the result ranks ops and nets, it is no prediction of a wall socket. Its kind is
// `modelled_table`, never `measured`.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/cost.h"
#include "energy/joules.h"

namespace wattle::energy {

/// Energies of one element type in femtojoules (1 pJ = 1000 fJ).
struct TableRow {
  std::string dtype;      ///< name as in core/dtype.h
  int64_t add_fj = 0;     ///< one addition or subtraction
  int64_t mul_fj = 0;     ///< one multiplication
  int64_t cmp_fj = 0;     ///< one comparison: an integer addition of the same width (an assumption:
                          ///< a comparator is a subtractor without its result)
  bool published = true;  ///< false: from a power law through the published widths
};

/// A published table of energies per operation.
struct Table {
  std::string name;            ///< "horowitz45"; becomes Joules::source
  std::string title;           ///< one line with the source
  std::vector<TableRow> rows;  ///< open: a new dtype adds a row
  /// One DRAM access of **64 bits** (8 bytes). The width matters: the same figures read as
  /// energies per 32 bits, a common slip, double every byte's joules.
  int64_t dram64_lo_fj = 0, dram64_hi_fj = 0;

  const TableRow* find(std::string_view dtype) const;  ///< null when the dtype has no row
};

/// One division, square root, exp, log, tanh, ... counts as this many multiplications plus as many
/// additions. An assumption, for no table lists them: a reciprocal square root from a lookup and
/// one Newton step needs about 4, exp or log by range reduction and a polynomial 8 to 12, pow about
/// 20. 12 is the middle of 4..20 and the standard deviation is that of the whole range.
constexpr int64_t special_macs = 12;
constexpr int64_t special_macs_lo = 4, special_macs_hi = 20;

/// Relative standard deviation put on every arithmetic entry. The tables give none; two published
/// energies of a 32-bit integer multiplier at 45 nm, 3.1 pJ (Horowitz) and 12.68 pJ (Aladdin, as
/// in the Accelergy library), lie a factor of 4 apart.
constexpr double arithmetic_rel_sd = 0.5;

/// 45 nm, 0.9 V. M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC
/// 2014, fig. 1.1.9: int8/int32 add 0.03/0.1 pJ, mul 0.2/3.1; fp16/fp32 add 0.4/0.9, mul 1.1/3.7;
/// DRAM 1.3-2.6 nJ per 64 bits. Other widths by power laws through those points on the significand
/// bits m: float mul 1.1 (m/11)^1.555, add 0.4 (m/11)^1.039; int mul 0.2 (w/8)^1.977,
/// add 0.03 (w/8)^0.868.
const Table& horowitz45();

/// 7 nm. N. Jouppi et al., "Ten lessons from three generations shaped Google's TPUv4i", ISCA 2021,
/// table 2: int8/int32 add 0.007/0.03 pJ, mul 0.07/1.48; bf16/fp16/fp32 add 0.11/0.16/0.38,
/// mul 0.21/0.34/1.31; DDR4 1300 pJ per 64 bits. DDR4 is one figure there; its range here has the
/// relative width of Horowitz's (x 2/3 .. x 4/3). Other widths by power laws as above, exponents
/// 1.729 and 1.109 (float), 2.201 and 1.050 (int).
const Table& tpu7();

/// Table by name; throws value_error and lists the known ones.
const Table& table_from_name(std::string_view name);

/// Energy before rounding: exact femtojoules.
struct Femtojoules {
  int128 fj = 0;
  double sd_fj = 0;
  bool available = false;
};

/// Exact energy of `cost` on elements of `dtype`: no rounding anywhere, so
/// f(a) + f(b) == f(a + b). Not available when the table has no row for the dtype and the cost has
/// arithmetic; bytes alone need no row. Errors within a column and of all arithmetic entries are
/// taken as fully correlated; arithmetic, special functions, integer mix and DRAM as independent.
/// Throws value_error on a negative count.
Femtojoules femtojoules_of(const Cost& cost, std::string_view dtype, const Table& table);

/// `femtojoules_of`, rounded half to even once, to integer microjoules; kind modelled_table, source
/// the table's name. Unavailable (never 0) when the table does not know the dtype.
///
/// To print rows whose microjoules add up to the microjoules of their sum, round the sum and share
/// it: largest_remainder(row femtojoules, joules_of(sum).uj).
Joules joules_of(const Cost& cost, std::string_view dtype, const Table& table);

/// Rounds half to even to microjoules; throws value_error when 64 bits do not hold the result.
int64_t microjoules(int128 fj);

}  // namespace wattle::energy
