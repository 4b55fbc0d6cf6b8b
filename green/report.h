// report.html of the layer-cost study.
#pragma once
#include <string>

#include "green/study_data.h"

namespace wattle::green {

/// One self-contained page (no network, inline SVG, light and dark): findings in sentences, cost by
/// layer type and phase, accuracy against joules with the Pareto front, ANOVA, how well FLOPs,
/// bytes, time and joules predict each other, and every run and layer as a table. Every energy
/// stands with its kind. Copes with one seed, missing nets, diverged runs and unavailable joules:
/// what cannot be computed is said, never printed as nan.
std::string study_report_html(const StudyResult& s);

}  // namespace wattle::green
