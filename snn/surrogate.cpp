#include "snn/surrogate.h"

#include "core/error.h"

namespace wattle::snn {
namespace {

// Slopes: those of the libraries that the functions are known from.
struct Row {
  const char* name;
  SurrogateKind kind;
  double usual;
  Cost cost;
};
constexpr Row rows[] = {
    {"atan", SurrogateKind::atan, 2, {.add = 1, .mul = 2, .special = 1}},
    {"sigmoid", SurrogateKind::sigmoid, 4, {.add = 1, .mul = 3, .cmp = 1, .special = 2}},
    {"fast_sigmoid", SurrogateKind::fast_sigmoid, 25, {.add = 1, .mul = 2, .cmp = 1, .special = 1}},
    {"super_spike", SurrogateKind::super_spike, 1, {.add = 1, .mul = 1, .cmp = 1, .special = 1}},
    {"soft_sign", SurrogateKind::soft_sign, 2, {.add = 1, .mul = 1, .cmp = 1, .special = 1}},
    {"triangle", SurrogateKind::triangle, 0.3, {.add = 1, .mul = 1, .cmp = 2}},
    {"quadratic", SurrogateKind::quadratic, 1, {.add = 1, .mul = 1, .cmp = 2}},
    {"rectangle", SurrogateKind::rectangle, 1, {.cmp = 2}},
    {"exponential", SurrogateKind::exponential, 1, {.mul = 2, .cmp = 1, .special = 1}},
    {"straight_through", SurrogateKind::straight_through, 1, {}},
};

}  // namespace

Surrogate surrogate(const char* op, const std::string& name, double a) {
  std::string known;
  for (const Row& r : rows) {
    known += str(known.empty() ? "" : ", ", r.name);
    if (name != r.name) continue;
    if (!(a >= 0)) throw value_error(str(op, ": attribute slope: found ", a, ", expected >= 0"));
    return {r.kind, a == 0 ? r.usual : a};
  }
  throw value_error(str(op, ": attribute surrogate: found '", name, "', expected one of ", known));
}

Cost surrogate_cost(SurrogateKind k) {
  for (const Row& r : rows)
    if (r.kind == k) return r.cost;
  return {};
}

}  // namespace wattle::snn
