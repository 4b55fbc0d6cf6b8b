// Energy with its error and its origin: a number of joules never travels without its kind.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace wattle::energy {

/// How a figure came about, strongest first. A sum is as weak as its weakest term.
enum class JouleKind : uint8_t {
  measured,             ///< difference of a hardware energy counter
  attributed,           ///< share of a measured window, handed out by a model so that shares add up
  modelled_calibrated,  ///< model whose coefficients were fitted on a metered host
  modelled_table,       ///< operation and byte counts x published energies per operation
  tdp_estimate,         ///< thermal design power x time x load: +-50 % is common
  ratio,                ///< known only relative to another figure
  unavailable,          ///< not known; prints "-", never 0
};

/// Stable identifier for files: "measured", "modelled_table", ...
std::string_view name(JouleKind k);
/// Word for people: "measured", "modelled", "estimated from TDP", ...
std::string_view word(JouleKind k);
/// Inverse of `name`; throws value_error and lists the known kinds.
JouleKind joule_kind_from_name(std::string_view s);

/// An energy. Integer microjoules, so that rows add up to their total to the last digit.
struct Joules {
  int64_t uj = 0;                           ///< microjoules
  double sd_uj = 0;                         ///< standard deviation, microjoules
  JouleKind kind = JouleKind::unavailable;  ///< a forgotten initialisation must not read as 0 J
  std::string source;                       ///< "rapl package-0", "horowitz45", ...

  bool available() const { return kind != JouleKind::unavailable; }
  /// Value in joules; NaN when unavailable, so that it cannot enter a statistic unseen.
  double joules() const;
  double sd_joules() const;

  /// "1.234 mJ +- 0.4 mJ (modelled, table horowitz45)"; "-" when unavailable.
  std::string str() const;
  /// Kind and source alone: "modelled, table horowitz45".
  std::string origin() const;
  /// {"uj":1234,"sd_uj":400,"kind":"modelled_table","source":"horowitz45"}; null values when
  /// unavailable.
  std::string json() const;

  Joules& operator+=(const Joules& o);
  friend bool operator==(const Joules&, const Joules&) = default;
};

/// Sum of figures with **independent** errors: exact integer sum, variances add, the weakest kind
/// wins, different sources are listed as "a+b". Throws value_error on 64-bit overflow.
Joules operator+(const Joules& a, const Joules& b);

/// Like operator+, but standard deviations add: for figures that share one source of error, as all
/// figures of one energy table do (a DRAM entry that is 20 % off is off in every row).
Joules add_correlated(const Joules& a, const Joules& b);

/// Sum of a list; unavailable when it is empty. Neighbours modelled from the same table or
/// calibration are added with correlated errors, all others with independent ones.
Joules sum(const std::vector<Joules>& terms);

/// The energy of one of `n` equal repeats: value and standard deviation divided by n, the value
/// rounded half to even. Throws value_error when n < 1.
Joules mean_of(const Joules& total, int64_t n);

/// `uj` microjoules with a fitting unit and four significant digits: "1.234 mJ", "56 uJ",
/// "2.5 kJ".
std::string energy_text(double uj);

/// Splits `total` in proportion to `weights` so that the parts add up to `total` **exactly**
/// (largest remainder, ties to the lower index), each within one of its exact share. Weights count
/// to 57 bits or more of the largest. All-zero weights share equally. Throws value_error on a
/// negative or non-finite weight, or when there is no weight for a non-zero total.
std::vector<int64_t> largest_remainder(const std::vector<double>& weights, int64_t total);
__extension__ typedef __int128 int128;
std::vector<int64_t> largest_remainder(const std::vector<int128>& weights, int64_t total);

}  // namespace wattle::energy

namespace wattle {
using energy::JouleKind;
using energy::Joules;
}  // namespace wattle
