#include "green/report_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace wattle::green {
namespace {

std::string print(const char* format, int digits, double v) {
  char buf[400];
  std::snprintf(buf, sizeof buf, format, digits, v);
  std::string s = buf;
  // "-0.00" is 0; other negatives get a minus sign that is as wide as a plus
  if (s[0] == '-') {
    const bool zero = s.find_first_of("123456789") == std::string::npos;
    s = (zero ? "" : "\u2212") + s.substr(1);
  }
  return s;
}

// "2.8e-5" with a minus sign and no padding of the exponent.
std::string scientific(double v, int decimals) {
  std::string s = print("%.*e", decimals, v);
  const size_t e = s.find('e');
  return str(s.substr(0, e), "e", s[e + 1] == '-' ? "\u2212" : "", std::atoi(&s[e + 2]));
}

}  // namespace

std::string escape_html(std::string_view s) {
  std::string out;
  for (const char c : s) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string table_head(const std::vector<std::string>& names) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& n : names) out += "<th scope=\"col\">" + n + "</th>";
  return out + "</tr></thead><tbody>\n";
}

std::string table_row(const std::vector<std::string>& cells) {
  std::string out = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i)
    out += i == 0 ? "<th scope=\"row\" class=\"l\">" + cells[i] + "</th>"
                  : "<td>" + cells[i] + "</td>";
  return out + "</tr>\n";
}

std::string fixed(double v, int decimals) {
  return std::isfinite(v) ? print("%.*f", decimals, v) : "-";
}

std::string significant(double v, int digits) {
  if (!std::isfinite(v)) return "-";
  if (v == 0) return "0";
  char rounded[40];  // 0.9996 has three digits only as 1.00: the exponent after rounding counts
  std::snprintf(rounded, sizeof rounded, "%.*e", digits - 1, v);
  const int magnitude = std::atoi(std::strchr(rounded, 'e') + 1);
  if (magnitude < -4) return scientific(v, digits - 1);
  return fixed(v, std::max(digits - 1 - magnitude, 0));
}

std::string si(double v, std::string_view unit, int digits) {
  if (!std::isfinite(v)) return "-";
  struct Prefix {
    double scale;
    const char* name;
  };
  constexpr Prefix prefixes[] = {{1e18, "E"},      {1e15, "P"}, {1e12, "T"}, {1e9, "G"},
                                 {1e6, "M"},       {1e3, "k"},  {1, ""},     {1e-3, "m"},
                                 {1e-6, "\u00b5"}, {1e-9, "n"}};
  const char* prefix = "";
  double scale = 1;
  for (const Prefix& p : prefixes) {
    if (std::fabs(v) < p.scale * 0.9995) continue;
    scale = p.scale, prefix = p.name;
    break;
  }
  return str(significant(v / scale, digits), "\u00a0", prefix, unit);
}

std::string percent(double fraction, int decimals) {
  return std::isfinite(fraction) ? fixed(100 * fraction, decimals) + "\u00a0%" : "-";
}

std::string p_text(double p) {
  if (!std::isfinite(p)) return "-";
  if (p < 1e-300) return "< 1e\u2212300";
  return p < 1e-3 ? scientific(p, 1) : fixed(p, 3);
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 120) return si(seconds, "s");
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 7200) return str(s / 60, "\u00a0min ", s % 60, "\u00a0s");
  return str(s / 3600, "\u00a0h ", s % 3600 / 60, "\u00a0min");
}

std::string dataset_title(const std::string& name) {
  return name == "fashion-mnist" ? "Fashion-MNIST" : name == "cifar10" ? "CIFAR-10" : name;
}

std::string grouped(int64_t v) {
  std::string digits = std::to_string(v < 0 ? -v : v), out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i && (digits.size() - i) % 3 == 0) out += "\u2009";
    out += digits[i];
  }
  return (v < 0 ? "\u2212" : "") + out;
}

std::string joules_text(const Joules& j, int digits) {
  return j.available() ? si(j.joules(), "J", digits) : "-";
}

std::string joules_with_kind(const Joules& j) {
  return j.available() ? str(joules_text(j), " (", energy::word(j.kind), ")") : "-";
}

}  // namespace wattle::green
