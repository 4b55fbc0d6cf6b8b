// gelu(x) = x Phi(x), Phi the normal distribution function: (1 + erf(x / sqrt 2)) / 2
// (approximate = none), or (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3) (tanh).
//   none: dx = gy (Phi + x phi), phi = e^(-x^2/2) / sqrt(2 pi)
//   tanh: dx = gy ((1 + t) / 2 + x (1 - t^2) u' / 2)
#include "core/simd_math.h"
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct GeluAttr {
  std::string approximate = "none";
  template <class V>
  void visit(V&& v) {
    v("approximate", approximate);
  }
};

constexpr double inv_sqrt2 = 0.70710678118654752440, inv_sqrt_2pi = 0.39894228040143267794;
constexpr double k1 = 0.79788456080286535588, k3 = k1 * 0.044715;  // sqrt(2/pi)

struct Fn : Map1 {
  static constexpr const char* name = "gelu";
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  explicit Fn(const GeluAttr& a) : with_tanh(a.approximate == "tanh") {}
  template <class T>
  T operator()(const T& x) const {
    if (with_tanh) return T(0.5) * x * (T(1) + num::tanh(x * (T(k1) + T(k3) * (x * x))));
    return T(0.5) * x * (T(1) + num::erf(T(inv_sqrt2) * x));
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    if (with_tanh) return 0.5f * x * (1.0f + simd::tanh<N>(x * (float(k1) + float(k3) * (x * x))));
    return 0.5f * x * (1.0f + simd::erf<N>(float(inv_sqrt2) * x));
  }
  bool with_tanh;
};

// ---- gelu_grad ----

struct GradFn : Map2 {
  static constexpr const char* name = "gelu_grad";
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = heavy;
  explicit GradFn(const GeluAttr& a) : with_tanh(a.approximate == "tanh") {}
  template <class T>
  T operator()(const T& gy, const T& x) const {
    const T xx = x * x;
    if (with_tanh) {
      const T t = num::tanh(x * (T(k1) + T(k3) * xx)), du = T(k1) + T(3 * k3) * xx;
      return gy * (T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * du);
    }
    const T cdf = T(0.5) * (T(1) + num::erf(T(inv_sqrt2) * x));
    return gy * (cdf + x * (T(inv_sqrt_2pi) * num::exp(T(-0.5) * xx)));
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> gy, simd::f32<N> x) const {
    const simd::f32<N> xx = x * x;
    if (with_tanh) {
      const simd::f32<N> t = simd::tanh<N>(x * (float(k1) + float(k3) * xx));
      const simd::f32<N> du = float(k1) + float(3 * k3) * xx;
      return gy * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du);
    }
    const simd::f32<N> cdf = 0.5f * (1.0f + simd::erf<N>(float(inv_sqrt2) * x));
    return gy * (cdf + x * (float(inv_sqrt_2pi) * simd::exp<N>(-0.5f * xx)));
  }
  bool with_tanh;
};

template <class F, int K>
Metas gelu_shape(Ins in, const GeluAttr& a) {
  if (a.approximate != "none" && a.approximate != "tanh")
    throw value_error(
        str(F::name, ": approximate is '", a.approximate, "', expected none or tanh"));
  return map_shape<F, K, GeluAttr>(in, a);
}

Cost gelu_cost(Ins in, std::span<const Meta>, const GeluAttr& a) {
  const Cost one = a.approximate == "tanh" ? Cost{.add = 2, .mul = 5, .special = 1}
                                           : Cost{.add = 1, .mul = 3, .special = 1};
  return one * in[0].numel();
}

Cost grad_cost(Ins in, std::span<const Meta>, const GeluAttr& a) {
  const Cost one = a.approximate == "tanh" ? Cost{.add = 5, .mul = 10, .special = 1}
                                           : Cost{.add = 2, .mul = 7, .special = 2};
  return one * in[0].numel();
}

// gelu'': none: phi (2 - x^2);   tanh: (1 - t^2) (u' + x u'' / 2 - x t u'^2).
Tensor second_derivative(const Tensor& x, bool with_tanh) {
  const Tensor xx = mul(x, x);
  if (!with_tanh) return mul(scale(exp(scale(xx, -0.5)), inv_sqrt_2pi), scale(xx, -1, 2));
  const Tensor t = tanh(mul(x, scale(xx, k3, k1))), du = scale(xx, 3 * k3, k1);
  const Tensor inner = sub(add(du, scale(xx, 3 * k3)), mul(mul(x, t), mul(du, du)));
  return mul(scale(mul(t, t), -1, 1), inner);
}

Tensors grad_backward(const Saved<GeluAttr>& s, Ins g);

const Op<GeluAttr> grad_op{{
    .name = "gelu_grad",
    .doc = "Gradient of gelu",
    .equation = "gx = gy (Phi(x) + x phi(x))",
    .shape = gelu_shape<GradFn, 2>,
    .cost = grad_cost,
    .kernels = kernels<GradFn, GeluAttr>(),
    .layout = Layout::strided,
    .saves_in = {0, 1},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}, -3, 3}}},
                {{{{1}}, {{1}}}, {.approximate = "tanh"}},
                {{{{2, 37}}, {{2, 37}, -3, 3}}, {.approximate = "tanh"}},
                {{{{2, 37}}, {{2, 37}, -4, 4}}, {.approximate = "none"}}},
}};

Tensors grad_backward(const Saved<GeluAttr>& s, Ins g) {
  Tensors d(2);
  const Tensor x = s.in(1);
  if (s.needs(0)) d[0] = grad_op.one({g[0], x}, s.attr());
  if (s.needs(1))
    d[1] = mul(mul(g[0], s.in(0)), second_derivative(x, s.attr().approximate == "tanh"));
  return d;
}

const Op<GeluAttr> op{{
    .name = "gelu",
    .doc = "Gaussian error linear unit",
    .equation = "y = x Phi(x)",
    .shape = gelu_shape<Fn, 1>,
    .cost = gelu_cost,
    .kernels = kernels<Fn, GeluAttr>(),
    .layout = Layout::strided,
    .saves_in = {0},
    .backward =
        [](const Saved<GeluAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.in(0)}, s.attr())};
        },
    .samples = {{{{{3, 5}, -3, 3}}},
                {{{{1}}}, {.approximate = "tanh"}},
                {{{{2, 37}, -3, 3}}, {.approximate = "tanh"}},
                {{{{2, 37}, -4, 4}}, {.approximate = "none"}}},
}};

}  // namespace

Tensor gelu(const Tensor& x, const std::string& approximate) {
  return op.one({x}, {.approximate = approximate});
}

}  // namespace wattle
