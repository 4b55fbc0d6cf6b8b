#include "green/row_joules.h"

#include <cmath>
#include <limits>

#include "core/op.h"

namespace wattle::green {
namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

// Where the data decide what is touched (routing, spikes), the bytes are those that the kernel
// reported.
Cost paid(const Row& row) {
  Cost c = row.executed;
  if (row.key.op->data_dependent && !is_coded(row.key.dtype)) return c;
  if (row.key.dtype == DType::spike && row.key.kernel == std::string_view("event")) return c;
  c.read = row.cost.read;
  c.written = row.cost.written;
  return c;
}

energy::Work work_of_row(const Row& r) {
  const DType t = is_coded(r.key.dtype) ? info(r.key.dtype).computes_in : r.key.dtype;
  return energy::work_of(paid(r), std::string(name(t)), r.ns * 1e-9);
}

// Work beside idle power, as the basis models it; false where the model lacks a dtype.
bool loads_by_calibration(std::span<const Row> rows, const energy::HostModel& m,
                          std::vector<energy::Load>& out) {
  for (const Row& r : rows) {
    const energy::Work w = work_of_row(r);
    const Joules d = m.predict_dynamic(w);
    if (!d.available()) return false;
    out.push_back({w.seconds, d.joules(), m.predict(w).sd_joules()});
  }
  return true;
}

bool loads_by_table(std::span<const Row> rows, const energy::Table& t,
                    std::vector<energy::Load>& out) {
  for (const Row& r : rows) {
    const energy::Femtojoules f = row_energy(r, t);
    if (!f.available) return false;
    out.push_back({r.ns * 1e-9, static_cast<double>(f.fj) * 1e-15, f.sd_fj * 1e-15});
  }
  return true;
}

RowJoules measured(std::span<const Row> rows, const JouleBasis& b) {
  std::vector<energy::Load> loads;
  energy::WindowEnergy w{b.window->gross, b.window->seconds, b.idle.known ? b.idle.watts : 0,
                         b.idle.known ? b.idle.sd_watts : 0};
  bool modelled = b.calibrated && loads_by_calibration(rows, *b.calibrated, loads);
  if (modelled) {
    w.idle_watts = b.calibrated->idle_watts();
    w.sd_idle_watts = b.calibrated->sd_idle_watts();
  } else {
    loads.clear();
    modelled = loads_by_table(rows, *b.table, loads);
  }
  RowJoules out;
  if (!modelled) {  // nothing to share by: the total stands, its parts are not known
    out.rows.resize(rows.size());
    out.total = out.unattributed = b.window->gross;
    out.kappa = nan_value;
    out.warning = "no model covers every operation: nothing is shared out";
    return out;
  }
  energy::Attribution a = energy::attribute(w, loads);
  out.rows = std::move(a.items);
  out.unattributed = a.unattributed;
  out.total = b.window->gross;
  out.kappa = a.kappa;
  out.warning = a.warning;
  return out;
}

RowJoules calibrated(std::span<const Row> rows, const energy::HostModel& m) {
  RowJoules out;
  out.kappa = nan_value;
  energy::Work all;
  std::vector<double> weights;
  for (const Row& r : rows) {
    const energy::Work w = work_of_row(r);
    all += w;
    out.rows.push_back(m.predict(w));
    if (!out.rows.back().available()) return {};
    weights.push_back(out.rows.back().joules());
  }
  out.total = m.predict(all);
  const std::vector<int64_t> uj = energy::largest_remainder(weights, out.total.uj);
  for (size_t i = 0; i < uj.size(); ++i) out.rows[i].uj = uj[i];
  return out;
}

RowJoules by_table(std::span<const Row> rows, const energy::Table& t) {
  RowJoules out;
  out.kappa = nan_value;
  std::vector<energy::int128> weights;
  energy::int128 fj = 0;
  double sd = 0;
  for (const Row& r : rows) {
    const energy::Femtojoules f = row_energy(r, t);
    if (!f.available) {
      out.rows.assign(rows.size(), {});
      return out;
    }
    fj += f.fj;
    sd += f.sd_fj;  // one table, one error: correlated
    weights.push_back(f.fj);
    out.rows.push_back({0, f.sd_fj * 1e-9, JouleKind::modelled_table, t.name});
  }
  out.total = {energy::microjoules(fj), sd * 1e-9, JouleKind::modelled_table, t.name};
  if (weights.empty()) return out;
  const std::vector<int64_t> uj = energy::largest_remainder(weights, out.total.uj);
  for (size_t i = 0; i < uj.size(); ++i) out.rows[i].uj = uj[i];
  return out;
}

}  // namespace

energy::Femtojoules energy_of(const Cost& cost, DType dtype, const energy::Table& table) {
  if (!is_coded(dtype)) return energy::femtojoules_of(cost, name(dtype), table);
  Cost floats = cost;
  floats.iop = 0;
  energy::Femtojoules f = energy::femtojoules_of(floats, name(info(dtype).computes_in), table);
  const energy::Femtojoules codecs =
      energy::femtojoules_of({.cmp = cost.iop}, name(DType::i32), table);
  f.fj += codecs.fj;
  f.sd_fj += codecs.sd_fj;  // one table, one error: correlated
  f.available = f.available && codecs.available;
  return f;
}

energy::Femtojoules row_energy(const Row& row, const energy::Table& table) {
  return energy_of(paid(row), row.key.dtype, table);
}

RowJoules joules_of_rows(std::span<const Row> rows, const JouleBasis& b) {
  if (b.window && b.window->gross.available() && !rows.empty()) return measured(rows, b);
  if (b.calibrated) {
    RowJoules out = calibrated(rows, *b.calibrated);
    if (out.total.available()) return out;
  }
  return by_table(rows, *b.table);
}

std::vector<OpJoules> joules_per_op(const Counters& c, const RowJoules& j) {
  std::vector<OpJoules> out;
  for (size_t i = 0; i < c.rows().size(); ++i) {
    const RowKey& k = c.rows()[i].key;
    size_t at = 0;
    while (at < out.size() && (out[at].op != k.op->name || out[at].phase != k.phase)) ++at;
    if (at == out.size()) out.push_back({k.op->name, k.phase, j.rows[i]});
    else out[at].joules = energy::sum({out[at].joules, j.rows[i]});
  }
  return out;
}

}  // namespace wattle::green
