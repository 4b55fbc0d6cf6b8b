// clamp(x) = min(max(x, lo), hi).   dx = gy where lo < x < hi, else 0 (as PyTorch 2.15: 0 on a
// bound).
#include <cmath>
#include <limits>

#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct ClampAttr {
  std::optional<double> min, max;
  template <class V>
  void visit(V&& v) {
    v("min", min), v("max", max);
  }
};

int64_t bounds(const ClampAttr& a) { return (a.min ? 1 : 0) + (a.max ? 1 : 0); }

Cost clamp_cost(Ins, std::span<const Meta> out, const ClampAttr& a) {
  return {.cmp = bounds(a) * out[0].shape.numel()};
}

struct Limits {
  explicit Limits(const ClampAttr& a)
      : has_lo(a.min.has_value()),
        has_hi(a.max.has_value()),
        lo(a.min.value_or(0)),
        hi(a.max.value_or(0)) {}
  bool has_lo, has_hi;
  double lo, hi;
};

struct Fn : Map1, Limits {
  static constexpr const char* name = "clamp";
  static constexpr Dtypes dtypes = Dtypes::numeric;
  static constexpr int64_t grain = light;
  explicit Fn(const ClampAttr& a) : Limits(a) {}
  // Not-a-number passes: it is neither below nor above.
  template <class T>
  T operator()(const T& x) const {
    T y = x;
    if (has_lo) y = y < T(lo) ? T(lo) : y;
    if (has_hi) y = y > T(hi) ? T(hi) : y;
    return y;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x) const {
    const simd::f32<N> l = simd::set1<N>(static_cast<float>(lo));
    const simd::f32<N> h = simd::set1<N>(static_cast<float>(hi));
    if (has_lo) x = x < l ? l : x;
    if (has_hi) x = x > h ? h : x;
    return x;
  }
};

Metas clamp_shape(Ins in, const ClampAttr& a) {
  const Metas out = map_shape<Fn, 1, ClampAttr>(in, a);
  if (bounds(a) == 0) throw value_error("clamp: min and max are both none, expected one of them");
  if (is_floating(in[0].dtype())) return out;
  const auto limits = std::numeric_limits<int32_t>();
  const DType t = in[0].dtype();
  const double least = t == DType::u8 ? 0 : t == DType::i8 ? -128 : limits.min();
  const double most = t == DType::u8 ? 255 : t == DType::i8 ? 127 : limits.max();
  for (const auto& b : {a.min, a.max})
    if (b && (*b != std::floor(*b) || *b < least || *b > most))
      throw value_error(str("clamp: bound ", *b, " for ", in[0], ", expected a whole number in [",
                            least, ", ", most, "]"));
  return out;
}

// ---- clamp_grad ----

struct GradFn : Map2, Limits {
  static constexpr const char* name = "clamp_grad";
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  explicit GradFn(const ClampAttr& a) : Limits(a) {}
  template <class T>
  T operator()(const T& gy, const T& x) const {
    const T g = gy;
    const bool above = !has_lo || x > T(lo), below = !has_hi || x < T(hi);
    return above && below ? g : T(0);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> g, simd::f32<N> x) const {
    const simd::f32<N> zero{};
    if (has_lo) g = x > static_cast<float>(lo) ? g : zero;
    if (has_hi) g = x < static_cast<float>(hi) ? g : zero;
    return g;
  }
};

Tensors grad_backward(const Saved<ClampAttr>& s, Ins g);

const Op<ClampAttr> grad_op{{
    .name = "clamp_grad",
    .doc = "Gradient of clamp",
    .equation = "gx = gy where min < x < max, else 0",
    .shape = map_shape<GradFn, 2, ClampAttr>,
    .cost = clamp_cost,
    .kernels = kernels<GradFn, ClampAttr>(),
    .layout = Layout::strided,
    .saves_in = {1},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}, -1, 1, SampleIn::uniform, {-0.5, 0.75}}}, {-0.5, 0.75}},
                {{{{1}}, {{1}, 0.3, 1}}, {.min = 0.25}},
                {{{{2, 37}}, {{2, 37}, -1, 1, SampleIn::uniform, {0.25}}}, {.max = 0.25}}},
}};

Tensors grad_backward(const Saved<ClampAttr>& s, Ins g) {
  return {grad_op.one({g[0], s.in(1)}, s.attr()), {}};
}

const Op<ClampAttr> op{{
    .name = "clamp",
    .doc = "Limits values to an interval; one end may be open",
    .equation = "y = min(max(x, lo), hi)",
    .shape = clamp_shape,
    .cost = clamp_cost,
    .kernels = kernels<Fn, ClampAttr>(),
    .layout = Layout::strided,
    .saves_in = {0},
    .backward =
        [](const Saved<ClampAttr>& s, Ins gy) {
          return Tensors{grad_op.one({gy[0], s.in(0)}, s.attr())};
        },
    .samples = {{{{{3, 5}, -1, 1, SampleIn::uniform, {-0.5, 0.75}}}, {-0.5, 0.75}},
                {{{{1}, 0.3, 1}}, {.min = 0.25}},
                {{{{2, 37}, -1, 1, SampleIn::uniform, {0.25}}}, {.max = 0.25}},
                {{{{2, 5}, -9, 9, SampleIn::integers}}, {-3, 4}}},
}};

}  // namespace

Tensor clamp(const Tensor& x, std::optional<double> min, std::optional<double> max) {
  return op.one({x}, {.min = min, .max = max});
}

}  // namespace wattle
