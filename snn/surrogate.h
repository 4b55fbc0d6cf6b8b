// Surrogate gradients: what stands for the derivative of the step [u >= 0], u = potential minus
// threshold. All are even and positive at 0; none overflows far from it.
#pragma once
#include <string>

#include "core/counted.h"
#include "core/simd_math.h"

namespace wattle::snn {

enum class SurrogateKind : uint8_t {
  atan,             ///< (a/2) / (1 + (pi a u / 2)^2)
  sigmoid,          ///< a sg(a u) (1 - sg(a u))
  fast_sigmoid,     ///< 1 / (1 + a |u|)^2; SuperSpike of Zenke and Ganguli
  super_spike,      ///< a / (1 + |u|)^2: a scales, it does not sharpen
  soft_sign,        ///< 1 / (2 a (1/a + |u|)^2)
  triangle,         ///< a max(0, 1 - |u|)
  quadratic,        ///< a - a^2 |u| where that is positive, else 0
  rectangle,        ///< a where |u| < 1 / (2 a), else 0
  exponential,      ///< 1/(2 a) exp(-|u| / a)
  straight_through  ///< 1
};

struct Surrogate {
  SurrogateKind kind = SurrogateKind::atan;
  double a = 2;
};

/// The surrogate called `name` with slope `a` (0 = its usual one); throws value_error that names
/// `op`, listing what there is.
Surrogate surrogate(const char* op, const std::string& name, double a);
/// Its operations per number, as written in surrogate_value.
Cost surrogate_cost(SurrogateKind k);

/// The definition, for one number.
template <class T>
T surrogate_value(const Surrogate& s, const T& u) {
  const double a = s.a;
  const T one(1);
  switch (s.kind) {
    case SurrogateKind::atan: {
      const T t = u * T(1.5707963267948966 * a);
      return T(a / 2) / (one + t * t);
    }
    case SurrogateKind::sigmoid: {
      const T e = num::exp(num::abs(u) * T(-a)), d = one + e;
      return e * T(a) / (d * d);
    }
    case SurrogateKind::fast_sigmoid: {
      const T d = one + num::abs(u) * T(a);
      return one / (d * d);
    }
    case SurrogateKind::super_spike: {
      const T d = one + num::abs(u);
      return T(a) / (d * d);
    }
    case SurrogateKind::soft_sign: {
      const T d = T(1 / a) + num::abs(u);
      return T(1 / (2 * a)) / (d * d);
    }
    case SurrogateKind::triangle: {
      const T d = one - num::abs(u);
      return d > T(0) ? d * T(a) : T(0) * T(a);
    }
    case SurrogateKind::quadratic: {
      const T d = T(a) - num::abs(u) * T(a * a);
      return d > T(0) ? d : T(0);
    }
    case SurrogateKind::rectangle: return num::abs(u) < T(1 / (2 * a)) ? T(a) : T(0);
    case SurrogateKind::exponential: return num::exp(num::abs(u) * T(-1 / a)) * T(1 / (2 * a));
    case SurrogateKind::straight_through: return one;
  }
  return one;
}

/// e^x of x <= 0, 0 below -87 (where numbers become subnormal). Half the work of simd::exp, whose
/// range reduction and polynomial it shares; fused, where neurons' own files are compiled without
/// contraction. Error below 2 ulp.
template <int N>
WATTLE_FORCE_INLINE simd::f32<N> exp_below_zero(simd::f32<N> x) {
  using V = simd::f32<N>;
  using simd::fma;
  const V least = V{} - 87.0f, given = x;
  x = x < least ? least : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  const V shifted = fma<N>(x, V{} + 1.44269504088896341f, V{} + magic), n = shifted - magic;
  V r = fma<N>(n, V{} - 0.693359375f, x);
  r = fma<N>(n, V{} + 2.12194440e-4f, r);
  V p = V{} + 1.9875691500e-4f;
  for (const float c :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = fma<N>(p, r, V{} + c);
  p = fma<N>(p * r, r, r) + 1.0f;
  // 2^n goes to the exponent; magic leaves no bit where n is.
  const V e = (V)((simd::u32<N>)p + ((simd::u32<N>)shifted << 23));
  return given < least ? V{} : fma<N>(x, V{}, e);  // not-a-number stays it
}

template <int N>
WATTLE_FORCE_INLINE simd::f32<N> surrogate_lanes(const Surrogate& s, simd::f32<N> u) {
  using V = simd::f32<N>;
  const auto a = static_cast<float>(s.a);
  const V zero{}, m = u < zero ? -u : u;
  switch (s.kind) {
    case SurrogateKind::atan: {
      const V t = u * (1.5707963267948966f * a);
      return (V{} + a / 2) / (1.0f + t * t);
    }
    case SurrogateKind::sigmoid: {
      const V e = exp_below_zero<N>(m * -a), d = 1.0f + e;
      return e * a / (d * d);
    }
    case SurrogateKind::fast_sigmoid: {
      const V d = 1.0f + m * a;
      return 1.0f / (d * d);
    }
    case SurrogateKind::super_spike: {
      const V d = 1.0f + m;
      return a / (d * d);
    }
    case SurrogateKind::soft_sign: {
      const V d = 1 / a + m;
      return 1 / (2 * a) / (d * d);
    }
    case SurrogateKind::triangle: {
      const V d = 1.0f - m;
      return d > zero ? d * a : zero;
    }
    case SurrogateKind::quadratic: {
      const V d = a - m * (a * a);
      return d > zero ? d : zero;
    }
    case SurrogateKind::rectangle: return m < 1 / (2 * a) ? V{} + a : zero;
    case SurrogateKind::exponential: return exp_below_zero<N>(m * (-1 / a)) * (1 / (2 * a));
    case SurrogateKind::straight_through: return V{} + 1.0f;
  }
  return zero;
}

/// slope[i] = the surrogate at h[i] - v_th, i < n; whole vectors are written. One loop for each
/// kind: a choice inside the loop would cost as much as the arithmetic.
template <int N>
WATTLE_FORCE_INLINE void surrogate_row(const Surrogate& s, float v_th, const float* h, float* slope,
                                       int64_t n) {
  const auto run = [&]<SurrogateKind K>() WATTLE_INLINE_BODY {
    const Surrogate fixed{K, s.a};
    for (int64_t i = 0; i < n; i += N)
      simd::store<N>(slope + i, surrogate_lanes<N>(fixed, simd::load<N>(h + i) - v_th));
  };
  switch (s.kind) {
    case SurrogateKind::atan: return run.template operator()<SurrogateKind::atan>();
    case SurrogateKind::sigmoid: return run.template operator()<SurrogateKind::sigmoid>();
    case SurrogateKind::fast_sigmoid: return run.template operator()<SurrogateKind::fast_sigmoid>();
    case SurrogateKind::super_spike: return run.template operator()<SurrogateKind::super_spike>();
    case SurrogateKind::soft_sign: return run.template operator()<SurrogateKind::soft_sign>();
    case SurrogateKind::triangle: return run.template operator()<SurrogateKind::triangle>();
    case SurrogateKind::quadratic: return run.template operator()<SurrogateKind::quadratic>();
    case SurrogateKind::rectangle: return run.template operator()<SurrogateKind::rectangle>();
    case SurrogateKind::exponential: return run.template operator()<SurrogateKind::exponential>();
    case SurrogateKind::straight_through:
      return run.template operator()<SurrogateKind::straight_through>();
  }
}

}  // namespace wattle::snn
