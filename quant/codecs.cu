// Device code of casts from and to codes: the scalar references of quant/elements.h, a thread for
// every number that is decoded and for every number, byte or block that is encoded. Between two
// coded types numbers travel as f64, so that they are rounded once. What that does to them is added
// to the call's counts.
#include "core/cuda/each.cuh"
#include "quant/elements.h"

namespace wattle::device {
namespace {

using quant::Saturate;

// How a row keeps its numbers: blocks of `block` in `bytes`, codes of `bits`, with a scale before
// them or not.
struct Format {
  int32_t type = 0, element = 0;
  int block = 1, bytes = 1, bits = 8;
  bool scaled = false;
};
Format format(int32_t t) {
  switch (t) {
    case bf16:
    case fp16:
    case posit16:
    case posit16_es1: return {t, t, 1, 2, 16};
    case posit32: return {t, t, 1, 4, 32};
    case fp6_e3m2:
    case fp6_e2m3: return {t, t, 4, 3, 6};
    case fp4_e2m1:
    case int4: return {t, t, 2, 1, 4};
    case spike: return {t, t, 8, 1, 1};
    case mxfp8_e4m3: return {t, fp8_e4m3, 32, 33, 8, true};
    case mxfp8_e5m2: return {t, fp8_e5m2, 32, 33, 8, true};
    case mxfp6_e3m2: return {t, fp6_e3m2, 32, 25, 6, true};
    case mxfp6_e2m3: return {t, fp6_e2m3, 32, 25, 6, true};
    case mxfp4: return {t, fp4_e2m1, 32, 17, 4, true};
    case mxint8: return {t, mxint8, 32, 33, 8, true};
    case nvfp4: return {t, fp4_e2m1, 16, 9, 4, true};
    default: return {t, t};
  }
}

// Calls f with the scalar reference of an element.
template <class F>
WATTLE_BOTH auto element(int32_t type, F f) {
  using namespace quant;
  switch (type) {
    case bf16: return f(FloatElement<bf16_format>{});
    case fp16: return f(FloatElement<fp16_format>{});
    case fp8_e4m3: return f(FloatElement<e4m3_format>{});
    case fp8_e5m2: return f(FloatElement<e5m2_format>{});
    case fp6_e3m2: return f(FloatElement<e3m2_format>{});
    case fp6_e2m3: return f(FloatElement<e2m3_format>{});
    case fp4_e2m1: return f(FloatElement<e2m1_format>{});
    case device::posit8: return f(PositElement<8, 2>{});
    case posit8_es1: return f(PositElement<8, 1>{});
    case posit8_es0: return f(PositElement<8, 0>{});
    case device::posit16: return f(PositElement<16, 2>{});
    case posit16_es1: return f(PositElement<16, 1>{});
    case device::posit32: return f(PositElement<32, 2>{});
    case e8m0: return f(ScaleElement{});
    case mxint8: return f(MxIntElement{});
    default: return f(IntElement<4>{});
  }
}
struct Decode {
  uint32_t code;
  template <class E>
  WATTLE_BOTH double operator()(E) const {
    return E::decode(code);
  }
};
struct Encode {
  double x;
  const EncodeOptions& options;
  uint64_t i;
  CastStats& stats;
  template <class E>
  WATTLE_BOTH uint32_t operator()(E) const {
    const uint32_t code = quant::encode_one<E>(x, options, i);
    quant::count_rounding<E>(x, code, stats);
    return code;
  }
};
WATTLE_BOTH double scale_value(const Format& f, uint8_t scale) {
  return f.type == nvfp4 ? quant::e4m3_format::decode(scale) : quant::e8m0_decode(scale);
}

// Row-major numbers and the rows of codes beside them.
struct Rows {
  int64_t n = 1, count = 0;  // numbers of a row, rows
  explicit Rows(const View& v) {
    if (v.rank) n = v.size[v.rank - 1];
    count = n ? v.numel / n : 0;
  }
  WATTLE_BOTH int64_t blocks(const Format& f) const { return (n + f.block - 1) / f.block; }
};

template <class T>
struct FromCodes {
  Format f;
  Rows rows;
  const uint8_t* codes;
  T* y;
  WATTLE_BOTH void operator()(int64_t i) const {
    const int64_t row = i / rows.n, column = i - row * rows.n, block = column / f.block;
    const uint8_t* p = codes + (row * rows.blocks(f) + block) * f.bytes;
    double scale = 1;
    if (f.scaled) scale = scale_value(f, *p++);
    const int64_t at = (column - block * f.block) * f.bits;
    uint32_t code = 0;  // of at most four bytes
    for (int64_t b = at >> 3; b <= (at + f.bits - 1) >> 3; ++b)
      code |= uint32_t{p[b]} << (8 * (b - (at >> 3)));
    code >>= at & 7;
    if (f.bits < 32) code &= (1u << f.bits) - 1;
    const double v = f.type == spike ? code : element(f.element, Decode{code});
    y[i] = static_cast<T>(v * scale);
  }
};

// Blocks: one number each, some that share bytes, or some under a scale. A fold of what rounding
// did to them.
template <class T>
struct ToCodes {
  using Acc = CastStats;
  Format f;
  Rows rows;
  EncodeOptions options;
  const T* x;
  uint8_t* codes;
  CastStats* counts;

