// wattle carbon: grams from joules, and when to run for fewer of them.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "energy/carbon.h"
#include "energy/carbon_schedule.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  double joules = -1, sd = 0, pue = 1, g_per_kwh = -1;
  std::string kind, region = "WORLD", schedule;
  double embodied_g = 0, hours = 0, life_years = 4, resources = 1, units = 0, embodied_fraction = 0;
  double run_hours = 0, deadline = 0;
  bool chunks = false, regions = false, as_json = false;
};

json to_json(const energy::Grams& g) {
  return {{"g", g.available() ? json(g.g) : json()},
          {"sd_g", g.available() ? json(g.sd_g) : json()},
          {"kind", std::string(energy::name(g.kind))},
          {"source", g.source}};
}

void list_regions() {
  for (const energy::Intensity& i : energy::intensities())
    std::printf("%s %s g/kWh  %d  %s  (%s)\n", cell(i.region, 6).c_str(),
                cell(str(i.g_per_kwh), -6).c_str(), i.year, i.kind.c_str(), i.source.c_str());
}

energy::Intensity intensity(const Options& o) {
  if (o.g_per_kwh >= 0) return {"given", o.g_per_kwh, 0, "given", "given"};
  return energy::intensity_of(o.region);
}

void footprint(const Options& o) {
  if (!(o.joules >= 0))
    throw value_error("--joules: expected joules >= 0 (or --regions, --schedule)");
  if (o.kind.empty())
    throw value_error(
        "--kind: say where the joules come from: measured, attributed, modelled_calibrated, "
        "modelled_table, tdp_estimate or ratio");
  const energy::Joules j{std::llround(o.joules * 1e6), o.sd * 1e6,
                         energy::joule_kind_from_name(o.kind), "given"};
  const energy::Intensity at = intensity(o);
  const energy::Grams op = energy::operational(j, at, o.pue);
  const energy::Grams made =
      energy::embodied_share(o.embodied_g, o.hours, o.life_years, o.resources);
  const energy::Grams by_ratio = o.embodied_fraction > 0
                                     ? energy::embodied_by_ratio(op, o.embodied_fraction)
                                     : energy::Grams{};
  const bool with_sci = o.units > 0;
  const energy::Grams sci = with_sci ? energy::sci(op, made, o.units) : energy::Grams{};
  if (o.as_json) {
    json out{{"operational", to_json(op)},
             {"intensity",
              {{"region", at.region},
               {"g_per_kwh", at.g_per_kwh},
               {"year", at.year},
               {"kind", at.kind},
               {"source", at.source}}},
             {"pue", o.pue}};
    if (o.embodied_g > 0) out["embodied"] = to_json(made);
    if (by_ratio.available()) out["embodied_by_ratio"] = to_json(by_ratio);
    if (with_sci) out["sci_per_unit"] = to_json(sci);
    std::printf("%s\n", out.dump(1).c_str());
    return;
  }
  std::printf("operation  %s\n           %s, %s\n", op.str().c_str(), at.kind.c_str(),
              at.source.c_str());
  if (o.embodied_g > 0) std::printf("embodied   %s\n", made.str().c_str());
  if (by_ratio.available()) std::printf("embodied   %s\n", by_ratio.str().c_str());
  if (with_sci) std::printf("SCI        %s per unit of %g\n", sci.str().c_str(), o.units);
}

void schedule(const Options& o) {
  std::ifstream file(o.schedule);
  if (!file) throw io_error(str(o.schedule, ": cannot be opened"));
  std::stringstream text;
  text << file.rdbuf();
  const auto g = energy::parse_intensity_csv(text.str(), o.schedule);
  const double deadline = o.deadline > 0 ? o.deadline : static_cast<double>(g.size());
  const energy::Schedule s = o.chunks
                                 ? energy::best_hours(g, static_cast<int>(std::ceil(o.run_hours)),
                                                      static_cast<int>(deadline))
                                 : energy::best_start(g, o.run_hours, deadline);
  if (o.as_json) {
    const json out{{"start_hour", s.start_hour},
                   {"hours", s.hours},
                   {"mean_g_per_kwh", s.mean_g_per_kwh},
                   {"now_g_per_kwh", s.now_g_per_kwh},
                   {"saved", s.saved()}};
    std::printf("%s\n", out.dump(1).c_str());
    return;
  }
  if (o.chunks) {
    std::printf("run in hours");
    for (const int h : s.hours) std::printf(" %d", h);
    std::printf(" of the forecast, counted from 0\n");
  } else {
    std::printf("start %g h after the forecast begins\n", s.start_hour);
  }
  std::printf("mean %.1f g/kWh; starting at once %.1f g/kWh; saves %.0f %%\n", s.mean_g_per_kwh,
              s.now_g_per_kwh, 100 * s.saved());
}

void run(const Options& o) {
  if (o.regions) list_regions();
  else if (!o.schedule.empty()) schedule(o);
  else footprint(o);
}

}  // namespace

void add_carbon(CLI::App& app) {
  auto* c = app.add_subcommand("carbon", "Grams of CO2 equivalent from joules; when to run");
  auto o = std::make_shared<Options>();
  c->add_option("--joules", o->joules, "Energy of the machine");
  c->add_option("--sd", o->sd, "Its standard deviation, joules");
  c->add_option("--kind", o->kind, "Where the joules come from: measured, modelled_table, ...");
  c->add_option("--region", o->region, "Country code, or WORLD; --regions lists them")
      ->capture_default_str();
  c->add_option("--g-per-kwh", o->g_per_kwh, "Intensity in the place of a region's");
  c->add_option("--pue", o->pue, "Power usage effectiveness of the data centre")
      ->capture_default_str();
  c->add_option("--embodied", o->embodied_g, "Grams that making the machine cost");
  c->add_option("--hours", o->hours, "Hours for which the machine was reserved");
  c->add_option("--life", o->life_years, "Its expected life in years")->capture_default_str();
  c->add_option("--share", o->resources, "Share of the machine that was reserved")
      ->capture_default_str();
  c->add_option(
      "--embodied-fraction", o->embodied_fraction,
      "Only this is known: the share of making in all carbon (0.7: Wu et al., MLSys 2022)");
  c->add_option("--units", o->units, "Functional units R: prints SCI, (E I + M) / R");
  c->add_flag("--regions", o->regions, "Lists the regions with year and source");
  c->add_option("--schedule", o->schedule, "CSV of hourly g/kWh: finds the best time to run");
  c->add_option("--run-hours", o->run_hours, "Length of the run, hours");
  c->add_option("--deadline", o->deadline, "Hours until it must have ended (default: all)");
  c->add_flag("--chunks", o->chunks, "The run can be cut into hours at checkpoints");
  c->add_flag("--json", o->as_json, "Result as JSON");
  c->callback([o] { run(*o); });
}

}  // namespace wattle::cli
