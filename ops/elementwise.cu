// Device code of the elementwise ops: one functor each, equations in the op's own file.
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

}  // namespace wattle::device
