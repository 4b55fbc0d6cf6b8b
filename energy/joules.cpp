#include "energy/joules.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace wattle::energy {
namespace {

struct KindText {
  JouleKind kind;
  std::string_view name, word, lead;  // lead stands before the source in origin()
};
constexpr KindText kinds[] = {
    {JouleKind::measured, "measured", "measured", "measured, "},
    {JouleKind::attributed, "attributed", "attributed", "attributed, "},
    {JouleKind::modelled_calibrated, "modelled_calibrated", "modelled", "modelled, calibration "},
    {JouleKind::modelled_table, "modelled_table", "modelled", "modelled, table "},
    {JouleKind::tdp_estimate, "tdp_estimate", "estimated from TDP", "estimated from TDP, "},
    {JouleKind::ratio, "ratio", "ratio", "ratio, "},
    {JouleKind::unavailable, "unavailable", "unavailable", "unavailable, "},
};

const KindText& text_of(JouleKind k) {
  for (const KindText& t : kinds) {
    if (t.kind == k) return t;
  }
  throw value_error(str("joules: unknown kind number ", static_cast<int>(k)));
}

// The sources of both sides, each once, in alphabetical order.
std::string join_sources(const std::string& a, const std::string& b) {
  if (a == b || b.empty()) return a;
  if (a.empty()) return b;
  std::vector<std::string> parts;
  for (const std::string* s : {&a, &b}) {
    for (size_t at = 0; at <= s->size();) {
      const size_t end = std::min(s->find('+', at), s->size());
      parts.push_back(s->substr(at, end - at));
      at = end + 1;
    }
  }
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  std::string out;
  for (const std::string& p : parts) out += (out.empty() ? "" : "+") + p;
  return out;
}

Joules combine(const Joules& a, const Joules& b, double sd) {
  Joules r;
  if (__builtin_add_overflow(a.uj, b.uj, &r.uj)) {
    throw value_error(str("joules: sum of ", a.uj, " uJ and ", b.uj, " uJ leaves 64 bits"));
  }
  r.sd_uj = sd;
  r.kind = std::max(a.kind, b.kind);
  r.source = join_sources(a.source, b.source);
  return r;
}

bool shares_its_error(JouleKind k) {
  return k == JouleKind::modelled_calibrated || k == JouleKind::modelled_table ||
         k == JouleKind::tdp_estimate;
}

// Shortest text that reads back as the same double, whatever the locale.
std::string number(double v) {
  char buf[40];
  const auto r = std::to_chars(buf, buf + sizeof buf, v);
  return std::string(buf, r.ptr);
}

std::string quoted(std::string_view s) {
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\', out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00", out += hex[(c >> 4) & 15], out += hex[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// n / d rounded half to even, d > 0.
int64_t divide_half_even(int64_t n, int64_t d) {
  int64_t q = n / d, r = n % d;
  if (r < 0) q -= 1, r += d;
  const int64_t rest = d - r;
  if (r > rest || (r == rest && q % 2 != 0)) q += 1;
  return q;
}

}  // namespace

std::string_view name(JouleKind k) { return text_of(k).name; }
std::string_view word(JouleKind k) { return text_of(k).word; }

JouleKind joule_kind_from_name(std::string_view s) {
  std::string known;
  for (const KindText& t : kinds) {
    if (t.name == s) return t.kind;
    known += str(known.empty() ? "" : ", ", t.name);
  }
  throw value_error(str("joules: found kind '", s, "', expected one of ", known));
}

double Joules::joules() const {
  return available() ? static_cast<double>(uj) * 1e-6 : std::numeric_limits<double>::quiet_NaN();
}
double Joules::sd_joules() const {
  return available() ? sd_uj * 1e-6 : std::numeric_limits<double>::quiet_NaN();
}

std::string Joules::origin() const {
  const KindText& t = text_of(kind);
  return source.empty() ? std::string(t.word) : wattle::str(t.lead, source);
}

std::string Joules::str() const {
  if (!available()) return "-";
  return wattle::str(energy_text(static_cast<double>(uj)), " +- ", energy_text(sd_uj), " (",
                     origin(), ")");
}

std::string Joules::json() const {
  const bool has = available(), has_sd = has && std::isfinite(sd_uj);
  return wattle::str("{\"uj\":", has ? std::to_string(uj) : "null",
                     ",\"sd_uj\":", has_sd ? number(sd_uj) : "null", ",\"kind\":\"", name(kind),
                     "\",\"source\":", quoted(source), "}");
}

Joules& Joules::operator+=(const Joules& o) { return *this = *this + o; }

Joules operator+(const Joules& a, const Joules& b) {
  return combine(a, b, std::hypot(a.sd_uj, b.sd_uj));
}

Joules add_correlated(const Joules& a, const Joules& b) { return combine(a, b, a.sd_uj + b.sd_uj); }

Joules sum(const std::vector<Joules>& terms) {
  if (terms.empty()) return {};
  Joules total = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    const Joules& t = terms[i];
    const bool shared =
        shares_its_error(t.kind) && t.kind == total.kind && t.source == total.source;
    total = shared ? add_correlated(total, t) : total + t;
  }
  return total;
}

