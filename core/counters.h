// Where the work went: one row per (scope, op, kernel, dtype, phase), per thread.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/codec.h"
#include "core/cost.h"

// -DWATTLE_COUNTERS=0 compiles counting out, to measure what it costs.
#ifndef WATTLE_COUNTERS
#define WATTLE_COUNTERS 1
#endif

namespace wattle {

class OpBase;

enum class Phase : uint8_t { forward, backward, optimizer, data };
std::string_view name(Phase p);

struct RowKey {
  int scope = 0;
  const OpBase* op = nullptr;
  const char* kernel = "";
  DType dtype = DType::f32;
  Phase phase = Phase::forward;
  friend bool operator==(const RowKey&, const RowKey&) = default;
};

/// Sum over the calls that share a key.
struct Row {
  RowKey key;
  int64_t calls = 0;
  Cost cost;  ///< by the op's rule: the literature's convention, an upper bound where data decides
  Cost executed;       ///< what the kernel that ran really did
  double ns = 0;       ///< wall time inside the kernel
  CastStats rounding;  ///< of results and casts in coded dtypes
};

/// One call, for whoever asks for a timeline.
struct TimedCall {
  RowKey key;
  Cost cost, executed;
  double ns = 0;       ///< inside the kernel
  int64_t end_ns = 0;  ///< steady clock, when the call was counted
  bool here = true;    ///< false: made on another thread and handed over at end_ns (a loader)
};

/// What a device has counted reaches the thread's counters when they are read, copied or replaced:
/// waiting for it after every call would take longer than the call.
struct LateCounts {
  LateCounts() = default;
  LateCounts(const LateCounts&) { collect(); }
  LateCounts& operator=(const LateCounts&) {
    collect();
    return *this;
  }
  static void collect();
  /// Adds to counters() what came in; set by whoever runs devices.
  static void set_source(void (*source)());
};

/// The counters of one thread. Scopes form a tree; scope 0 is the root.
class Counters {
  LateCounts late_;  // first: before the rows below are copied

 public:
  Counters();
  void add(const RowKey& key, const Cost& cost, const Cost& executed, double ns,
           const CastStats& rounding = {});
  /// Adds to the row of a call that was counted before.
  void add_rounding(const RowKey& key, const CastStats& rounding);
  const std::vector<Row>& rows() const {
    LateCounts::collect();
    return rows_;
  }
  /// Kept apart from the rows, so that "the rows sum to the total" is a check and not a definition.
  const Row& total() const {
    LateCounts::collect();
    return total_;
  }
  /// Path of a scope, joined by '.'; empty for the root.
  std::string path(int scope) const;
  int parent(int scope) const { return scopes_[static_cast<size_t>(scope)].parent; }
  /// The child `name` of a scope, made when it is new.
  int child(int scope, std::string_view name);
  int scope_count() const { return static_cast<int>(scopes_.size()); }
  /// Adds the rows of `other` below the current scope of this one (a loader thread hands over what
  /// its batch cost).
  void merge(const Counters& other);
  /// Forgets the rows and the total; scopes stay, as open Scope objects refer to them.
  void clear();

  /// Every call is also appended here while it is set.
  std::vector<TimedCall>* timeline = nullptr;
  int current = 0;               ///< scope that the next op is credited to
  Phase phase = Phase::forward;  ///< phase that the next op is credited to

 private:
  struct ScopeNode {
    std::string name;
    int parent = -1;
    std::vector<int> children;
  };
  struct KeyHash {
    size_t operator()(const RowKey& k) const;
  };
  std::vector<ScopeNode> scopes_;
  std::vector<Row> rows_;
  std::unordered_map<RowKey, size_t, KeyHash> index_;
  Row total_;
};

/// The counters of the calling thread.
Counters& counters();

/// Credits the ops of a block to `name` below the current scope.
class Scope {
 public:
  explicit Scope(std::string_view name) : saved_(counters().current) {
    counters().current = counters().child(saved_, name);
  }
  /// Returns to a scope entered before (backward uses it).
  explicit Scope(int scope) : saved_(counters().current) { counters().current = scope; }
  ~Scope() { counters().current = saved_; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  int saved_;
};

/// Credits the ops of a block to a phase.
class PhaseScope {
 public:
  explicit PhaseScope(Phase p) : saved_(counters().phase) { counters().phase = p; }
  ~PhaseScope() { counters().phase = saved_; }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Phase saved_;
};

}  // namespace wattle