  WATTLE_BOTH CastStats start() const { return {}; }
  WATTLE_BOTH void merge(CastStats& a, const CastStats& b) const { a += b; }
  WATTLE_BOTH void store(int64_t, const CastStats& a) const {
    if (counts) *counts += a;
  }

  WATTLE_BOTH uint8_t scale_of(const T* from, int64_t m) const {
    double amax = 0;
    for (int64_t i = 0; i < m; ++i) {
      const double v = ::fabs(static_cast<double>(from[i]));
      if (!(v <= 1.7976931348623157e308))  // infinite, or not a number
        return f.type == nvfp4 ? static_cast<uint8_t>(quant::e4m3_format::nan_code) : 0xFF;
      if (v > amax) amax = v;
    }
    if (f.type == nvfp4)
      return static_cast<uint8_t>(
          quant::e4m3_format::encode(amax / quant::e2m1_format::max(), Saturate::on));
    return element(f.element, MxScale{amax, options.scale_rule});
  }
  struct MxScale {
    double amax;
    ScaleRule rule;
    template <class E>
    WATTLE_BOTH uint8_t operator()(E) const {
      if constexpr (HasFormat<E>::value) return quant::mx_scale<typename E::Format>(amax, rule);
      else return 0;
    }
  };
  template <class E, class = void>
  struct HasFormat : std::false_type {};
  template <class E>
  struct HasFormat<E, std::void_t<typename E::Format>> : std::true_type {};

