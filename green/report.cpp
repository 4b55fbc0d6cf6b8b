#include "green/report.h"

#include <cmath>

#include "core/error.h"
#include "energy/carbon.h"
#include "green/report_parts.h"
#include "green/report_text.h"

namespace wattle::green {
namespace report {
namespace {

std::string row(const std::string& key, const std::string& value) {
  return str("<tr><th scope=\"row\" class=\"l\">", key, "</th><td class=\"l wrap\">",
             escape_html(value.empty() ? "-" : value), "</td></tr>\n");
}

std::string list(const std::vector<std::string>& items) {
  std::string out = "<ul>\n";
  for (const std::string& s : items) out += str("<li>", escape_html(s), "</li>\n");
  return out + "</ul>\n";
}

// Grams of the whole study, where the region is known.
std::string carbon_text(const Analysis& a) {
  const std::string& region = a.study->settings.region;
  if (region.empty() || !a.total_energy.available()) return "";
  return "<br>" +
         escape_html(energy::operational(a.total_energy, energy::intensity_of(region)).str());
}

// What the joules are, in one paragraph that depends on their kind.
std::string joule_paragraph(const Analysis& a) {
  const std::string origin = escape_html(energy_origin(a));
  switch (a.total_energy.kind) {
    case JouleKind::unavailable:
      return "<p><b>Joules: not available.</b> No meter could be read and no table covers every "
             "operation. No figure is shown in their place.</p>\n";
    case JouleKind::measured:
    case JouleKind::attributed:
      return str("<p><b>Joules: ", origin,
                 ".</b> Totals come from a hardware counter; the shares "
                 "of layers are handed out by a model so that they add up to it.</p>\n");
    case JouleKind::tdp_estimate:
    case JouleKind::ratio:
      return str("<p><b>Joules: ", origin,
                 ".</b> No meter was read. Errors of 50\u00a0% and more "
                 "are common; do not compare with measured figures.</p>\n");
    case JouleKind::modelled_calibrated:
      return str(
          "<p><b>Modelled: joules (", origin,
          ").</b> No meter was read. Idle power, joules per operation and joules per byte come "
          "from a calibration of this host; \u00b1 is the uncertainty of that fit.</p>\n");
    case JouleKind::modelled_table: break;
  }
  return str("<p><b>Modelled: joules (", origin,
             ").</b> No meter was read. Each operation and byte "
             "is multiplied by an energy from a published table. That covers the arithmetic units "
             "and DRAM only: instruction handling, caches, leakage and the idle machine are "
             "missing, so a wall meter would show more. \u00b1 is the uncertainty of the table. It "
             "is shared by all nets, so ratios between nets are better known than the "
             "figures themselves; it is not the spread of repeats, which is zero, because a repeat "
             "does the same work.</p>\n");
}

// First line of the report: nobody may take a model's joules for a meter's.
std::string joule_line(const StudySettings& settings) {
  if (settings.energy_sentence.empty()) return "";
  return str("<p class=\"sub\">", escape_html(settings.energy_sentence), "</p>\n");
}

std::string oddities(const StudySettings& s) {
  if (s.oddities.empty()) return "";
  return str(
      "<div class=\"box warn\"><h3>Oddities of the published protocol, reproduced here</h3>\n",
      "<p>This study ran with <code>--protocol ", escape_html(s.protocol),
      "</code>. It repeats what the original did, also where that is doubtful:</p>\n",
      list(s.oddities), "</div>\n");
}

std::string warnings(const Analysis& a) {
  std::vector<std::string> w;
  int diverged = 0;
  size_t missing = 0;
  for (const NetSummary& n : a.nets) diverged += n.diverged;
  if (diverged)
    w.push_back(str(diverged, diverged == 1 ? " run" : " runs", " diverged and ",
                    diverged == 1 ? "is" : "are", " left out of all means."));
  const StudySettings& s = a.study->settings;
  for (const NetKey& k : s.nets) {
    for (const uint64_t seed : s.seeds) missing += !has_run(*a.study, k, seed);
  }
  if (missing) {
    w.push_back(str("The study is not complete: ", missing, " of ", s.nets.size() * s.seeds.size(),
                    " runs are missing. Start it again with the same --out to continue."));
  }
  bool single = !a.nets.empty();
  for (const NetSummary& n : a.nets) single = single && n.runs <= 1;
  if (single) {
    w.push_back(
        "One run per net: there is no spread to judge differences by. Accuracy differences "
        "of a point or less may be chance.");
  }
  for (const std::string& b : a.broken_sums) w.push_back("Sums do not match. " + b + ".");
  for (const std::string& n : s.notes) w.push_back(n);
  return w.empty() ? ""
                   : str("<div class=\"box warn\"><h3>Read this first</h3>\n", list(w), "</div>\n");
}

std::string headline(const Analysis& a) {
  const std::vector<std::string> items = findings(a);
  if (items.empty()) return "<p>Too few finished runs for a finding.</p>\n";
  std::string out = "<ol class=\"findings\">\n";
  for (const std::string& s : items) out += str("<li>", s, "</li>\n");
  return out + "</ol>\n";
}

std::string subtitle(const Analysis& a) {
  const StudySettings& s = a.study->settings;
  return str("<p class=\"sub\">", escape_html(dataset_title(s.dataset)), " \u00b7 ",
             escape_html(s.protocol), " protocol \u00b7 ", a.nets.size(),
             a.nets.size() == 1 ? " net, " : " nets, ", a.study->runs.size(),
             a.study->runs.size() == 1 ? " run" : " runs", " of ", s.epochs,
             s.epochs == 1 ? " epoch" : " epochs", " \u00b7 ", escape_html(s.date.substr(0, 10)),
             "<br>", "Whole study: ", duration(a.total_seconds), " of training (measured), ",
             a.total_energy.available() ? str(joules_text(a.total_energy), " \u00b1 ",
                                              si(a.total_energy.sd_joules(), "J", 2), " (",
                                              escape_html(energy_origin(a)), ")")
                                        : std::string("joules not available"),
             carbon_text(a), "</p>\n");
}

std::string section(const std::string& title, const std::string& intro, const std::string& body) {
  return str("<h2>", title, "</h2>\n", intro.empty() ? "" : str("<p>", intro, "</p>\n"), body);
}

}  // namespace

std::string provenance(const Analysis& a) {
  std::string sums;
  if (!a.study->layers.empty() && a.broken_sums.empty()) {
    sums =
        " The rows of the layers add up to the totals of the runs exactly: FLOPs, bytes and "
        "microjoules.";
  }
  return str(
      "<div class=\"box\"><h2>What is measured and what is modelled</h2>\n",
      "<p><b>Measured: accuracy, loss, time.</b> Wall-clock seconds on the machine named "
      "below, runs interleaved over seeds; they depend on that machine and on what else "
      "it did.</p>\n<p><b>Counted exactly: FLOPs, bytes, calls.</b> Every operation declares "
      "what it does; a MAC is 2 FLOPs. Bytes are unique bytes: each stored element read or "
      "written once per call, whatever caches do.",
      sums, "</p>\n", joule_paragraph(a), "</div>\n");
}

std::string settings_table(const Analysis& a) {
  const StudySettings& s = a.study->settings;
  std::string seeds;
  for (const uint64_t seed : s.seeds) seeds += str(seeds.empty() ? "" : ", ", seed);
  return str("<div class=\"scroll\"><table><tbody>\n", row("Data set", s.dataset),
             row("Training / test images", str(s.rows, " / ", s.test_rows)),
             row("Protocol", s.protocol), row("Epochs, batch", str(s.epochs, ", ", s.batch)),
             row("Optimiser, learning rate",
                 str(s.optimizer, ", ", std::isfinite(s.lr) ? str(s.lr) : std::string("-"))),
             row("Seeds", seeds), row("Energy source", s.energy_source), row("Processor", s.cpu),
             s.device == "cpu" ? std::string() : row("Device", s.device),
             row("Instruction set, threads", str(s.simd, ", ", s.threads)), row("Date", s.date),
             row("Version", s.version), "</tbody></table></div>\n");
}

}  // namespace report

std::string study_report_html(const StudyResult& s) {
  using namespace report;
  const Analysis a = analyse(s);
  const std::string title =
      str("What each layer costs: ", escape_html(dataset_title(s.settings.dataset)));
  std::string out = str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
                        "<title>", title, "</title>\n<style>", css, "</style>\n</head>\n<body>\n",
                        "<main>\n", joule_line(s.settings), "<h1>", title, "</h1>\n");
  out += subtitle(a) + warnings(a) + headline(a) + provenance(a) + oddities(s.settings);
  out += section("Cost by layer type",
                 "FLOPs, time and joules of one run, side by side. Where the three disagree, FLOPs "
                 "mislead.",
                 cost_by_layer(a));
  out += section("Accuracy against cost",
                 "Better is up and to the left. Vertical bars: standard deviation over seeds.",
                 accuracy_against_cost(a));
  out += section("What each factor costs", "", factor_table(a));
  out += section("Cost by phase", "", cost_by_phase(a));
  out += learning_curves(a);
  out += section("Analysis of variance", "The 2 \u00d7 2 \u00d7 2 design of the CNNs.",
                 anova_tables(a));
  out +=
      section("How well FLOPs, bytes, time and joules predict each other", "", predictor_table(a));
  out += section("All nets",
                 str("Means per run; bold: on the Pareto front of accuracy and joules (",
                     escape_html(energy_origin(a)), "). Click a heading to sort."),
                 net_table(a));
  out += section("All runs", str("Joules: ", escape_html(energy_origin(a)), "."), runs_table(a));
  out += section("Layers", "Per run, mean over the runs of a net.", layer_tables(a));
  out += section("Settings", "", settings_table(a));
  return out + str("<footer>Data: runs.csv, layers.csv and study.json beside this file. wattle ",
                   escape_html(s.settings.version), "</footer>\n</main>\n<script>", sort_script,
                   "</script>\n</body>\n</html>\n");
}

}  // namespace wattle::green
