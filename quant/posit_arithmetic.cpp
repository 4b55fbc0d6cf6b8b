// Posit arithmetic to the standard of 2022, element by element: add, sub, mul, div, sqrt, fma and
// the comparisons, each rounded once, for all posit types. Registered as kernels of those ops.
//
// posit8 and posit16 (es 2) run in f32 and posit32 in f64, rounded to odd (quant/odd.h); the legacy
// posit16_es1, whose 13 bits f32 does not serve, runs on the scalar reference.
#include "core/parallel.h"
#include "ops/coded.h"
#include "quant/lane_loops.h"
#include "quant/odd.h"
#include "quant/posit.h"

namespace wattle::quant {
namespace {

constexpr int64_t chunk = 1024;       // numbers that stay in the first cache
constexpr int64_t grain = 16 * 1024;  // numbers of a parallel piece

enum class Fn : uint8_t { add, sub, mul, div, sqrt, fma };

template <Fn F>
constexpr int operands = F == Fn::sqrt  ? 1
                         : F == Fn::fma ? 3
                                        : 2;

// Operand k side by side in the result's order: itself, or a copy where it is strided or broadcast.
const uint8_t* codes_of(const Tensor& t, const Shape& out, std::vector<uint8_t>& scratch) {
  const auto bytes = static_cast<size_t>(info(t.dtype()).bytes);
  const auto* from = static_cast<const uint8_t*>(t.raw());
  if (t.shape() == out && t.is_contiguous()) return from;
  Shape strides = Shape::filled(out.rank(), 0);
  const int shift = out.rank() - t.rank();
  for (int i = 0; i < t.rank(); ++i) strides[shift + i] = t.size(i) == 1 ? 0 : t.strides()[i];
  scratch.resize(static_cast<size_t>(out.numel()) * bytes);
  for_each_offset(out, strides, [&](int64_t i, int64_t o) {
    std::memcpy(scratch.data() + static_cast<size_t>(i) * bytes,
                from + o * static_cast<int64_t>(bytes), bytes);
  });
  return scratch.data();
}

// y = F(a, b, c) on numbers, rounded to odd. Unused operands may be null.
template <Fn F, class T>
void compute(const T* a, const T* b, const T* c, T* y, int64_t n) {
  at_best_level([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int L = N * 4 / static_cast<int>(sizeof(T));
    using O = odd::Lanes<T, L>;
    using V = typename O::V;
    const auto load = [](const T* p) WATTLE_INLINE_BODY {
      V v;
      std::memcpy(&v, p, sizeof v);
      return v;
    };
    for (int64_t i = 0; i < n; i += L) {  // buffers are whole vectors long
      const V x = load(a + i);
      V r;
      if constexpr (F == Fn::add) r = O::add(x, load(b + i));
      if constexpr (F == Fn::sub) r = O::add(x, -load(b + i));
      if constexpr (F == Fn::mul) r = O::multiply(x, load(b + i));
      if constexpr (F == Fn::div) r = O::divide(x, load(b + i));
      if constexpr (F == Fn::sqrt) r = O::square_root(x);
      if constexpr (F == Fn::fma) r = O::fma(x, load(b + i), load(c + i));
      std::memcpy(y + i, &r, sizeof r);
    }
  });
}

template <Fn F, class T>
void run_lanes(Ins in, const Tensor& out) {
  constexpr int K = operands<F>;
  const Codec& codec = wattle::codec(out.dtype());
  const int64_t bytes = info(out.dtype()).bytes;
  std::vector<uint8_t> scratch[3];
  const uint8_t* codes[3] = {};
  for (size_t k = 0; k < K; ++k) codes[k] = codes_of(in[k], out.shape(), scratch[k]);
  auto* const y = static_cast<uint8_t*>(out.raw());
  SharedCastStats stats;
  parallel_for(out.numel(), grain, [&](int64_t begin, int64_t end) {
    alignas(64) T x[4][chunk];
    CastStats s;
    for (int64_t at = begin; at < end; at += chunk) {
      const int64_t n = std::min(chunk, end - at);
      for (int k = 0; k < K; ++k) {
        decode_run(codec, codes[k] + at * bytes, x[k], n);
        // The rest of the last vector: 1, which no operation trips over.
        for (int64_t i = n; i < std::min(chunk, (n + 15) / 16 * 16); ++i) x[k][i] = 1;
      }
      compute<F>(x[0], x[1], x[2], x[3], n);
      s += encode_run(codec, x[3], y + at * bytes, n);
    }
    stats.add(s);
  });
  report_rounding(stats.get());
}

// One number at a time, by the definition.
template <Fn F, class P>
P scalar(P a, P b, P c) {
  switch (F) {
    case Fn::add: return a + b;
    case Fn::sub: return a - b;
    case Fn::mul: return a * b;
    case Fn::div: return a / b;
    case Fn::sqrt: return sqrt(a);
    case Fn::fma: return fma(a, b, c);
  }
  return a;
}

template <Fn F, class P, class Code>
void run_scalar_typed(Ins in, const Tensor& out) {
  std::vector<uint8_t> scratch[3];
  const Code* codes[3] = {};
  for (size_t k = 0; k < 3; ++k)
    codes[k] = reinterpret_cast<const Code*>(
        codes_of(in[k < operands<F> ? k : 0], out.shape(), scratch[k]));
  auto* const y = static_cast<Code*>(out.raw());
  parallel_for(out.numel(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      y[i] = static_cast<Code>(
          scalar<F>(P::of(codes[0][i]), P::of(codes[1][i]), P::of(codes[2][i])).bits);
  });
}

template <Fn F>
void run_scalar(Ins in, const Tensor& out) {
  switch (out.dtype()) {
    case DType::posit8: return run_scalar_typed<F, posit8, uint8_t>(in, out);
    case DType::posit8_es1: return run_scalar_typed<F, Posit<8, 1>, uint8_t>(in, out);
    case DType::posit8_es0: return run_scalar_typed<F, Posit<8, 0>, uint8_t>(in, out);
    case DType::posit16: return run_scalar_typed<F, posit16, uint16_t>(in, out);
    case DType::posit16_es1: return run_scalar_typed<F, Posit<16, 1>, uint16_t>(in, out);
    default: return run_scalar_typed<F, posit32, uint32_t>(in, out);
  }
}

Refusal one_posit_type(Ins in, const void*) {
  for (const Tensor& t : in)
    if (!is_posit(t.dtype()) || t.dtype() != in[0].dtype())
      return {str("takes posits of one type, found ", t)};
  return {};
}
Refusal served_by_lanes(Ins in, const void* a) {
  if (Refusal no = one_posit_type(in, a)) return no;
  if (in[0].dtype() == DType::posit16_es1) return {"posit16_es1 has 13 bits, f32 serves 12"};
  return {};
}

template <Fn F>
void lanes_kernel(Ins in, Outs out, const void*) {
  if (out[0].dtype() == DType::posit32) run_lanes<F, double>(in, out[0]);
  else run_lanes<F, float>(in, out[0]);
}
template <Fn F>
void scalar_kernel(Ins in, Outs out, const void*) {
  run_scalar<F>(in, out[0]);
}

// Float and integer operations of one number in compute(), as written; codecs come on top.
struct Work {
  int64_t add, mul, special, iop;
};
template <Fn F>
constexpr Work work(bool wide) {
  constexpr int64_t odd = 14, sum = 6;
  switch (F) {
    case Fn::add:
    case Fn::sub: return {sum, 0, 0, odd};
    case Fn::mul: return wide ? Work{3, 3, 0, odd + 1} : Work{0, 1, 0, 0};
    case Fn::div: return wide ? Work{6, 4, 1, odd + 4} : Work{3, 2, 1, odd + 3};
    case Fn::sqrt: return wide ? Work{7, 4, 1, odd + 2} : Work{5, 3, 1, odd + 1};
    case Fn::fma: return wide ? Work{3 + 4 * sum, 3, 0, 2 * odd + 1} : Work{sum, 1, 0, odd};
  }
  return {};
}

int64_t results(Ins in) {
  Shape shape = in[0].shape();
  for (const Tensor& t : in) shape = broadcast_shapes("posit", shape, t.shape());
  return shape.numel();
}

template <Fn F>
Cost executes(Ins in, const Cost& declared, const void*) {
  const int64_t n = results(in);
  const Codec& c = codec(in[0].dtype());
  const Work w = work<F>(c.wide);
  Cost cost{.add = w.add * n, .mul = w.mul * n, .special = w.special * n};
  cost.iop = (w.iop + operands<F> * c.decode_iops + c.encode_iops) * n;
  cost.read = declared.read;
  cost.written = declared.written;
  return cost;
}

// Of the reference: fields taken apart, combined in 128 bits, put together. Close, not exact: the
// square root and the alignment of a sum run as long as their numbers need.
template <Fn F>
Cost scalar_executes(Ins in, const Cost& declared, const void*) {
  return {.iop = results(in) * (operands<F> * 20 + 80),
          .read = declared.read,
          .written = declared.written};
}

// ---- comparisons: posits are ordered as signed integers, NaR first and equal to itself ----

enum class Compare : uint8_t { eq, ne, lt, le, gt, ge };

template <Compare C, class Int>
void compare_typed(Ins in, const Tensor& out) {
  std::vector<uint8_t> sa, sb;
  const auto* a = reinterpret_cast<const Int*>(codes_of(in[0], out.shape(), sa));
  const auto* b = reinterpret_cast<const Int*>(codes_of(in[1], out.shape(), sb));
  bool* const y = out.data<bool>();
  parallel_for(out.numel(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      y[i] = C == Compare::eq   ? a[i] == b[i]
             : C == Compare::ne ? a[i] != b[i]
             : C == Compare::lt ? a[i] < b[i]
             : C == Compare::le ? a[i] <= b[i]
             : C == Compare::gt ? a[i] > b[i]
                                : a[i] >= b[i];
  });
}
template <Compare C>
void compare_kernel(Ins in, Outs out, const void*) {
  switch (info(in[0].dtype()).bytes) {
    case 1: return compare_typed<C, int8_t>(in, out[0]);
    case 2: return compare_typed<C, int16_t>(in, out[0]);
    default: return compare_typed<C, int32_t>(in, out[0]);
  }
}
Cost compare_executes(Ins, const Cost& declared, const void*) {
  Cost c = declared;
  c.iop += c.cmp;
  c.cmp = 0;
  return c;
}

// The scalar reference first: what is registered later is tried first.
template <Fn F>
void add_arithmetic(const char* op) {
  coded::register_kernel({.op = op,
                          .name = "posit_ref",
                          .when = one_posit_type,
                          .run = scalar_kernel<F>,
                          .executes = scalar_executes<F>,
                          .on_device = true});
  coded::register_kernel({.op = op,
                          .name = "posit",
                          .when = served_by_lanes,
                          .run = lanes_kernel<F>,
                          .executes = executes<F>});
}
template <Compare C>
void add_comparison(const char* op) {
  coded::register_kernel({.op = op,
                          .name = "posit",
                          .when = one_posit_type,
                          .run = compare_kernel<C>,
                          .executes = compare_executes,
                          .on_device = true});
}

const bool registered = [] {
  add_arithmetic<Fn::add>("add");
  add_arithmetic<Fn::sub>("sub");
  add_arithmetic<Fn::mul>("mul");
  add_arithmetic<Fn::div>("div");
  add_arithmetic<Fn::sqrt>("sqrt");
  add_arithmetic<Fn::fma>("fma");
  add_comparison<Compare::eq>("eq");
  add_comparison<Compare::ne>("ne");
  add_comparison<Compare::lt>("lt");
  add_comparison<Compare::le>("le");
  add_comparison<Compare::gt>("gt");
  add_comparison<Compare::ge>("ge");
  return true;
}();

}  // namespace
}  // namespace wattle::quant
