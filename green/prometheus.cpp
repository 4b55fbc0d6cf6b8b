#include "green/prometheus.h"

#include <charconv>

namespace wattle::green {
namespace {

// Label values: backslash, quote and line feed are escaped, nothing else.
std::string label(const std::string& key, const std::string& value) {
  std::string out = key + "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\', out += c;
    else if (c == '\n') out += "\\n";
    else out += c;
  }
  return out + "\"";
}

std::string number(double v) {
  char buf[40];
  const auto r = std::to_chars(buf, buf + sizeof buf, v);
  return std::string(buf, r.ptr);
}

std::string head(const std::string& metric, const std::string& help) {
  return "# HELP " + metric + " " + help + "\n# TYPE " + metric + " counter\n";
}

// One metric over all rows; `value` gives the text of a sample, "" = no sample.
template <class F>
std::string metric(const Ledger& l, const std::string& job, const std::string& name,
                   const std::string& help, F value) {
  std::string out = head(name, help);
  for (const LedgerRow& r : l.rows) {
    std::string more;
    const std::string v = value(r, more);
    if (v.empty()) continue;
    out += name + "{" + label("job", job) + "," + label("layer", r.layer) + "," +
           label("phase", std::string(wattle::name(r.phase))) + more + "} " + v + "\n";
  }
  return out;
}

}  // namespace

std::string prometheus_text(const Ledger& l, int64_t steps, const std::string& job) {
  std::string out = metric(
      l, job, "wattle_energy_joules_total", "Energy; the label kind says where the figure is from.",
      [](const LedgerRow& r, std::string& more) {
        more = "," + label("kind", std::string(energy::name(r.joules.kind))) + "," +
               label("source", r.joules.source);
        return r.joules.available() ? number(r.joules.joules()) : std::string();
      });
  out += metric(l, job, "wattle_flops_total", "Floating-point operations, 2 per MAC.",
                [](const LedgerRow& r, std::string&) { return std::to_string(r.cost.flops()); });
  out += metric(l, job, "wattle_bytes_total", "Unique bytes read and written by ops.",
                [](const LedgerRow& r, std::string&) { return std::to_string(r.cost.bytes()); });
  out += metric(l, job, "wattle_seconds_total", "Wall time inside kernels.",
                [](const LedgerRow& r, std::string&) { return number(r.ns * 1e-9); });
  out += head("wattle_steps_total", "Training steps taken.") + "wattle_steps_total{" +
         label("job", job) + "} " + std::to_string(steps) + "\n";
  return out;
}

}  // namespace wattle::green
