#include "green/chrome_trace.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/op.h"

namespace wattle::green {
namespace {

using json = nlohmann::ordered_json;

// Of one call, relative to the start of the trace.
struct Place {
  int64_t begin = 0, end = 0;
};

// Nanoseconds as microseconds with three decimals; the text of a double that is the same for the
// same nanosecond, so that nesting survives.
double us(int64_t ns) { return static_cast<double>(ns) / 1000; }

std::vector<Place> places(const std::vector<TimedCall>& calls, int64_t begin_ns) {
  std::vector<Place> out;
  int64_t last = 0;
  for (const TimedCall& c : calls) {
    const int64_t end = std::max(last, c.end_ns - begin_ns);
    const auto length = c.here ? static_cast<int64_t>(c.ns) : 0;
    out.push_back({std::max(last, end - length), end});
    last = end;
  }
  return out;
}

json x_event(const std::string& name, const char* category, const Place& p, json args) {
  return {{"name", name},
          {"cat", category},
          {"ph", "X"},
          {"pid", 1},
          {"tid", 1},
          {"ts", us(p.begin)},
          {"dur", us(p.end - p.begin)},
          {"args", std::move(args)}};
}

void add_samples(const std::vector<energy::GpuSample>& gpu, int64_t begin_ns, json& events) {
  for (const energy::GpuSample& s : gpu) {
    const auto add = [&](const char* name,
                         std::initializer_list<std::pair<const char*, double>> of) {
      json args = json::object();
      for (const auto& [series, value] : of)
        if (std::isfinite(value)) args[series] = value;
      if (args.empty()) return;
      events.push_back({{"name", name},
                        {"ph", "C"},
                        {"pid", 1},
                        {"tid", 1},
                        {"ts", us(std::max<int64_t>(0, s.ns - begin_ns))},
                        {"args", args}});
    };
    add("GPU power", {{"W", s.watts}});
    add("GPU clocks", {{"SM MHz", s.sm_mhz}, {"memory MHz", s.memory_mhz}});
    add("GPU temperature", {{"C", s.celsius}});
  }
}

json named(const char* what, const std::string& name) {
  return {{"name", what}, {"ph", "M"}, {"pid", 1}, {"tid", 1}, {"args", {{"name", name}}}};
}

std::vector<Row> rows_of(const std::vector<TimedCall>& calls) {
  std::vector<Row> rows;
  for (const TimedCall& c : calls) rows.push_back({c.key, 1, c.cost, c.executed, c.ns});
  return rows;
}

// Events around runs of neighbours for which `same` holds.
template <class Same, class Name>
void add_groups(const std::vector<TimedCall>& calls, const std::vector<Place>& at,
                const char* category, Same same, Name name_of, json& events) {
  for (size_t i = 0; i < calls.size();) {
    size_t j = i + 1;
    while (j < calls.size() && same(calls[i], calls[j])) ++j;
    if (const std::string name = name_of(calls[i]); !name.empty())
      events.push_back(x_event(name, category, {at[i].begin, at[j - 1].end}, json::object()));
    i = j;
  }
}

json op_args(const TimedCall& c, const Joules& j) {
  return {{"kernel", c.key.kernel},
          {"dtype", std::string(name(c.key.dtype))},
          {"layer", counters().path(c.key.scope)},
          {"phase", std::string(name(c.key.phase))},
          {"flop", c.cost.flops()},
          {"flop_weighted", c.cost.flops_weighted()},
          {"bytes", c.cost.bytes()},
          {"uj", j.available() ? json(j.uj) : json()},
          {"sd_uj", j.available() ? json(j.sd_uj) : json()},
          {"kind", std::string(energy::name(j.kind))}};
}

}  // namespace

Timeline::Timeline()
    : outer_(counters().timeline),
      begin_ns_(std::chrono::duration_cast<std::chrono::nanoseconds>(
                    std::chrono::steady_clock::now().time_since_epoch())
                    .count()) {
  counters().timeline = &calls_;
}
Timeline::~Timeline() { counters().timeline = outer_; }

std::string chrome_trace_json(const std::vector<TimedCall>& calls, int64_t begin_ns,
                              const JouleBasis& basis, const std::string& title,
                              const std::vector<energy::GpuSample>& gpu) {
  const std::vector<Row> rows = rows_of(calls);
  const RowJoules joules = joules_of_rows(rows, basis);
  const std::vector<Place> at = places(calls, begin_ns);
  json events = json::array({named("process_name", title), named("thread_name", "ops")});
  const auto same_phase = [](const TimedCall& a, const TimedCall& b) {
    return a.key.phase == b.key.phase;
  };
  add_groups(
      calls, at, "phase", same_phase,
      [](const TimedCall& c) { return std::string(name(c.key.phase)); }, events);
  add_groups(
      calls, at, "layer",
      [&](const TimedCall& a, const TimedCall& b) {
        return same_phase(a, b) && a.key.scope == b.key.scope;
      },
      [](const TimedCall& c) { return counters().path(c.key.scope); }, events);
  for (size_t i = 0; i < calls.size(); ++i)
    events.push_back(
        x_event(calls[i].key.op->name, "op", at[i], op_args(calls[i], joules.rows[i])));
  if (joules.unattributed.available()) {
    const int64_t end = at.empty() ? 0 : at.back().end;
    events.push_back(x_event("(unattributed)", "op", {end, end},
                             {{"uj", joules.unattributed.uj},
                              {"kind", std::string(energy::name(joules.unattributed.kind))}}));
  }
  add_samples(gpu, begin_ns, events);
  const json out{{"traceEvents", events},
                 {"displayTimeUnit", "ms"},
                 {"otherData",
                  {{"total_uj", joules.total.available() ? json(joules.total.uj) : json()},
                   {"kind", std::string(energy::name(joules.total.kind))},
                   {"source", joules.total.source}}}};
  return out.dump(1) + "\n";
}

}  // namespace wattle::green