  WATTLE_BOTH uint32_t code_of(double v, double step, uint64_t i, CastStats& stats) const {
    if (f.type == spike) {  // the nearer of 0 and 1
      const bool one = v > 0.5;
      stats.nar += v != v;
      if (v == v && v != one) {
        ++stats.inexact;
        stats.to_max += one, stats.to_min += one, stats.to_zero += !one;
      }
      return one;
    }
    if (step > 0) return element(f.element, Encode{v / step, options, i, stats});
    if (v != 0) ++stats.inexact, ++stats.to_zero;
    return 0;
  }
  WATTLE_BOTH void take(CastStats& stats, int64_t, int64_t u) const {
    const int64_t row = u / rows.blocks(f), block = u - row * rows.blocks(f);
    const T* const from = x + row * rows.n + block * f.block;
    const int64_t left = rows.n - block * f.block, m = left < f.block ? left : f.block;
    stats.n += m;
    uint8_t* to = codes + u * f.bytes;
    for (int b = 0; b < f.bytes; ++b) to[b] = 0;
    double step = 1;
    if (f.scaled) {
      *to = scale_of(from, m);
      step = scale_value(f, *to++);
      if (step != step) {  // the whole block is not a number
        stats.nar += m;
        return;
      }
    }
    for (int64_t i = 0; i < m; ++i) {
      const double v = static_cast<double>(from[i]);
      const uint32_t code = code_of(v, step, static_cast<uint64_t>(from - x + i), stats);
      const int64_t at = i * f.bits, byte = at >> 3;
      const uint64_t bits = uint64_t{code} << (at & 7);
      for (int64_t b = 0; b <= (at + f.bits - 1) / 8 - byte; ++b)
        to[byte + b] = static_cast<uint8_t>(to[byte + b] | (bits >> (8 * b)));
    }
  }
};

// A number that is none, which a device cannot stop at.
template <class T>
struct CountNan {
  using Acc = int64_t;
  const T* x;
  int64_t* found;
  WATTLE_BOTH int64_t start() const { return 0; }
  WATTLE_BOTH void take(int64_t& a, int64_t, int64_t i) const { a += x[i] != x[i]; }
  WATTLE_BOTH void merge(int64_t& a, int64_t b) const { a += b; }
  WATTLE_BOTH void store(int64_t, int64_t a) const { *found = a; }
};
template <class T>
const char* refuse_nan(const T* x, int64_t n) {
  if (capturing()) return fail("a type without a code for NaN cannot be cast to in a graph");
  const Scratch found(8);
  if (!found) return fail("out of memory for a count");
  if (const char* const e = fold(1, n, CountNan<T>{x, found.as<int64_t>()})) return e;
  int64_t here = 0;
  if (const char* const e = copy_out(&here, found.as<void>(), 8)) return e;
  return here == 0 ? nullptr : fail("found NaN, which the type has no code for");
}

template <class T>
const char* decode_all(const View& from, void* to) {
  return each(from.numel,
              FromCodes<T>{format(from.dtype), Rows(from), static_cast<const uint8_t*>(from.data),
                           static_cast<T*>(to)});
}
EncodeOptions options_of(const Launch& l) {
  EncodeOptions o;
  o.saturate = integer(l, "saturate") != 0;
  o.rounding = says(l, "rounding", "stochastic") ? Rounding::stochastic : Rounding::nearest;
  o.scale_rule = says(l, "scale_rule", "ceil")   ? ScaleRule::ceil
                 : says(l, "scale_rule", "even") ? ScaleRule::even
                                                 : ScaleRule::floor;
  o.seed = static_cast<uint64_t>(integer(l, "seed"));
  return o;
}
template <class T>
const char* encode_all(const Launch& l, const void* from) {
  const View& to = l.out[0];
  const T* const x = static_cast<const T*>(from);
  for (const int32_t t : {fp6_e3m2, fp6_e2m3, fp4_e2m1, int4})
    if (to.dtype == t)
      if (const char* const e = refuse_nan(x, to.numel)) return e;
  if (to.dtype == spike && says(l, "rounding", "stochastic"))
    return fail("rounding: found stochastic, expected nearest for spike");
  const Format f = format(to.dtype);
  const Rows rows(to);
  return fold(1, rows.count * rows.blocks(f),
              ToCodes<T>{f, rows, options_of(l), x, static_cast<uint8_t*>(to.data), l.rounding});
}

const char* cast(const Launch& l) {
  const View &x = l.in[0], &y = l.out[0];
  if (x.numel == 0) return nullptr;
  if (y.dtype == f32) return decode_all<float>(x, y.data);
  if (y.dtype == f64) return decode_all<double>(x, y.data);
  if (x.dtype == f32) return encode_all<float>(l, x.data);
  if (x.dtype == f64) return encode_all<double>(l, x.data);
  const Scratch between(x.numel * 8);
  if (!between) return fail("out of memory for %lld numbers", static_cast<long long>(x.numel));
  const char* const error = decode_all<double>(x, between.as<void>());
  return error ? error : encode_all<double>(l, between.as<void>());
}

const bool registered = [] {
  set_codes_cast(cast);
  return true;
}();

}  // namespace
}  // namespace wattle::device
