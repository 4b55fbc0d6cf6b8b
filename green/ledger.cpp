#include "green/ledger.h"

#include <cmath>

#include "core/dtype.h"

namespace wattle::green {
namespace {

void collect(const nn::Module& m, const std::string& prefix, Kinds& kinds) {
  for (const auto& c : m.children()) {
    kinds[prefix + c.name] = c.module->kind();
    collect(*c.module, prefix + c.name + ".", kinds);
  }
}

// A table row is needed for arithmetic only; counts of an unknown dtype make the sum unavailable.
struct Energy {
  energy::int128 fj = 0;
  double sd_fj = 0;
  bool available = true;
  void add(const energy::Femtojoules& f) {
    fj += f.fj;
    sd_fj += f.sd_fj;  // one table, one error: correlated
    available = available && f.available;
  }
};

}  // namespace

Kinds module_kinds(const nn::Module& net) {
  Kinds kinds;
  collect(net, "", kinds);
  return kinds;
}

energy::Femtojoules row_energy(const Row& row, const energy::Table& table) {
  Cost c = row.executed;
  c.read = row.cost.read;
  c.written = row.cost.written;
  return energy::femtojoules_of(c, name(row.key.dtype), table);
}

Ledger make_ledger(const Counters& counters, const Kinds& kinds, const energy::Table& table) {
  Ledger out;
  std::vector<Energy> energies;
  Energy total;
  std::map<std::pair<std::string, Phase>, size_t> index;
  for (const Row& r : counters.rows()) {
    const std::string layer = counters.path(r.key.scope);
    auto [it, fresh] = index.try_emplace({layer, r.key.phase}, out.rows.size());
    if (fresh) {
      const auto kind = kinds.find(layer);
      out.rows.push_back({.layer = layer,
                          .kind = kind == kinds.end() ? layer : kind->second,
                          .phase = r.key.phase});
      energies.push_back({});
    }
    LedgerRow& row = out.rows[it->second];
    row.calls += r.calls;
    row.cost += r.cost;
    row.executed += r.executed;
    row.ns += r.ns;
    const energy::Femtojoules f = row_energy(r, table);
    energies[it->second].add(f);
    total.add(f);
    out.calls += r.calls;
    out.cost += r.cost;
    out.executed += r.executed;
    out.ns += r.ns;
  }
  auto joules = [&](int64_t uj, const Energy& e) {
    return e.available ? Joules{uj, e.sd_fj * 1e-9, JouleKind::modelled_table, table.name}
                       : Joules{};
  };
  out.joules = joules(energy::microjoules(total.fj), total);
  std::vector<energy::int128> weights;
  for (const Energy& e : energies) weights.push_back(e.fj);
  if (weights.empty()) return out;
  const auto parts = energy::largest_remainder(weights, energy::microjoules(total.fj));
  for (size_t i = 0; i < parts.size(); ++i) out.rows[i].joules = joules(parts[i], energies[i]);
  return out;
}

}  // namespace wattle::green
