// One training step, caught call by call: what the tape holds, what the walk back runs, what the
// optimiser changes. Values are copied when an op sees them, as parameters change later.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/counters.h"
#include "core/op.h"

namespace wattle::cli::explain {

/// A tensor as it was at one moment.
struct Value {
  std::string name;  ///< "x", "hidden.weight", "%3" (result of line 3), "d%3" (its gradient)
  std::string role;  ///< its letter in the op's equation
  bool present = false;
  bool saved = false;  ///< backward may read it
  Shape shape;
  std::string dtype;
  std::vector<double> v;  ///< row-major, the first `kept_elements`
  uint64_t uid = 0;
};
using Values = std::vector<Value>;
constexpr size_t kept_elements = 256;

/// One call of an op.
struct Line {
  std::string number;  ///< "%3" on the tape, "b3" in the walk back, "s3" in the optimiser
  const OpBase* op = nullptr;
  std::vector<AttrText> attrs;
  Values in, out;  ///< of an op that writes in place: `in` before, `out` after it
  std::string kernel, layer;
  Phase phase = Phase::forward;
  Cost cost, executed;
  double ns = 0;
  double fj = 0, memory_fj = 0;  ///< modelled femtojoules, and those of them that bytes take
};

/// The walk back over one line of the tape.
struct Back {
  size_t line = 0;           ///< index into Trace::forward
  Values grad_out, grad_in;  ///< gradients of the line's results, of its operands
  std::vector<Line> calls;
};

struct Trace {
  std::vector<Line> forward;
  std::vector<Back> backward;  ///< in the order of the walk
  std::vector<Line> optimizer;
};

/// Sums over one phase.
struct Total {
  int64_t calls = 0;
  Cost cost, executed;
  double ns = 0, fj = 0, memory_fj = 0;
  void add(const Line& l);
};
Total total_of(const Trace& t, Phase p);

struct Settings {
  int64_t steps = 200, at = 1;  ///< steps of training; the one that is explained, from 1
  std::string optimizer = "adam";
  double lr = 0;  ///< 0: one that suits the optimiser
  uint64_t seed = 3;
};

/// A small net before, during and after its training on the exclusive or.
struct Lesson {
  Settings settings;
  std::string net;  ///< one line
  Trace trace;
  std::vector<double> losses;  ///< of every step, before its update
  double loss_after_step = 0, loss_end = 0;
  Value x, target, first, last;             ///< points, wanted values, predictions before and after
  int64_t grid = 0;                         ///< points per side of the maps
  std::vector<double> map_first, map_last;  ///< the net over [0, 1]^2, row = second coordinate
  bool counters_agree = false;              ///< the lines add up to the thread's counters
};

/// Trains and records. Throws value_error for steps < 1, a step that is not in [1, steps], or an
/// unknown optimiser.
Lesson run_lesson(const Settings& s);

}  // namespace wattle::cli::explain
