// The lesson as one HTML page without any other file: step forward and back through the graph.
#pragma once
#include <string>
#include <string_view>

#include "tools/explain_trace.h"

namespace wattle::cli::explain {

/// The page; "#step=N" opens it at step N.
std::string page_html(const Lesson& lesson);
/// Its data.
std::string page_json(const Lesson& lesson);

extern const std::string_view page_style;    ///< explain_style.cpp
extern const std::string_view page_script;   ///< explain_script.cpp: steps, tables, panel, keys
extern const std::string_view stage_script;  ///< explain_stages.cpp: what a step shows
extern const std::string_view graph_script;  ///< explain_graph.cpp: layout and drawing of the graph
extern const std::string_view work_script;   ///< explain_work.cpp: one result worked by hand

}  // namespace wattle::cli::explain
