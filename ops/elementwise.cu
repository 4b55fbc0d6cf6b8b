// Device code of the elementwise ops: one functor each, equations in the op's own file.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// Signed integers wrap around, as on the host.
template <class T>
struct Wrap {
  using type = T;
};
template <>
struct Wrap<int64_t> {
  using type = uint64_t;
};
template <>
struct Wrap<int32_t> {
  using type = uint32_t;
};
template <class T>
using wrap = typename Wrap<T>::type;

#define UNARY(Name, expression)          \
  struct Name {                          \
    template <class T>                   \
    WATTLE_HD T operator()(T x) const {  \
      return static_cast<T>(expression); \
    }                                    \
  }
#define BINARY(Name, expression)             \
  struct Name {                              \
    template <class T>                       \
    WATTLE_HD T operator()(T a, T b) const { \
      return static_cast<T>(expression);     \
    }                                        \
  }
UNARY(Exp, exp_of(x));
UNARY(Log, ::log(x));
UNARY(Sqrt, ::sqrt(x));
UNARY(Tanh, ::tanh(x));
UNARY(Sigmoid, T(1) / (T(1) + exp_of(-x)));
UNARY(Silu, x / (T(1) + exp_of(-x)));
UNARY(Neg, wrap<T>(0) - static_cast<wrap<T>>(x));
UNARY(Abs, x < T(0) ? wrap<T>(0) - static_cast<wrap<T>>(x) : static_cast<wrap<T>>(x));
UNARY(Relu, x < T(0) ? T(0) : x);  // not-a-number passes
BINARY(Add, static_cast<wrap<T>>(a) + static_cast<wrap<T>>(b));
BINARY(Sub, static_cast<wrap<T>>(a) - static_cast<wrap<T>>(b));
BINARY(Mul, static_cast<wrap<T>>(a) * static_cast<wrap<T>>(b));
BINARY(Div, a / b);
BINARY(Pow, ::pow(a, b));
BINARY(ReluGrad, b > T(0) ? a : T(0));
BINARY(AbsGrad, b > T(0) ? a : b < T(0) ? -a : T(0));
BINARY(SigmoidGrad, a*(b*(T(1) - b)));
BINARY(TanhGrad, a*(T(1) - b * b));
#undef UNARY
#undef BINARY
struct SiluGrad {
  template <class T>
  WATTLE_HD T operator()(T gy, T x) const {
    const T s = T(1) / (T(1) + exp_of(-x));
    return gy * s * (T(1) + x * (T(1) - s));
  }
};

#define COMPARE(Name, expression)               \
  struct Name {                                 \
    template <class T>                          \
    WATTLE_HD bool operator()(T a, T b) const { \
      return expression;                        \
    }                                           \
  }
COMPARE(Eq, a == b);
COMPARE(Ne, a != b);
COMPARE(Lt, a < b);
COMPARE(Le, a <= b);
COMPARE(Gt, a > b);
COMPARE(Ge, a >= b);
#undef COMPARE

template <class F>
const char* unary(const Launch& l, F f = {}) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, T>(l, f);
  });
}
template <class F>
const char* binary(const Launch& l, F f = {}) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, T, T>(l, f);
  });
}
template <class F>
const char* integers_too(const Launch& l, F f = {}) {
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, T, T>(l, f);
  });
}
template <class F>
const char* compare(const Launch& l) {
  return any_type(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<bool, T, T>(l, F{});
  });
}

struct Fma {
  template <class T>
  WATTLE_HD T operator()(T a, T b, T c) const {
    return ::fma(a, b, c);
  }
};
struct Choose {
  template <class T>
  WATTLE_HD T operator()(bool c, T a, T b) const {
    return c ? a : b;
  }
};
struct Scale {
  double factor, shift;
  template <class T>
  WATTLE_HD T operator()(T x) const {
    const T y = T(factor) * x;
    return shift == 0 ? y : y + T(shift);
  }
};
struct ToFloat {
  float scale, shift;
  WATTLE_HD float operator()(uint8_t x) const { return static_cast<float>(x) * scale + shift; }
};

struct Limits {
  bool has_lo, has_hi;
  double lo, hi;
  explicit Limits(const Launch& l)
      : has_lo(field(l, "min").given),
        has_hi(field(l, "max").given),
        lo(number(l, "min")),
        hi(number(l, "max")) {}
};
struct Clamp : Limits {
  using Limits::Limits;
  template <class T>
  WATTLE_HD T operator()(T x) const {
    T y = x;
    if (has_lo) y = y < T(lo) ? T(lo) : y;
    if (has_hi) y = y > T(hi) ? T(hi) : y;
    return y;
  }
};
struct ClampGrad : Limits {
  using Limits::Limits;
  template <class T>
  WATTLE_HD T operator()(T g, T x) const {
    return (!has_lo || x > T(lo)) && (!has_hi || x < T(hi)) ? g : T(0);
  }
};

