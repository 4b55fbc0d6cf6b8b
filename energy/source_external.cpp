// Anything else that measures: a command or a file that gives cumulative joules as a decimal
// number. A smart plug, a rack's power distribution unit, IPMI, a laboratory meter.
#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

ReadValue reader(HostIo& io, const std::string& command, const std::string& file) {
  return [&io, command, file](std::string* why) -> std::optional<double> {
    const FileText t = command.empty() ? io.read_file(file) : io.run(command, 10);
    const auto joules = parse_decimal(t.text);
    if (t.error == 0 && joules) return joules;
    *why = str(command.empty() ? file : command, ": ",
               t.error != 0 ? error_text(t.error)
                            : str("found '", first_line(t.text).substr(0, 40),
                                  "', expected joules as a decimal number"));
    return {};
  };
}

}  // namespace

Probed probe_external(HostIo& io, const ProbeOptions& o) {
  Probed out;
  out.report.name = "external";
  if (o.external_command.empty() && o.external_file.empty()) {
    out.report.reason =
        "none given (WATTLE_METER_COMMAND or WATTLE_METER_FILE, printing cumulative joules)";
    return out;
  }
  const std::string label = o.external_command.empty() ? o.external_file : o.external_command;
  auto c = std::make_unique<RawCounter>("external", label, Domain::board, io,
                                        reader(io, o.external_command, o.external_file),
                                        Unroller(0, 1e6, 0), o.external_update_s);
  if (const Reading r = c->read(); r.faults > 0) out.report.reason = r.fault;
  else out.counters.push_back(std::move(c));
  return out;
}

}  // namespace wattle::energy
