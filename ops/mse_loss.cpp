// mse_loss(x, t) = (x - t)^2, averaged (mean), added up (sum) or as it is (none).
//   dx = 2 (x - t) gy, divided by n for mean;   dt = -dx.
#include "ops/elementwise.h"
#include "ops/reduce.h"

namespace wattle {
namespace {

using namespace elementwise;

struct LossAttr {
  std::string reduction = "mean";
  template <class V>
  void visit(V&& v) {
    v("reduction", reduction);
  }
};

struct Fn : Map2 {
  static constexpr int64_t grain = light;
  template <class T>
  T operator()(const T& x, const T& t) const {
    const T d = x - t;
    return d * d;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x, simd::f32<N> t) const {
    return (x - t) * (x - t);
  }
};

void loss_ref(Ins in, Outs out, const LossAttr& a) {
  dispatch_floating("mse_loss", in[0].dtype(), [&]<class T>() {
    const T *x = in[0].data<T>(), *t = in[1].data<T>();
    T* y = out[0].data<T>();
    T total{};
    for (int64_t i = 0; i < in[0].numel(); ++i) {
      const T square = Fn{}(x[i], t[i]);
      if (a.reduction == "none") y[i] = square;
      else total += square;
    }
    if (a.reduction == "sum") *y = total;
    if (a.reduction == "mean") *y = total / T(static_cast<double>(in[0].numel()));
  });
}

template <class Isa>
double squares_of(const float* x, const float* t, int64_t n) {
  double total = 0;
  Isa::call([&]<int N>() WATTLE_INLINE_BODY {
    constexpr int64_t block = 4096;  // elements added up in f32
    for (int64_t begin = 0; begin < n; begin += block) {
      const int64_t end = begin + block < n ? begin + block : n;
      simd::f32<N> a{}, b{};
      int64_t i = begin;
      for (; i + 2 * N <= end; i += 2 * N) {
        const simd::f32<N> d = simd::load<N>(x + i) - simd::load<N>(t + i);
        const simd::f32<N> e = simd::load<N>(x + i + N) - simd::load<N>(t + i + N);
        a += d * d;
        b += e * e;
      }
      float s = simd::hsum<N>(a + b);
      for (; i < end; ++i) s += (x[i] - t[i]) * (x[i] - t[i]);
      total += s;
    }
  });
  return total;
}

template <class Isa>
void loss_simd(Ins in, Outs out, const LossAttr& a) {
  if (a.reduction == "none") return map_simd_typed<Isa>(Fn{}, in, out, Pack<float, float>{});
  const int64_t n = in[0].numel(), chunks = (n + light - 1) / light;
  const float *x = in[0].data<float>(), *t = in[1].data<float>();
  std::vector<double> part(static_cast<size_t>(chunks));
  parallel_for(n, light, [&](int64_t begin, int64_t end) {
    part[static_cast<size_t>(begin / light)] = squares_of<Isa>(x + begin, t + begin, end - begin);
  });
  double total = 0;
  for (const double p : part) total += p;
  if (a.reduction == "mean") total /= static_cast<double>(n);
  *out[0].data<float>() = static_cast<float>(total);
}

// ---- mse_loss_grad: factor (x - t) gy ----

struct GradAttr {
  double factor = 2;
  template <class V>
  void visit(V&& v) {
    v("factor", factor);
  }
};

struct GradFn : Map3 {
  static constexpr const char* name = "mse_loss_grad";
  static constexpr Cost cost{.add = 1, .mul = 2};
  static constexpr Dtypes dtypes = Dtypes::floating;
  static constexpr int64_t grain = light;
  explicit GradFn(const GradAttr& a) : factor(a.factor) {}
  template <class T>
  T operator()(const T& gy, const T& x, const T& t) const {
    return T(factor) * (x - t) * gy;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> gy, simd::f32<N> x, simd::f32<N> t) const {
    return static_cast<float>(factor) * (x - t) * gy;
  }
  double factor;
};

Tensors grad_backward(const Saved<GradAttr>& s, Ins g);

const Op<GradAttr> grad_op{{
    .name = "mse_loss_grad",
    .doc = "Gradient of mse_loss",
    .equation = "gx = factor (x - t) gy",
    .shape = map_shape<GradFn, 3, GradAttr>,
    .cost = map_cost<GradFn, GradAttr>,
    .kernels = kernels<GradFn, GradAttr>(),
    .layout = Layout::strided,
    .saves_in = {0, 1, 2},
    .backward = grad_backward,
    .samples = {{{{{3, 5}}, {{3, 5}}, {{3, 5}}}},
                {{{{}}, {{1}}, {{1}}}, {.factor = 0.5}},
                {{{{}}, {{2, 37}}, {{2, 37}}}, {.factor = 2.0 / 74}}},
}};

Tensors grad_backward(const Saved<GradAttr>& s, Ins g) {
  Tensors d(3);
  if (s.needs(0)) d[0] = sum_to(grad_op.one({g[0], s.in(1), s.in(2)}, s.attr()), s.shape(0));
  if (s.needs(1) || s.needs(2)) {
    const Tensor dx = scale(mul(g[0], s.in(0)), s.attr().factor);
    if (s.needs(1)) d[1] = dx;
    if (s.needs(2)) d[2] = neg(dx);
  }
  return d;
}

Tensors loss_backward(const Saved<LossAttr>& s, Ins gy) {
  const auto n = static_cast<double>(s.shape(0).numel());
  const double factor = s.attr().reduction == "mean" ? 2 / n : 2;
  const Tensor gx = grad_op.one({gy[0], s.in(0), s.in(1)}, {.factor = factor});
  return {gx, s.needs(1) ? neg(gx) : Tensor{}};
}

const Op<LossAttr> op{{
    .name = "mse_loss",
    .doc = "Squared error",
    .equation = "loss = (x - target)^2, averaged",
    .shape =
        [](Ins in, const LossAttr& a) {
          rules::arity("mse_loss", in, 2, 2);
          rules::same_dtype("mse_loss", in);
          rules::floating("mse_loss", in, 0);
          if (in[0].shape() != in[1].shape())
            throw shape_error(str("mse_loss: x ", in[0].shape(), " and target ", in[1].shape(),
                                  ", expected equal shapes"));
          if (a.reduction != "mean" && a.reduction != "sum" && a.reduction != "none")
            throw value_error(
                str("mse_loss: reduction is '", a.reduction, "', expected none, mean or sum"));
          return Metas{{a.reduction == "none" ? in[0].shape() : Shape{}, in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const LossAttr& a) {
          const int64_t n = in[0].numel();
          return Cost{.add = a.reduction == "none" ? n : 2 * n,
                      .mul = n,
                      .special = a.reduction == "mean" ? 1 : 0};
        },
    .kernels = {simd_kernel<simd::Avx512>(loss_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(loss_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(loss_simd<simd::Portable>),
                {"ref", loss_ref}},
    .saves_in = {0, 1},
    .backward = loss_backward,
    .samples = {{{{{3, 5}}, {{3, 5}}}},
                {{{{1}}, {{1}}}, {"sum"}},
                {{{{2, 37}}, {{2, 37}}}, {"none"}},
                {{{{3, 37}}, {{3, 37}}}, {"mean"}}},
    .aliases = {"mse"},
}};

}  // namespace

Tensor mse_loss(const Tensor& x, const Tensor& target, const std::string& reduction) {
  return op.one({x, target}, {reduction});
}

}  // namespace wattle
