#include "energy/counter_parts.h"

#include <charconv>
#include <cmath>
#include <system_error>

#include "core/error.h"

namespace wattle::energy {

std::string error_text(int error_number) { return std::generic_category().message(error_number); }

std::string first_line(const std::string& text) {
  std::string s = text.substr(0, text.find('\n'));
  const size_t from = s.find_first_not_of(" \t\r");
  if (from == s.npos) return {};
  return s.substr(from, s.find_last_not_of(" \t\r") - from + 1);
}

namespace {

// All of the text but one newline at its end must be the number.
std::string_view payload(const std::string& text) {
  std::string_view s = text;
  if (s.ends_with('\n')) s.remove_suffix(1);
  const bool plain = !s.empty() && s.find_first_not_of("0123456789.") == s.npos;
  return plain ? s : std::string_view{};
}

}  // namespace

std::optional<int64_t> parse_integer(const std::string& text) {
  const std::string_view s = payload(text);
  int64_t v = 0;
  const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
  if (s.empty() || r.ec != std::errc() || r.ptr != s.data() + s.size()) return {};
  return v;
}

std::optional<double> parse_decimal(const std::string& text) {
  const std::string line = first_line(text);
  const std::string_view s = payload(line);
  double v = 0;
  const auto r = std::from_chars(s.data(), s.data() + s.size(), v, std::chars_format::fixed);
  if (s.empty() || r.ec != std::errc() || r.ptr != s.data() + s.size()) return {};
  return v;
}

std::optional<int64_t> read_integer(HostIo& io, const std::string& path, std::string* why) {
  const FileText t = io.read_file(path);
  if (t.error != 0) {
    if (why) *why = str(path, ": ", error_text(t.error));
    return {};
  }
  const auto v = parse_integer(t.text);
  if (!v && why)
    *why = str(path, ": found '", first_line(t.text).substr(0, 40), "', expected a number >= 0");
  return v;
}

void Unroller::update(double now, int64_t ns, Tally& tally) {
  const double before = last_, seconds = static_cast<double>(ns - last_ns_) * 1e-9;
  const bool first = !known_;
  known_ = true;
  last_ = now;
  last_ns_ = ns;
  if (first) return;
  if (seconds < 0) return tally.fault("the clock went backwards");
  if (range_ > 0 && max_watts_ > 0 && seconds > poll_s())
    return tally.fault(
        str("not read for ", seconds, " s, in which it may have wrapped more than once"));
  const bool back = now < before;
  if (back && !(range_ > 0 && range_known_))
    return tally.fault("the counter went backwards and its range is not known");
  // The published maximum is one unit short of the modulus: at most one unit is lost.
  if (back && before > range_)
    return tally.fault(str("read ", before, ", beyond its range ", range_));
  const double step = back ? range_ - before + now : now - before;
  // In the time allowed between readings no hardware counts half of its range.
  if (range_ > 0 && max_watts_ > 0 && step > range_ / 2)
    return tally.fault(str("went from ", before, " to ", now, " in ", seconds,
                           " s: more than can be drawn, so it was set anew"));
  tally.add(step * unit_uj_);
}

void PowerIntegral::update(double watts, int64_t ns, Tally& tally) {
  const double seconds = static_cast<double>(ns - last_ns_) * 1e-9;
  const double mean = (watts + last_) / 2;
  const bool first = !known_;
  known_ = true;
  last_ = watts;
  last_ns_ = ns;
  if (first) return;
  if (seconds < 0) tally.fault("the clock went backwards");
  else if (seconds > longest_s_)
    tally.fault(str("no power was read for ", seconds, " s, expected a reading every ", longest_s_,
                    " s at least"));
  else tally.add(mean * seconds * 1e6);
}

RawCounter::RawCounter(std::string source, std::string label, Domain domain, HostIo& io,
                       ReadValue read, Unroller unroll, double update_s, double poll_s)
    : Counter(std::move(source), std::move(label), domain),
      io_(io),
      read_(std::move(read)),
      unroll_(unroll),
      update_s_(update_s),
      poll_s_(poll_s) {
  const double own = unroll_.poll_s();
  if (own > 0 && (poll_s_ == 0 || own < poll_s_)) poll_s_ = own;
}

Reading RawCounter::read() {
  std::string why;
  const std::optional<double> now = read_(&why);
  const int64_t ns = io_.now_ns();
  if (now) {
    unroll_.update(*now, ns, tally_);
  } else {
    tally_.fault(why);
    unroll_.forget();
  }
  return tally_.reading(ns);
}

PowerCounter::PowerCounter(std::string source, std::string label, Domain domain, HostIo& io,
                           ReadValue watts, double update_s)
    : Counter(std::move(source), std::move(label), domain),
      io_(io),
      watts_(std::move(watts)),
      update_s_(update_s),
      integral_(20 * update_s) {}

Reading PowerCounter::read() {
  std::string why;
  const std::optional<double> watts = watts_(&why);
  const int64_t ns = io_.now_ns();
  if (watts) {
    integral_.update(*watts, ns, tally_);
  } else {
    tally_.fault(why);
    integral_.forget();
  }
  return tally_.reading(ns);
}

}  // namespace wattle::energy
