// The lesson as one HTML page without any other file: step forward and back through the graph.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>

#include "tools/explain_trace.h"

namespace wattle::cli::explain {

/// The page; "#step=N" opens it at step N.
std::string page_html(const Lesson& lesson);
/// Its data.
std::string page_json(const Lesson& lesson);

/// A page that is walked through: `data` (JSON) is its D, `scripts` bring its steps.
std::string page_of(std::string_view title, std::string_view heading, const std::string& data,
                    std::initializer_list<std::string_view> scripts);

extern const std::string_view basics_script;  ///< explain_walk.cpp: elements and numbers
extern const std::string_view walk_script;    ///< explain_walk.cpp: step by step, by keys or clicks
extern const std::string_view page_style;     ///< explain_style.cpp
extern const std::string_view page_script;    ///< explain_script.cpp: steps, tables, panel
extern const std::string_view stage_script;   ///< explain_stages.cpp: what a step shows
extern const std::string_view graph_script;  ///< explain_graph.cpp: layout and drawing of the graph
extern const std::string_view work_script;   ///< explain_work.cpp: one result worked by hand

}  // namespace wattle::cli::explain
