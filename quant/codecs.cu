// Device code of casts from and to codes: the scalar references of quant/elements.h, a thread for
// every number that is decoded and for every number, byte or block that is encoded. Between two
// coded types numbers travel as f64, so that they are rounded once.
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
  Saturate saturate;
  template <class E>
  WATTLE_BOTH uint32_t operator()(E) const {
    return E::encode(x, saturate);
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

// One block: one number, some that share bytes, or some under a scale.
template <class T>
struct ToCodes {
  Format f;
  Rows rows;
  Saturate saturate;
  ScaleRule rule;
  const T* x;
  uint8_t* codes;

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
    return element(f.element, MxScale{amax, rule});
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

  WATTLE_BOTH void operator()(int64_t u) const {
    const int64_t row = u / rows.blocks(f), block = u - row * rows.blocks(f);
    const T* const from = x + row * rows.n + block * f.block;
    const int64_t left = rows.n - block * f.block, m = left < f.block ? left : f.block;
    uint8_t* to = codes + u * f.bytes;
    for (int b = 0; b < f.bytes; ++b) to[b] = 0;
    double step = 1;
    if (f.scaled) {
      *to = scale_of(from, m);
      step = scale_value(f, *to++);
      if (step != step) return;  // the whole block is not a number
    }
    for (int64_t i = 0; i < m; ++i) {
      const double v = step > 0 ? static_cast<double>(from[i]) / step : 0;
      const uint32_t code = f.type == spike ? v > 0.5 : element(f.element, Encode{v, saturate});
      const int64_t at = i * f.bits, byte = at >> 3;
      const uint64_t bits = uint64_t{code} << (at & 7);
      for (int64_t b = 0; b <= (at + f.bits - 1) / 8 - byte; ++b)
        to[byte + b] = static_cast<uint8_t>(to[byte + b] | (bits >> (8 * b)));
    }
  }
};

template <class T>
const char* decode_all(const View& from, void* to) {
  return each(from.numel,
              FromCodes<T>{format(from.dtype), Rows(from), static_cast<const uint8_t*>(from.data),
                           static_cast<T*>(to)});
}
template <class T>
const char* encode_all(const Launch& l, const void* from) {
  const View& to = l.out[0];
  // A device cannot stop a call for a number that is none, and these have no code for it.
  for (const int32_t t : {fp6_e3m2, fp6_e2m3, fp4_e2m1, int4})
    if (to.dtype == t) return fail("a type without a code for NaN is cast to on the host");
  if (says(l, "rounding", "stochastic"))
    return fail("rounding by chance has no device code; cast on the host");
  const ScaleRule rule = says(l, "scale_rule", "ceil")   ? ScaleRule::ceil
                         : says(l, "scale_rule", "even") ? ScaleRule::even
                                                         : ScaleRule::floor;
  const Format f = format(to.dtype);
  const Rows rows(to);
  return each(rows.count * rows.blocks(f),
              ToCodes<T>{f, rows, integer(l, "saturate") ? Saturate::on : Saturate::off, rule,
                         static_cast<const T*>(from), static_cast<uint8_t*>(to.data)});
}

const char* cast(const Launch& l) {
  const View &x = l.in[0], &y = l.out[0];
  const auto plain = [](int32_t t) { return t == f32 || t == f64; };
  const auto coded = [](int32_t t) { return t >= bf16; };
  for (const int32_t t : {x.dtype, y.dtype})
    if (!plain(t) && !coded(t))
      return fail("codes are cast from and to f32, f64 and other codes; dtype number %d found", t);
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