struct Gelu {
  bool with_tanh;
  template <class T>
  WATTLE_HD T operator()(T x) const {
    const T k1 = T(0.79788456080286535588), k3 = T(0.79788456080286535588 * 0.044715);
    if (with_tanh) return T(0.5) * x * (T(1) + ::tanh(x * (k1 + k3 * (x * x))));
    return T(0.5) * x * (T(1) + ::erf(T(0.70710678118654752440) * x));
  }
};
struct GeluGrad {
  bool with_tanh;
  template <class T>
  WATTLE_HD T operator()(T gy, T x) const {
    const T k1 = T(0.79788456080286535588), k3 = T(0.79788456080286535588 * 0.044715);
    const T xx = x * x;
    if (with_tanh) {
      const T t = ::tanh(x * (k1 + k3 * xx)), du = k1 + T(3) * k3 * xx;
      return gy * (T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * du);
    }
    const T cdf = T(0.5) * (T(1) + ::erf(T(0.70710678118654752440) * x));
    return gy * (cdf + x * (T(0.39894228040143267794) * exp_of(T(-0.5) * xx)));
  }
};

// Any plain type to any other in one kernel, the types looked up for every element: a kernel for
// each of the 49 pairs would take as long to compile as all other elementwise ops together. Towards
// zero; negative numbers wrap around in unsigned types by way of 64 bits.
struct Convert {
  int32_t from, to;
  const void* x;
  void* y;
  Broadcast<1> b;
  WATTLE_HD void operator()(int64_t i) const {
    int64_t at[1];
    if (b.plain) at[0] = b.rank ? i * b.stride[0][0] : 0;
    else b.offsets(i, at);
    const bool real = from == f32 || from == f64;
    const double d = from == f32   ? static_cast<double>(static_cast<const float*>(x)[at[0]])
                     : from == f64 ? static_cast<const double*>(x)[at[0]]
                                   : 0;
    store(i, real, d, real ? 0 : load(at[0]));
  }
  WATTLE_HD int64_t load(int64_t i) const {
    switch (from) {
      case i64: return static_cast<const int64_t*>(x)[i];
      case i32: return static_cast<const int32_t*>(x)[i];
      case i8: return static_cast<const int8_t*>(x)[i];
      default: return static_cast<const uint8_t*>(x)[i];
    }
  }
  WATTLE_HD void store(int64_t i, bool real, double d, int64_t n) const {
    switch (to) {
      case f32:
        static_cast<float*>(y)[i] = real ? static_cast<float>(d) : static_cast<float>(n);
        break;
      case f64: static_cast<double*>(y)[i] = real ? d : static_cast<double>(n); break;
      case boolean: static_cast<bool*>(y)[i] = real ? d != 0 : n != 0; break;
      case i64: static_cast<int64_t*>(y)[i] = real ? static_cast<int64_t>(d) : n; break;
      case i32:
        static_cast<int32_t*>(y)[i] = static_cast<int32_t>(real ? static_cast<int64_t>(d) : n);
        break;
      default:
        static_cast<uint8_t*>(y)[i] = static_cast<uint8_t>(real ? static_cast<int64_t>(d) : n);
    }
  }
};
WATTLE_HD __nv_bfloat16 half_of(float x, __nv_bfloat16) { return __float2bfloat16_rn(x); }
WATTLE_HD __half half_of(float x, __half) { return __float2half_rn(x); }
WATTLE_HD float largest(__nv_bfloat16) { return 3.38953138925153547590470800371487867e38f; }
WATTLE_HD float largest(__half) { return 65504.0f; }
// To the nearest, ties to even; what lies beyond the largest number becomes it if `saturate`.
template <class H>
struct ToHalf {
  bool saturate;
  template <class T>
  WATTLE_HD H operator()(T x) const {
    const float top = largest(H{}), v = static_cast<float>(x);
    if (saturate && v > top) return half_of(top, H{});
    if (saturate && v < -top) return half_of(-top, H{});
    return half_of(v, H{});
  }
};
template <class T>
struct FromHalf {
  template <class H>
  WATTLE_HD T operator()(H x) const {
    return static_cast<T>(static_cast<float>(x));
  }
};
struct Copy {
  template <class T>
  WATTLE_HD T operator()(T x) const {
    return x;
  }
};

}  // namespace

