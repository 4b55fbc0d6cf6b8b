#include "core/counters.h"

#include <atomic>
#include <chrono>

namespace wattle {

std::string_view name(Phase p) {
  switch (p) {
    case Phase::forward: return "forward";
    case Phase::backward: return "backward";
    case Phase::optimizer: return "optimizer";
    case Phase::data: return "data";
  }
  return "?";
}

size_t Counters::KeyHash::operator()(const RowKey& k) const {
  uint64_t h = reinterpret_cast<uintptr_t>(k.op) >> 4;
  h = h * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(k.scope);
  h = h * 0x9E3779B97F4A7C15u +
      (reinterpret_cast<uintptr_t>(k.kernel) ^
       (static_cast<uint64_t>(k.dtype) << 8 | static_cast<uint64_t>(k.phase)));
  return h * 0x9E3779B97F4A7C15u >> 7;
}

namespace {
int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}
}  // namespace

namespace {
std::atomic<void (*)()> late = nullptr;
}  // namespace
void LateCounts::collect() {
  if (const auto source = late.load(std::memory_order_acquire)) source();
}
void LateCounts::set_source(void (*source)()) { late.store(source, std::memory_order_release); }

Counters::Counters() { scopes_.push_back({}); }

void Counters::add(const RowKey& key, const Cost& cost, const Cost& executed, double ns,
                   const CastStats& rounding) {
  auto [it, fresh] = index_.try_emplace(key, rows_.size());
  if (fresh) rows_.push_back({.key = key});
  for (Row* row : {&rows_[it->second], &total_}) {
    ++row->calls;
    row->cost += cost;
    row->executed += executed;
    row->ns += ns;
    row->rounding += rounding;
  }
  if (timeline) timeline->push_back({key, cost, executed, ns, now_ns(), true});
}

void Counters::add_rounding(const RowKey& key, const CastStats& rounding) {
  const auto it = index_.find(key);
  if (it == index_.end()) return;  // forgotten since
  rows_[it->second].rounding += rounding;
  total_.rounding += rounding;
}

std::string Counters::path(int scope) const {
  const ScopeNode& node = scopes_[static_cast<size_t>(scope)];
  if (node.parent < 0) return {};
  std::string above = path(node.parent);
  return above.empty() ? node.name : above + "." + node.name;
}

int Counters::child(int scope, std::string_view name) {
  for (int c : scopes_[static_cast<size_t>(scope)].children)
    if (scopes_[static_cast<size_t>(c)].name == name) return c;
  const int id = static_cast<int>(scopes_.size());
  scopes_.push_back({std::string(name), scope, {}});
  scopes_[static_cast<size_t>(scope)].children.push_back(id);
  return id;
}

void Counters::merge(const Counters& other) {
  LateCounts::collect();
  // Parents come before their children, so one pass maps every scope.
  std::vector<int> map(other.scopes_.size(), current);
  for (size_t s = 1; s < other.scopes_.size(); ++s)
    map[s] = child(map[static_cast<size_t>(other.scopes_[s].parent)], other.scopes_[s].name);
  for (const Row& r : other.rows_) {
    RowKey key = r.key;
    key.scope = map[static_cast<size_t>(key.scope)];
    auto [it, fresh] = index_.try_emplace(key, rows_.size());
    if (fresh) rows_.push_back({.key = key});
    if (timeline) timeline->push_back({key, r.cost, r.executed, r.ns, now_ns(), false});
    for (Row* row : {&rows_[it->second], &total_}) {
      row->calls += r.calls;
      row->cost += r.cost;
      row->executed += r.executed;
      row->ns += r.ns;
      row->rounding += r.rounding;
    }
  }
}

void Counters::clear() {
  LateCounts::collect();
  rows_.clear();
  index_.clear();
  total_ = {};
}

Counters& counters() {
  thread_local Counters c;
  return c;
}

}  // namespace wattle
