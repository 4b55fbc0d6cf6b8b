// Pieces that the sources share: numbers out of files, wraps, power integrated over time.
#pragma once
#include <optional>

#include "core/callable.h"
#include "energy/meter.h"

namespace wattle::energy {

/// A number as sysfs prints it: decimal digits and a newline, nothing else. Empty text, a sign,
/// other characters or more than 63 bits give nothing: garbage is no reading.
std::optional<int64_t> parse_integer(const std::string& text);
/// A decimal fraction >= 0, "123.456"; nothing otherwise.
std::optional<double> parse_decimal(const std::string& text);
/// First line without blanks at its ends.
std::string first_line(const std::string& text);
/// Reads and parses; nothing with `why` = "FILE: Permission denied" or "FILE: found 'abc', ...".
std::optional<int64_t> read_integer(HostIo& io, const std::string& path,
                                    std::string* why = nullptr);
std::string error_text(int error_number);

/// Keeps a counter's accumulated value and its faults.
class Tally {
 public:
  void add(double uj) { uj_ += uj; }
  void fault(std::string why) {
    ++faults_;
    why_ = std::move(why);
  }
  Reading reading(int64_t ns) const { return {static_cast<int64_t>(uj_), ns, faults_, why_}; }

 private:
  double uj_ = 0;  // 2^53 uJ are 285 years at 1 W
  int64_t faults_ = 0;
  std::string why_;
};

/// Unrolls a counter that starts again at 0 after `range`: a step back means one wrap, which is
/// what the kernel's powercap documentation lets one infer and no more.
class Unroller {
 public:
  /// range 0: it never starts again, and any step back is a fault. max_watts: more than the domain
  /// can draw, to notice when two wraps may lie between readings, and steps that no hardware makes;
  /// `unit_uj` converts raw steps. range_known false: `range` is only the least it can be, which
  /// limits the time between readings, and a step back is a fault.
  Unroller(double range, double unit_uj, double max_watts, bool range_known = true)
      : range_(range), unit_uj_(unit_uj), max_watts_(max_watts), range_known_(range_known) {}
  /// Accounts for the raw value `now` read at `ns`.
  void update(double now, int64_t ns, Tally& tally);
  /// After a failed reading the next one starts afresh.
  void forget() { known_ = false; }
  /// Seconds within which half of the range cannot pass; 0 when it never wraps.
  double poll_s() const {
    return range_ > 0 && max_watts_ > 0 ? range_ * unit_uj_ * 1e-6 / max_watts_ / 2 : 0;
  }

 private:
  double range_, unit_uj_, max_watts_;
  bool range_known_, known_ = false;
  double last_ = 0;
  int64_t last_ns_ = 0;
};

/// Integrates power readings by the trapezoid rule. A gap of more than `longest_s` between readings
/// is a fault: nobody knows what was drawn meanwhile.
class PowerIntegral {
 public:
  explicit PowerIntegral(double longest_s) : longest_s_(longest_s) {}
  void update(double watts, int64_t ns, Tally& tally);
  void forget() { known_ = false; }

 private:
  double longest_s_;
  bool known_ = false;
  double last_ = 0;
  int64_t last_ns_ = 0;
};

/// Reads a value now; nothing, with `why` filled, when it cannot be read or believed.
using ReadValue = Callable<std::optional<double>(std::string* why)>;

/// A hardware counter: raw values unrolled into microjoules.
class RawCounter final : public Counter {
 public:
  RawCounter(std::string source, std::string label, Domain domain, HostIo& io, ReadValue read,
             Unroller unroll, double update_s, double poll_s = 0);
  Reading read() override;
  double update_s() const override { return update_s_; }
  /// The unroller's, or the one given, whichever is shorter.
  double poll_s() const override { return poll_s_; }

 private:
  HostIo& io_;
  ReadValue read_;
  Unroller unroll_;
  double update_s_, poll_s_;
  Tally tally_;
};

/// A power sensor, watts, integrated over time.
class PowerCounter final : public Counter {
 public:
  PowerCounter(std::string source, std::string label, Domain domain, HostIo& io, ReadValue watts,
               double update_s);
  Reading read() override;
  double update_s() const override { return update_s_; }
  double poll_s() const override { return update_s_; }

 private:
  HostIo& io_;
  ReadValue watts_;
  double update_s_;
  PowerIntegral integral_;
  Tally tally_;
};

}  // namespace wattle::energy
