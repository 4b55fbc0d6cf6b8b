// Anything else that measures: a command or a file that gives cumulative joules as a decimal
// number. A smart plug, a rack's power distribution unit, IPMI, a laboratory meter.
#include "core/error.h"
#include "energy/counter_parts.h"

namespace wattle::energy {
namespace {

class ExternalCounter final : public Counter {
 public:
  ExternalCounter(HostIo& io, std::string command, std::string file, double update_s)
      : Counter("external", command.empty() ? file : command, Domain::board),
        io_(io),
        command_(std::move(command)),
        file_(std::move(file)),
        update_s_(update_s),
        unroll_(0, 1e6, 0) {}
  Reading read() override {
    const FileText t = command_.empty() ? io_.read_file(file_) : io_.run(command_, 10);
    const int64_t ns = io_.now_ns();
    const auto joules = parse_decimal(t.text);
    if (t.error == 0 && joules) {
      unroll_.update(*joules, ns, tally_);
    } else {
      const std::string found = t.error != 0 ? error_text(t.error)
                                             : str("found '", first_line(t.text).substr(0, 40),
                                                   "', expected joules as a decimal number");
      tally_.fault(str(label(), ": ", found));
      unroll_.forget();
    }
    return tally_.reading(ns);
  }
  double update_s() const override { return update_s_; }

 private:
  HostIo& io_;
  std::string command_, file_;
  double update_s_;
  Unroller unroll_;
  Tally tally_;
};

}  // namespace

Probed probe_external(HostIo& io, const ProbeOptions& o) {
  Probed out;
  out.report.name = "external";
  if (o.external_command.empty() && o.external_file.empty()) {
    out.report.reason =
        "none given (WATTLE_METER_COMMAND or WATTLE_METER_FILE, printing cumulative joules)";
    return out;
  }
  auto c = std::make_unique<ExternalCounter>(io, o.external_command, o.external_file,
                                             o.external_update_s);
  if (const Reading r = c->read(); r.faults > 0) out.report.reason = r.fault;
  else out.counters.push_back(std::move(c));
  return out;
}

}  // namespace wattle::energy
