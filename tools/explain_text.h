// Words and numbers of `wattle explain`: the letters of an op's equation, what it means and why its
// derivative is what it is.
#pragma once
#include <string>

#include "tools/explain_trace.h"

namespace wattle::cli::explain {

/// Names operands and results by their letters in op.equation ("x", "W", "b" -> "y").
void give_roles(const OpBase& op, Values& in, Values& out);

/// What the op does, in plain words; its one-line documentation when nothing longer is written.
std::string about(const OpBase& op);
/// Why its gradient is what it is; empty for an op that only runs in the walk back.
std::string derivative(const OpBase& op);

/// "ops/linear.cpp:66"
std::string source(const OpBase& op);
/// "43.1 nJ" from femtojoules, three significant digits.
std::string joules_text(double femtojoules);
/// "0.732", "-1.2e-05": four significant digits.
std::string number_text(double v);
/// "[[0, 1], [1, 0]]"; rows on lines of their own, `indent` spaces deep, where one line is too
/// narrow; long tensors end in dots.
std::string values_text(const Value& v, int indent);

}  // namespace wattle::cli::explain
