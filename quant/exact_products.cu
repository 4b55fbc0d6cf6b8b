// Device code of products of posits whose sums are no floats' (quant/posit_gemm.h): certified sums
// are f64 products by cuBLAS with a proof for every element; what cannot be proven, and the mode
// quire, take a thread and a quire each.
#include "core/cuda/blas.h"
#include "core/cuda/each.cuh"
#include "quant/elements.h"
#include "quant/quire.h"

namespace wattle::device {
const char* product(const Launch& l, const Gemm& g);  // ops/gemm.cu
namespace {

using quant::Posit;
using quant::Quire;

template <int N, int ES>
struct Codes {
  using P = Posit<N, ES>;
  using Code = typename P::Word;
  int64_t n, k;
  const Code *a, *b, *bias;
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;
  Code* c;
  explicit Codes(const ExactProduct& p)
      : n(p.n),
        k(p.k),
        a(static_cast<const Code*>(p.a)),
        b(static_cast<const Code*>(p.b)),
        bias(static_cast<const Code*>(p.bias)),
        a_row(p.a_row),
        a_col(p.a_col),
        b_row(p.b_row),
        b_col(p.b_col),
        c_row(p.c_row),
        c_col(p.c_col),
        c(static_cast<Code*>(p.c)) {}
  WATTLE_BOTH P left(int64_t i, int64_t t) const { return P::of(a[i * a_row + t * a_col]); }
  WATTLE_BOTH P right(int64_t t, int64_t j) const { return P::of(b[t * b_row + j * b_col]); }
  WATTLE_BOTH void put(int64_t i, int64_t j, P y) const { c[i * c_row + j * c_col] = y.bits; }

  WATTLE_BOTH P by_quire(int64_t i, int64_t j) const {
    Quire<N, ES> q;
    for (int64_t t = 0; t < k; ++t) q.add_product(left(i, t), right(t, j));
    if (bias) q.add(P::of(bias[j]));
    return q.to_posit();
  }
  WATTLE_BOTH P by_steps(int64_t i, int64_t j) const {
    P sum = P::of(0);
    for (int64_t t = 0; t < k; ++t) sum = sum + left(i, t) * right(t, j);
    return bias ? sum + P::of(bias[j]) : sum;
  }
};

template <int N, int ES>
struct OneByOne {
  Codes<N, ES> x;
  bool steps;
  WATTLE_BOTH void operator()(int64_t at) const {
    const int64_t i = at / x.n, j = at - i * x.n;
    x.put(i, j, steps ? x.by_steps(i, j) : x.by_quire(i, j));
  }
};

// Rows of numbers [rows, k], one after the other, from codes of any strides.
template <int N, int ES>
struct Numbers {
  const typename Posit<N, ES>::Word* codes;
  int64_t k, row, col;
  double* to;
  WATTLE_BOTH void operator()(int64_t at) const {
    const int64_t i = at / k, t = at - i * k;
    to[at] = Posit<N, ES>::of(codes[i * row + t * col]).to_double();
  }
};

// A little more than the length of every row.
struct Lengths {
  using Acc = double;
  const double* x;
  int64_t k;
  double* to;
  WATTLE_BOTH double start() const { return 0; }
  WATTLE_BOTH void take(double& a, int64_t row, int64_t t) const {
    a += x[row * k + t] * x[row * k + t];
  }
  WATTLE_BOTH void merge(double& a, double b) const { a += b; }
  WATTLE_BOTH void store(int64_t row, double a) const { to[row] = ::sqrt(a) * (1 + 0x1p-40); }
};

// Sums that both ends of what they can be round to the same posit are the quire's; a fold of how
// many there are.
template <int N, int ES>
struct Prove {
  using Acc = CastStats;
  using P = Posit<N, ES>;
  Codes<N, ES> x;
  const double *sums, *a_length, *b_length;
  double roundings;
  CastStats* counts;
  WATTLE_BOTH CastStats start() const { return {}; }
  WATTLE_BOTH void merge(CastStats& s, const CastStats& other) const { s += other; }
  WATTLE_BOTH void store(int64_t, const CastStats& s) const {
    if (counts) *counts += s;
  }
  WATTLE_BOTH void take(CastStats& s, int64_t, int64_t at) const {
    const int64_t i = at / x.n, j = at - i * x.n;
    const double bias = x.bias ? P::of(x.bias[j]).to_double() : 0;
    const double sum = sums[at] + bias;
    const double e = roundings * (a_length[i] * b_length[j] + ::fabs(bias));
    const P low = P::from(sum - e), high = P::from(sum + e);
    const bool proven = low == high;
    x.put(i, j, proven ? low : x.by_quire(i, j));
    s.proven += proven, s.to_quire += !proven;
  }
};

template <int N, int ES>
const char* certified(const Launch& l, const ExactProduct& p) {
  const Scratch a(p.m * p.k * 8), b(p.n * p.k * 8), sums(p.m * p.n * 8), lengths((p.m + p.n) * 8);
  if (!a || !b || !sums || !lengths)
    return fail("out of memory for the numbers of a certified product of %lld x %lld x %lld",
                static_cast<long long>(p.m), static_cast<long long>(p.n),
                static_cast<long long>(p.k));
  const Codes<N, ES> x(p);
  double *const of_a = lengths.as<double>(), *const of_b = of_a + p.m;
  Gemm g;
  g.m = p.m, g.n = p.n, g.k = p.k, g.dtype = f64;
  g.a = {a.as<void>(), p.k, 1, 0}, g.b = {b.as<void>(), 1, p.k, 0}, g.c = sums.as<void>();
  const char* e = each(p.m * p.k, Numbers<N, ES>{x.a, p.k, p.a_row, p.a_col, a.as<double>()});
  if (!e) e = each(p.n * p.k, Numbers<N, ES>{x.b, p.k, p.b_col, p.b_row, b.as<double>()});
  if (!e) e = fold(p.m, p.k, Lengths{a.as<double>(), p.k, of_a});
  if (!e) e = fold(p.n, p.k, Lengths{b.as<double>(), p.k, of_b});
  if (!e) e = product(l, g);
  if (e) return e;
  const double roundings = 1.2e-16 * static_cast<double>(p.k + 2);
  return fold(1, p.m * p.n, Prove<N, ES>{x, sums.as<double>(), of_a, of_b, roundings, l.rounding});
}

template <int N, int ES>
const char* run(const Launch& l, const ExactProduct& p) {
  l.kernel = "posit";
  if (says(l, "accumulate", "certified") && p.k > 0) return certified<N, ES>(l, p);
  return each(p.m * p.n, OneByOne<N, ES>{Codes<N, ES>(p), says(l, "accumulate", "per_op")});
}

const char* exact(const Launch& l, const ExactProduct& p) {
  if (p.m * p.n == 0) return nullptr;
  if (!says(l, "accumulate", "per_op") && p.k >= int64_t{1} << 31)
    return fail("sums of %lld products found, a quire is exact for fewer than 2^31",
                static_cast<long long>(p.k));
  switch (l.in[0].dtype) {
    case device::posit8: return run<8, 2>(l, p);
    case posit8_es1: return run<8, 1>(l, p);
    case posit8_es0: return run<8, 0>(l, p);
    case device::posit16: return run<16, 2>(l, p);
    case posit16_es1: return run<16, 1>(l, p);
    case device::posit32: return run<32, 2>(l, p);
    default: return fail("dtype number %d found, exact sums are those of posits", l.in[0].dtype);
  }
}

const bool registered = [] {
  set_exact_product(exact);
  return true;
}();

}  // namespace
}  // namespace wattle::device
