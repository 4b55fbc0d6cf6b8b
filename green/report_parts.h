// Sections of report.html; each returns HTML.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "green/report_analysis.h"

namespace wattle::green::report {

extern const std::string_view css, sort_script;

/// Where the joules come from: "modelled, table horowitz45".
std::string energy_origin(const Analysis& a);

/// The headline sentences, each a complete HTML fragment.
std::vector<std::string> findings(const Analysis& a);

std::string cost_by_layer(const Analysis& a);
std::string cost_by_phase(const Analysis& a);
std::string accuracy_against_cost(const Analysis& a);
std::string learning_curves(const Analysis& a);

std::string factor_table(const Analysis& a);
std::string anova_tables(const Analysis& a);
std::string predictor_table(const Analysis& a);
std::string net_table(const Analysis& a);
std::string runs_table(const Analysis& a);
std::string layer_tables(const Analysis& a);
std::string provenance(const Analysis& a);
std::string settings_table(const Analysis& a);

}  // namespace wattle::green::report