WATTLE_DEVICE_OP(exp) { return unary<Exp>(l); }
WATTLE_DEVICE_OP(log) { return unary<Log>(l); }
WATTLE_DEVICE_OP(sqrt) { return unary<Sqrt>(l); }
WATTLE_DEVICE_OP(tanh) { return unary<Tanh>(l); }
WATTLE_DEVICE_OP(tanh_grad) { return binary<TanhGrad>(l); }
WATTLE_DEVICE_OP(sigmoid) { return unary<Sigmoid>(l); }
WATTLE_DEVICE_OP(sigmoid_grad) { return binary<SigmoidGrad>(l); }
WATTLE_DEVICE_OP(silu) { return unary<Silu>(l); }
WATTLE_DEVICE_OP(silu_grad) { return binary<SiluGrad>(l); }
WATTLE_DEVICE_OP(gelu) { return unary(l, Gelu{says(l, "approximate", "tanh")}); }
WATTLE_DEVICE_OP(gelu_grad) { return binary(l, GeluGrad{says(l, "approximate", "tanh")}); }
WATTLE_DEVICE_OP(relu) { return unary<Relu>(l); }
WATTLE_DEVICE_OP(relu_grad) { return binary<ReluGrad>(l); }
WATTLE_DEVICE_OP(abs_grad) { return binary<AbsGrad>(l); }
WATTLE_DEVICE_OP(div) { return binary<Div>(l); }
WATTLE_DEVICE_OP(pow) { return binary<Pow>(l); }
WATTLE_DEVICE_OP(scale) { return unary(l, Scale{number(l, "factor"), number(l, "shift")}); }
WATTLE_DEVICE_OP(clamp_grad) { return binary(l, ClampGrad(l)); }
WATTLE_DEVICE_OP(add) { return integers_too<Add>(l); }
WATTLE_DEVICE_OP(mul) { return integers_too<Mul>(l); }
WATTLE_DEVICE_OP(sub) { return integers_too<Sub>(l); }
WATTLE_DEVICE_OP(eq) { return compare<Eq>(l); }
WATTLE_DEVICE_OP(ne) { return compare<Ne>(l); }
WATTLE_DEVICE_OP(lt) { return compare<Lt>(l); }
WATTLE_DEVICE_OP(le) { return compare<Le>(l); }
WATTLE_DEVICE_OP(gt) { return compare<Gt>(l); }
WATTLE_DEVICE_OP(ge) { return compare<Ge>(l); }

template <class F>
static const char* numbers(const Launch& l, F f) {
  return numeric(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, T>(l, f);
  });
}
WATTLE_DEVICE_OP(neg) { return numbers(l, Neg{}); }
WATTLE_DEVICE_OP(abs) { return numbers(l, Abs{}); }
WATTLE_DEVICE_OP(clamp) { return numbers(l, Clamp(l)); }

WATTLE_DEVICE_OP(fma) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, T, T, T>(l, Fma{});
  });
}
WATTLE_DEVICE_OP(where) {
  return by_size(l, l.in[1].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, bool, T, T>(l, Choose{});
  });
}
WATTLE_DEVICE_OP(to_float) {
  return map<float, uint8_t>(
      l, ToFloat{static_cast<float>(number(l, "scale")), static_cast<float>(number(l, "shift"))});
}
WATTLE_DEVICE_OP(contiguous) {
  return by_size(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return map<T, T>(l, Copy{});
  });
}
// bf16 and fp16 on one side, f32 or f64 on the other.
static const char* cast_halves(const Launch& l) {
  if (says(l, "rounding", "stochastic"))
    return fail("rounding by chance has no device code; cast on the host");
  const bool saturate = integer(l, "saturate") != 0;
  const auto run = [&](auto half, auto wide) {
    using H = typename decltype(half)::type;
    using W = typename decltype(wide)::type;
    if (l.in[0].dtype == l.out[0].dtype) return map<H, H>(l, Copy{});
    if (l.in[0].dtype == bf16 || l.in[0].dtype == fp16) return map<W, H>(l, FromHalf<W>{});
    return map<H, W>(l, ToHalf<H>{saturate});
  };
  const int32_t in = l.in[0].dtype, out = l.out[0].dtype;
  const auto is_half = [](int32_t t) { return t == bf16 || t == fp16; };
  if (is_half(in) && is_half(out) && in != out)
    return fail("bf16 and fp16 are cast by way of f32 here");
  const int32_t half = is_half(in) ? in : out;
  return floating(l,
                  is_half(in) && is_half(out) ? int32_t{f32}
                  : is_half(in)               ? out
                                              : in,
                  [&](auto wide) {
                    return half == bf16 ? run(Tag<__nv_bfloat16>{}, wide)
                                        : run(Tag<__half>{}, wide);
                  });
}
WATTLE_DEVICE_OP(cast) {
  bool halves = false;
  for (const int32_t t : {l.in[0].dtype, l.out[0].dtype}) {
    if (t > fp16) return cast_codes(l);
    halves = halves || t == bf16 || t == fp16;
  }
  if (halves) return cast_halves(l);
  const View* const operand[] = {&l.in[0]};
  return each(l.out[0].numel, Convert{l.in[0].dtype, l.out[0].dtype, l.in[0].data, l.out[0].data,
                                      broadcast<1>(l.out[0], operand)});
}

}  // namespace wattle::device
