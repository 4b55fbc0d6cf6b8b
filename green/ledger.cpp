#include "green/ledger.h"

#include <map>

namespace wattle::green {
namespace {

void collect(const nn::Module& m, const std::string& prefix, Kinds& kinds) {
  for (const auto& c : m.children()) {
    kinds[prefix + c.name] = c.module->kind();
    collect(*c.module, prefix + c.name + ".", kinds);
  }
}

void add(LedgerRow& to, const Row& r, const Joules& j, bool first) {
  to.calls += r.calls;
  to.cost += r.cost;
  to.executed += r.executed;
  to.ns += r.ns;
  to.joules = first ? j : energy::sum({to.joules, j});
}

}  // namespace

Kinds module_kinds(const nn::Module& net) {
  Kinds kinds;
  collect(net, "", kinds);
  return kinds;
}

Ledger make_ledger(const Counters& counters, const Kinds& kinds, const JouleBasis& basis) {
  Ledger out;
  const RowJoules joules = joules_of_rows(counters.rows(), basis);
  std::map<std::pair<std::string, Phase>, size_t> index;
  for (size_t i = 0; i < counters.rows().size(); ++i) {
    const Row& r = counters.rows()[i];
    const std::string layer = counters.path(r.key.scope);
    auto [it, fresh] = index.try_emplace({layer, r.key.phase}, out.rows.size());
    if (fresh) {
      const auto kind = kinds.find(layer);
      out.rows.push_back({.layer = layer,
                          .kind = kind == kinds.end() ? layer : kind->second,
                          .phase = r.key.phase});
    }
    add(out.rows[it->second], r, joules.rows[i], fresh);
    out.calls += r.calls;
    out.cost += r.cost;
    out.executed += r.executed;
    out.ns += r.ns;
  }
  if (joules.unattributed.available())
    out.rows.push_back({.layer = unattributed_row,
                        .kind = unattributed_row,
                        .phase = Phase::data,
                        .joules = joules.unattributed});
  out.ops = joules_per_op(counters, joules);
  out.joules = joules.total;
  out.kappa = joules.kappa;
  out.warning = joules.warning;
  if (basis.window) {
    out.idle = basis.window->idle;
    out.net = basis.window->net;
  }
  return out;
}

Ledger make_ledger(const Counters& counters, const Kinds& kinds, const energy::Table& table) {
  return make_ledger(counters, kinds, JouleBasis{&table});
}

}  // namespace wattle::green
