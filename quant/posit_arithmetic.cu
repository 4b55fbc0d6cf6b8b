// Device code of arithmetic and comparisons of posits: the scalar definition of quant/posit.h,
// rounded once.
#include "core/cuda/each.cuh"
#include "quant/elements.h"

namespace wattle::device {
namespace {

enum class Fn { add, sub, mul, div, sqrt, fma };

// A fold over the results of what rounding did. Operands past those that there are repeat the
// first.
template <int N, int ES>
struct Arithmetic {
  using Acc = CastStats;
  using P = quant::Posit<N, ES>;
  using Code = typename P::Word;
  Fn fn;
  const Code* p[3];
  Code* y;
  Broadcast<3> b;
  CastStats* counts;

  WATTLE_BOTH CastStats start() const { return {}; }
  WATTLE_BOTH void merge(CastStats& s, const CastStats& other) const { s += other; }
  WATTLE_BOTH void store(int64_t, const CastStats& s) const {
    if (counts) *counts += s;
  }
  WATTLE_BOTH void take(CastStats& s, int64_t, int64_t i) const {
    int64_t at[3];
    b.offsets(i, at);
    const P u = P::of(p[0][at[0]]), v = P::of(p[1][at[1]]), w = P::of(p[2][at[2]]);
    const P r = of(u, v, w);
    y[i] = r.bits;
    ++s.n;
    quant::count_rounding<quant::PositElement<N, ES>>(
        of_numbers(u.to_double(), v.to_double(), w.to_double()), r.bits, s);
  }
  WATTLE_BOTH P of(P u, P v, P w) const {
    switch (fn) {
      case Fn::add: return u + v;
      case Fn::sub: return u - v;
      case Fn::mul: return u * v;
      case Fn::div: return u / v;
      case Fn::sqrt: return quant::sqrt(u);
      default: return quant::fma(u, v, w);
    }
  }
  // What was rounded, to 53 bits: enough to tell what happened to it.
  WATTLE_BOTH double of_numbers(double u, double v, double w) const {
    switch (fn) {
      case Fn::add: return u + v;
      case Fn::sub: return u - v;
      case Fn::mul: return u * v;
      case Fn::div: return u / v;
      case Fn::sqrt: return ::sqrt(u);
      default: return ::fma(u, v, w);
    }
  }
};

template <int N, int ES>
const char* run(const Launch& l, Fn fn) {
  Arithmetic<N, ES> f;
  f.fn = fn, f.y = out<typename Arithmetic<N, ES>::Code>(l, 0), f.counts = l.rounding;
  const View* operand[3];
  for (int k = 0; k < 3; ++k) {
    operand[k] = &l.in[k < l.ins ? k : 0];
    f.p[k] = static_cast<const typename Arithmetic<N, ES>::Code*>(operand[k]->data);
  }
  f.b = broadcast<3>(l.out[0], operand);
  return l.out[0].numel ? fold(1, l.out[0].numel, f) : nullptr;
}
const char* arithmetic(const Launch& l, Fn fn) {
  l.kernel = "posit";
  switch (l.in[0].dtype) {
    case device::posit8: return run<8, 2>(l, fn);
    case posit8_es1: return run<8, 1>(l, fn);
    case posit8_es0: return run<8, 0>(l, fn);
    case device::posit16: return run<16, 2>(l, fn);
    case posit16_es1: return run<16, 1>(l, fn);
    default: return run<32, 2>(l, fn);
  }
}

// Posits are ordered as signed integers, NaR first and equal to itself.
enum class Order { eq, ne, lt, le, gt, ge };
struct Compare {
  Order order;
  template <class Int>
  WATTLE_BOTH bool operator()(Int a, Int b) const {
    switch (order) {
      case Order::eq: return a == b;
      case Order::ne: return a != b;
      case Order::lt: return a < b;
      case Order::le: return a <= b;
      case Order::gt: return a > b;
      default: return a >= b;
    }
  }
};
const char* compare(const Launch& l, Order order) {
  l.kernel = "posit";
  switch (element_bytes(l.in[0].dtype)) {
    case 1: return map<bool, int8_t, int8_t>(l, Compare{order});
    case 2: return map<bool, int16_t, int16_t>(l, Compare{order});
    default: return map<bool, int32_t, int32_t>(l, Compare{order});
  }
}

}  // namespace

WATTLE_DEVICE_OP_ON_POSITS(add) { return arithmetic(l, Fn::add); }
WATTLE_DEVICE_OP_ON_POSITS(sub) { return arithmetic(l, Fn::sub); }
WATTLE_DEVICE_OP_ON_POSITS(mul) { return arithmetic(l, Fn::mul); }
WATTLE_DEVICE_OP_ON_POSITS(div) { return arithmetic(l, Fn::div); }
WATTLE_DEVICE_OP_ON_POSITS(sqrt) { return arithmetic(l, Fn::sqrt); }
WATTLE_DEVICE_OP_ON_POSITS(fma) { return arithmetic(l, Fn::fma); }
WATTLE_DEVICE_OP_ON_POSITS(eq) { return compare(l, Order::eq); }
WATTLE_DEVICE_OP_ON_POSITS(ne) { return compare(l, Order::ne); }
WATTLE_DEVICE_OP_ON_POSITS(lt) { return compare(l, Order::lt); }
WATTLE_DEVICE_OP_ON_POSITS(le) { return compare(l, Order::le); }
WATTLE_DEVICE_OP_ON_POSITS(gt) { return compare(l, Order::gt); }
WATTLE_DEVICE_OP_ON_POSITS(ge) { return compare(l, Order::ge); }

}  // namespace wattle::device
