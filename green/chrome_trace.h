// A training step as Chrome and Perfetto show it (chrome://tracing, ui.perfetto.dev): every op call
// with FLOP, bytes and microjoules, inside its layer, inside its phase.
#pragma once
#include <string>
#include <vector>

#include "core/counters.h"
#include "energy/gpu_watch.h"
#include "green/row_joules.h"

namespace wattle::green {

/// Records the calls of this thread while it lives.
class Timeline {
 public:
  Timeline();
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;
  const std::vector<TimedCall>& calls() const { return calls_; }
  int64_t begin_ns() const { return begin_ns_; }

 private:
  std::vector<TimedCall> calls_;
  std::vector<TimedCall>* outer_;
  int64_t begin_ns_;
};

/// Trace in the JSON object format: X events with ts and dur in microseconds, nested exactly. An
/// op's args hold flop, bytes, uj (integer) and kind; their uj, and those of the event
/// "(unattributed)" where there is one, sum to otherData.total_uj. `title` names the process. Scope
/// names are those of this thread's counters. Samples of a GPU become counters (C events) for its
/// power, clocks and temperature; one from before the trace stands at its start.
std::string chrome_trace_json(const std::vector<TimedCall>& calls, int64_t begin_ns,
                              const JouleBasis& basis, const std::string& title,
                              const std::vector<energy::GpuSample>& gpu = {});

}  // namespace wattle::green
