// wattle meter: which energy meters this host has, and why it lacks the others.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "energy/window.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  energy::ProbeOptions probe;  // what is not given comes from the environment
  double seconds = 1;
  bool as_json = false;
};

json to_json(const energy::Meter& m, const energy::WindowResult& r) {
  json sources = json::array();
  for (const energy::SourceReport& s : m.sources())
    sources.push_back({{"name", s.name},
                       {"available", s.available},
                       {"reason", s.reason},
                       {"domains", s.domains}});
  json watts = json::array();
  for (const energy::CounterGain& g : r.parts)
    watts.push_back({{"counter", g.counter},
                     {"watts", g.joules.available() ? json(g.joules.joules() / r.seconds) : json()},
                     {"kind", name(g.joules.kind)},
                     {"fault", g.fault}});
  return {{"meter", m.describe()},
          {"available", m.available()},
          {"sources", sources},
          {"seconds", m.available() ? json(r.seconds) : json()},
          {"power", watts}};
}

void print(const energy::Meter& m, const energy::WindowResult& r) {
  std::printf("meter: %s\n", m.describe().c_str());
  if (!m.available())
    std::printf(
        "No energy can be measured here: joules will be modelled, and say so. docs/ENERGY.md tells "
        "how to get a measured one.\n");
  for (const energy::CounterGain& g : r.parts) {
    if (g.fault.empty())
      std::printf("  %s %.2f W +- %.2f W (measured, %.1f s)\n", cell(g.counter, 32).c_str(),
                  g.joules.joules() / r.seconds, g.joules.sd_joules() / r.seconds, r.seconds);
    else std::printf("  %s %s\n", cell(g.counter, 32).c_str(), g.fault.c_str());
  }
  std::printf("\nsources\n");
  for (const energy::SourceReport& s : m.sources()) {
    std::printf("  %s %s  %s\n", cell(s.name, 11).c_str(), s.available ? "yes" : "no ",
                s.reason.c_str());
    if (!s.available) continue;
    std::string all;
    for (const std::string& d : s.domains) all += (all.empty() ? "" : ", ") + d;
    std::printf("  %s      reads: %s\n", cell("", 11).c_str(), all.c_str());
  }
}

void run(const Options& o) {
  if (!(o.seconds > 0 && o.seconds <= 3600))
    throw value_error(
        str("--seconds: found ", o.seconds, ", expected more than 0 and at most 3600"));
  energy::ProbeOptions probe = energy::probe_options_from_environment();
  probe.allow_msr = probe.allow_msr || o.probe.allow_msr;
  if (!o.probe.nvml_library.empty()) probe.nvml_library = o.probe.nvml_library;
  if (!o.probe.external_command.empty()) probe.external_command = o.probe.external_command;
  if (!o.probe.external_file.empty()) probe.external_file = o.probe.external_file;
  const auto meter = energy::Meter::probe(probe);
  energy::Window w(*meter, "meter");
  if (meter->available()) meter->io().sleep_s(o.seconds);
  const energy::WindowResult r = w.end();
  if (o.as_json) std::printf("%s\n", to_json(*meter, r).dump(1).c_str());
  else print(*meter, r);
}

}  // namespace

void add_meter(CLI::App& app) {
  auto* c = app.add_subcommand("meter", "Lists this host's energy meters and what they read");
  auto o = std::make_shared<Options>();
  c->add_option("--seconds", o->seconds, "How long to watch")->capture_default_str();
  c->add_flag("--allow-msr", o->probe.allow_msr, "Also reads /dev/cpu/*/msr (CAP_SYS_RAWIO)");
  c->add_option("--nvml", o->probe.nvml_library, "Path of NVIDIA's management library");
  c->add_option("--command", o->probe.external_command,
                "Command that prints cumulative joules: a smart plug, a PDU, IPMI");
  c->add_option("--file", o->probe.external_file, "File that holds cumulative joules");
  c->add_flag("--json", o->as_json, "Result as JSON");
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