Joules mean_of(const Joules& total, int64_t n) {
  if (n < 1) throw value_error(str("mean_of: found n = ", n, ", expected n >= 1"));
  Joules r = total;
  r.uj = divide_half_even(total.uj, n);
  r.sd_uj = total.sd_uj / static_cast<double>(n);
  return r;
}

std::string energy_text(double uj) {
  struct Unit {
    double uj;
    const char* name;
  };
  constexpr Unit units[] = {{1e15, "GJ"}, {1e12, "MJ"}, {1e9, "kJ"}, {1e6, "J"}, {1e3, "mJ"}};
  const char* unit = "uJ";
  double v = uj;
  for (const Unit& u : units) {
    // 999.96 would print as 1000: the next unit takes over where four digits round up to it
    if (std::fabs(uj) >= u.uj * 0.99995) {
      v = uj / u.uj, unit = u.name;
      break;
    }
  }
  char buf[40];
  const auto r = std::to_chars(buf, buf + sizeof buf, v, std::chars_format::general, 4);
  return wattle::str(std::string_view(buf, static_cast<size_t>(r.ptr - buf)), " ", unit);
}

std::vector<int64_t> largest_remainder(const std::vector<int128>& weights, int64_t total) {
  if (total == std::numeric_limits<int64_t>::min()) {
    throw value_error(str("largest_remainder: total ", total, " has no 64-bit magnitude"));
  }
  int128 sum = 0, top = 0;
  for (const int128 w : weights) {
    if (w < 0) throw value_error("largest_remainder: found a negative weight, expected >= 0");
    top = std::max(top, w);
  }
  if (weights.empty()) {
    if (total != 0) throw value_error(str("largest_remainder: no weights to share ", total, " on"));
    return {};
  }
  // keeps total * w within 127 bits; the weights lose bits only beyond 2^63 / n
  const int128 limit = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(weights.size());
  int shift = 0;
  while ((top >> shift) > limit) ++shift;
  std::vector<int64_t> w(weights.size()), part(weights.size());
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] = top == 0 ? 1 : static_cast<int64_t>(weights[i] >> shift);
    sum += w[i];
  }
  std::vector<int128> rest(w.size());
  const int128 magnitude = total < 0 ? -static_cast<int128>(total) : static_cast<int128>(total);
  int128 left = magnitude;
  for (size_t i = 0; i < w.size(); ++i) {
    const int128 share = magnitude * w[i];
    part[i] = static_cast<int64_t>(share / sum), rest[i] = share % sum;
    left -= part[i];
  }
  std::vector<size_t> order(w.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rest[a] > rest[b]; });
  for (size_t k = 0; k < static_cast<size_t>(left); ++k) part[order[k]] += 1;
  if (total < 0) {
    for (int64_t& p : part) p = -p;
  }
  return part;
}

std::vector<int64_t> largest_remainder(const std::vector<double>& weights, int64_t total) {
  double top = 0;
  for (const double w : weights) {
    if (!(w >= 0) || !std::isfinite(w)) {
      throw value_error(str("largest_remainder: found weight ", w, ", expected a finite one >= 0"));
    }
    top = std::max(top, w);
  }
  std::vector<int128> scaled(weights.size());
  for (size_t i = 0; i < scaled.size(); ++i) {
    scaled[i] = top == 0 ? 0 : static_cast<int128>(std::ldexp(weights[i] / top, 62));
  }
  return largest_remainder(scaled, total);
}

}  // namespace wattle::energy
