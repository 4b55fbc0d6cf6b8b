// report.html of one experiment.
#pragma once
#include <string>

#include "green/experiment_analysis.h"

namespace wattle::green {

/// One self-contained page (no network, inline SVG, light and dark). Its first line says where the
/// joules come from; then what was found, warnings, and for each quantity the distributions, the
/// variants, the pairs and the order of running; last the protocol. Copes with unfinished
/// experiments, unavailable joules and refused comparisons: what cannot be computed is said.
std::string experiment_report_html(const Experiment& e, const ExperimentAnalysis& a);

}  // namespace wattle::green
