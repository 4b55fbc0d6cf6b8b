// Figures as a Prometheus text file, for the node exporter's textfile collector.
#pragma once
#include <string>

#include "green/ledger.h"

namespace wattle::green {

/// Text exposition format: wattle_energy_joules_total{layer,phase,kind,source}, wattle_flops_total,
/// wattle_bytes_total and wattle_seconds_total{layer,phase}, wattle_steps_total. Counters since the
/// training began; unavailable joules have no line. `job` becomes a label of every line.
std::string prometheus_text(const Ledger& ledger, int64_t steps, const std::string& job);

}  // namespace wattle::green
