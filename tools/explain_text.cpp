#include "tools/explain_text.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace wattle::cli::explain {
namespace {

struct OpText {
  const char* op;
  std::vector<const char*> in, out;  ///< letters of the equation
  const char* about;
  const char* derivative;
};

// The ops that a small net meets; any other op is described by its own file.
const std::vector<OpText>& texts() {
  static const std::vector<OpText> t = {
      {"linear",
       {"x", "W", "b"},
       {"y"},
       "A fully connected layer. Every row of x is one example; every row of W belongs to one "
       "neuron. A neuron multiplies each input by its weight, adds everything up and adds its "
       "bias.",
       "y[i,j] is a sum of products x[i,k] W[j,k]. Nudge one weight W[j,k]: y[i,j] moves x[i,k] "
       "times "
       "as far. That holds for every example i, so the weight's gradient adds them up: dW = dy^T "
       "x. "
       "Nudge one input: y moves by the weight, so dx = dy W. The bias moves y one to one: db = "
       "the "
       "sum of dy over the examples."},
      {"tanh",
       {"x"},
       {"y"},
       "Squeezes every number into (-1, 1). Without a bend like this, two linear layers would be "
       "no "
       "more than one: no straight line separates the exclusive or.",
       "The slope of tanh is 1 - y^2: 1 where y = 0, almost 0 where y is near -1 or 1 (the neuron "
       "is "
       "saturated and hardly learns). The gradient that arrives is multiplied by this slope, "
       "number "
       "by number. Only y is needed for it, so only y is kept."},
      {"mse_loss",
       {"x", "target"},
       {"loss"},
       "How wrong the net is, as one number: the squared distance of every prediction from its "
       "target, averaged.",
       "The square (x - t)^2 has the slope 2 (x - t), and the average divides by n: "
       "dx = 2 (x - t) / n. A prediction that is too large gets a positive gradient, and going "
       "against it makes the prediction smaller."},
      {"mse_loss_grad",
       {"gy", "x", "t"},
       {"gx"},
       "The slope of the squared error: 2 / n (the factor) times how far each prediction is off, "
       "times the gradient that arrives.",
       ""},
      {"tanh_grad",
       {"gy", "y"},
       {"gx"},
       "Multiplies the gradient that arrives by the slope of tanh, 1 - y^2.",
       ""},
      {"matmul",
       {"a", "b"},
       {"y"},
       "A matrix product: entry (i, j) is row i of a times column j of b, added up. A transposed "
       "operand is read the other way round, without a copy.",
       "da = dy b^T and db = a^T dy, by the same argument as for a linear layer."},
      {"sum",
       {"x"},
       {"y"},
       "Adds up along a dimension. Here: over the examples of the batch.",
       "Every element moves the sum one to one: the gradient is spread over all of them."},
      {"reshape",
       {"x"},
       {"y"},
       "The same numbers under another shape: a view. No byte moves, nothing is computed.",
       "The gradient takes the old shape back."},
      {"add",
       {"a", "b"},
       {"y"},
       "Adds two tensors. In the walk back: a value that was used twice gets the sum of its two "
       "gradients.",
       "Both operands move the sum one to one: each gets the gradient as it is."},
      {"contiguous",
       {"x"},
       {"y"},
       "A copy in row-major order, for a kernel that needs it.",
       "The gradient passes through."},
      {"adam_step",
       {"param", "grad", "m", "v"},
       {"param", "m", "v"},
       "One step of Adam. m is a running mean of the gradient, v one of its square; "
       "m / sqrt(v) is about +1 or -1 while a gradient keeps its sign, so every parameter moves "
       "about lr, however large or small its gradient is. Adam pays for this with two more "
       "tensors.",
       ""},
      {"sgd_step",
       {"param", "grad", "buf"},
       {"param", "buf"},
       "One step downhill: the parameter moves against its gradient, lr times as far. With "
       "momentum "
       "the steps of the past keep pushing.",
       ""},
  };
  return t;
}

const OpText* find_text(const OpBase& op) {
  for (const OpText& t : texts())
    if (std::strcmp(t.op, op.name) == 0) return &t;
  return nullptr;
}

void name_all(Values& vs, const std::vector<const char*>* letters, const char* prefix) {
  for (size_t i = 0; i < vs.size(); ++i)
    vs[i].role = letters && i < letters->size() ? (*letters)[i] : str(prefix, i);
}

}  // namespace

void give_roles(const OpBase& op, Values& in, Values& out) {
  const OpText* t = find_text(op);
  name_all(in, t ? &t->in : nullptr, "in");
  name_all(out, t ? &t->out : nullptr, "out");
}

std::string about(const OpBase& op) {
  const OpText* t = find_text(op);
  return t ? t->about : str(op.doc, ".");
}

std::string derivative(const OpBase& op) {
  const OpText* t = find_text(op);
  return t ? t->derivative : "";
}

std::string source(const OpBase& op) { return str(op.file, ":", op.line); }

std::string joules_text(double femtojoules) {
  static const char* const units[] = {"fJ", "pJ", "nJ", "uJ", "mJ", "J"};
  int u = 0;
  double v = femtojoules;
  while (v >= 999.5 && u < 5) v /= 1000, ++u;
  if (v == 0) return "0 J";
  char buf[40];
  const int decimals = v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
  std::snprintf(buf, sizeof buf, "%.*f %s", decimals, v, units[u]);
  return buf;
}

std::string number_text(double v) {
  if (std::isnan(v)) return "nan";
  char buf[32];
  std::snprintf(buf, sizeof buf, "%.4g", v == 0 ? 0.0 : v);  // no "-0"
  return buf;
}

namespace {

struct Layout {
  const Value& v;
  int indent;
  bool one_line;
  size_t at = 0;
  size_t shown;
};

// Dimension `d` of the tensor, nested in brackets.
void put(Layout& l, int d, std::string& out) {
  if (d == l.v.shape.rank()) {
    std::string n = number_text(l.v.v[l.at++]);
    if (!l.one_line) n.insert(0, n.size() < 9 ? 9 - n.size() : 0, ' ');
    out += n;
    return;
  }
  out += "[";
  for (int64_t i = 0; i < l.v.shape[d]; ++i) {
    if (l.at >= l.shown) {
      out += "...";
      break;
    }
    put(l, d + 1, out);
    if (i + 1 == l.v.shape[d]) break;
    out += ",";
    const bool wrap = !l.one_line && d + 2 == l.v.shape.rank();
    out += wrap ? "\n" + std::string(static_cast<size_t>(l.indent + d + 1), ' ') : " ";
  }
  out += "]";
}

std::string nested(const Value& v, int indent, bool one_line) {
  constexpr size_t most = 64;
  Layout l{v, indent, one_line, 0, v.v.size() <= most ? v.v.size() : 8};
  std::string out;
  put(l, 0, out);
  return out;
}

}  // namespace

std::string values_text(const Value& v, int indent) {
  if (!v.present) return "none";
  if (v.v.empty()) return v.shape.rank() == 0 ? "" : "[]";
  const std::string flat = nested(v, indent, true);
  return flat.size() + static_cast<size_t>(indent) <= 96 ? flat : nested(v, indent, false);
}

}  // namespace wattle::cli::explain
