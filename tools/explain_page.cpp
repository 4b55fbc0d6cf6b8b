#include "tools/explain_page.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "energy/table_model.h"
#include "tools/explain_text.h"

namespace wattle::cli::explain {
namespace {

using json = nlohmann::ordered_json;

// Seven digits are all that f32 has; null where there is no number.
json numbers(const std::vector<double>& v, const char* format = "%.7g") {
  json out = json::array();
  for (const double x : v) {
    char buf[32];
    std::snprintf(buf, sizeof buf, format, x);
    out.push_back(std::isfinite(x) ? json(std::strtod(buf, nullptr)) : json());
  }
  return out;
}

json to_json(const Value& v) {
  if (!v.present) return {};
  json shape = json::array();
  for (const int64_t n : v.shape) shape.push_back(n);
  return {{"name", v.name}, {"role", v.role},   {"saved", v.saved},
          {"shape", shape}, {"dtype", v.dtype}, {"v", numbers(v.v)}};
}

json to_json(const Values& vs) {
  json out = json::array();
  for (const Value& v : vs) out.push_back(to_json(v));
  return out;
}

json to_json(const Line& l) {
  json attrs = json::object();
  for (const AttrText& a : l.attrs) attrs[a.name] = a.text;
  return {{"n", l.number},
          {"op", l.op->name},
          {"equation", l.op->equation},
          {"about", about(*l.op)},
          {"derivative", derivative(*l.op)},
          {"source", source(*l.op)},
          {"view", l.op->is_view},
          {"attrs", attrs},
          {"in", to_json(l.in)},
          {"out", to_json(l.out)},
          {"kernel", l.kernel},
          {"layer", l.layer},
          {"flops", l.cost.flops()},
          {"executed_flops", l.executed.flops()},
          {"mac", l.cost.mac},
          {"read", l.cost.read},
          {"written", l.cost.written},
          {"ns", l.ns},
          {"nj", l.fj * 1e-6},
          {"memory_nj", l.memory_fj * 1e-6}};
}

json to_json(const std::vector<Line>& lines) {
  json out = json::array();
  for (const Line& l : lines) out.push_back(to_json(l));
  return out;
}

json to_json(const Back& b) {
  return {{"line", b.line},
          {"grad_out", to_json(b.grad_out)},
          {"grad_in", to_json(b.grad_in)},
          {"calls", to_json(b.calls)}};
}

json lesson_json(const Lesson& l) {
  const Settings& s = l.settings;
  json j{{"net", l.net},
         {"settings",
          {{"steps", s.steps},
           {"at", s.at},
           {"optimizer", s.optimizer},
           {"lr", s.lr},
           {"seed", s.seed}}},
         {"energy_kind", "modelled_table"},
         {"energy_source", energy::horowitz45().name},
         {"energy_title", energy::horowitz45().title}};
  j["forward"] = to_json(l.trace.forward);
  j["backward"] = json::array();
  for (const Back& b : l.trace.backward) j["backward"].push_back(to_json(b));
  j["optimizer"] = to_json(l.trace.optimizer);
  j["losses"] = numbers(l.losses);
  j["loss_after_step"] = l.loss_after_step;
  j["loss_end"] = l.loss_end;
  j["x"] = to_json(l.x);
  j["target"] = to_json(l.target);
  j["first"] = to_json(l.first);
  j["last"] = to_json(l.last);
  j["map"] = {{"side", l.grid},
              {"first", numbers(l.map_first, "%.3g")},
              {"last", numbers(l.map_last, "%.3g")}};
  j["counters_agree"] = l.counters_agree;
  return j;
}

// Inside <script> a "</script" or "<!--" in a text would end it: no '<' is left.
std::string embedded(std::string text) {
  for (size_t at = 0; (at = text.find('<', at)) != text.npos; at += 6)
    text.replace(at, 1, "\\u003c");
  return text;
}

constexpr std::string_view body = R"html(</h1><p id="subtitle"></p></div>
<nav aria-label="Steps"><button id="first" title="First step (Home)">&#8676;</button>
<button id="back" title="Step back (left arrow)">&larr; Back</button>
<span id="counter" aria-live="polite"></span>
<button id="next" title="Step forward (right arrow)">Next &rarr;</button>
<button id="last" title="Last step (End)">&#8677;</button></nav></header>
<div id="timeline" role="tablist" aria-label="All steps"></div>
<div id="graph"></div>
<main><section id="stage" aria-live="polite"></section><aside id="panel"></aside></main>
<footer id="foot"></footer>
<noscript>This page needs JavaScript to step through it.</noscript>
)html";

}  // namespace

std::string page_json(const Lesson& lesson) { return lesson_json(lesson).dump(); }

std::string page_of(std::string_view title, std::string_view heading, const std::string& data,
                    std::initializer_list<std::string_view> scripts) {
  std::string all;
  for (const std::string_view s : scripts) all += s;
  return str(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
      title, "</title>\n<style>", page_style, "</style></head>\n<body>\n<header><div><h1>", heading,
      body, "<script type=\"application/json\" id=\"data\">", embedded(data),
      "</script>\n<script>\n'use strict';\n"
      "const D = JSON.parse(document.getElementById('data').textContent);\n",
      basics_script, all, walk_script, "</script></body></html>\n");
}

std::string page_html(const Lesson& lesson) {
  return page_of(
      "Wattle: one training step, line by line", "One training step, line by line",
      page_json(lesson),
      {"const lines = D.forward;\n", work_script, graph_script, page_script, stage_script});
}

}  // namespace wattle::cli::explain
