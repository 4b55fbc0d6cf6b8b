// var(x) over dims = sum (x - mean)^2 / (n - correction), in two passes: the difference of large
// sums would lose all digits.   dx = 2 gy (x - mean) / (n - correction).
#include "ops/elementwise.h"
#include "ops/reduce.h"

namespace wattle {
namespace {

struct VarAttr {
  Shape dim;
  int64_t correction = 1;
  bool keepdim = false;
  template <class V>
  void visit(V&& v) {
    v("dim", dim), v("correction", correction), v("keepdim", keepdim);
  }
};

uint32_t mask_of(const Shape& x, const VarAttr& a) {
  return rules::axis_mask("var", a.dim, x.rank());
}
// n - correction, not below 0 (PyTorch then divides by 0).
double divisor(const Shape& x, const VarAttr& a) {
  const int64_t n = reduce::reduced_count(x, mask_of(x, a)) - a.correction;
  return n > 0 ? static_cast<double>(n) : 0.0;
}

void var_ref(Ins in, Outs out, const VarAttr& a) {
  const uint32_t mask = mask_of(in[0].shape(), a);
  const reduce::Split split = reduce::split_dims(in[0].shape(), mask);
  const auto n = static_cast<double>(reduce::reduced_count(in[0].shape(), mask));
  const double left = divisor(in[0].shape(), a);
  dispatch_floating("var", in[0].dtype(), [&]<class T>() {
    const T* x = in[0].data<T>();
    reduce::for_each_result(split, [&](int64_t o, int64_t base) {
      T s{}, squares{};
      for_each_offset(split.reduced, split.reduced_strides,
                      [&](int64_t, int64_t i) { s += x[base + i]; });
      const T mean = s / T(n);
      for_each_offset(split.reduced, split.reduced_strides, [&](int64_t, int64_t i) {
        const T d = x[base + i] - mean;
        squares += d * d;
      });
      out[0].data<T>()[o] = squares / T(left);
    });
  });
}

struct SquaredDistance : elementwise::Map2 {
  static constexpr int64_t grain = elementwise::light;
  template <class T>
  T operator()(const T& x, const T& m) const {
    return (x - m) * (x - m);
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::f32<N> x, simd::f32<N> m) const {
    return (x - m) * (x - m);
  }
};

template <class Isa>
void var_simd(Ins in, Outs out, const VarAttr& a) {
  const Shape& shape = in[0].shape();
  const uint32_t mask = mask_of(shape, a);
  const Tensor mean = Tensor::empty(rules::reduced_shape(shape, mask, true));
  const Tensor squares = Tensor::empty(shape);
  float *m = mean.data<float>(), *y = out[0].data<float>();
  reduce::sum_f32<Isa>(in[0].data<float>(), shape, mask, m);
  const auto n = static_cast<float>(reduce::reduced_count(shape, mask));
  for (int64_t i = 0; i < mean.numel(); ++i) m[i] /= n;
  const Tensor operands[] = {in[0], mean};
  elementwise::map_simd_typed<Isa>(SquaredDistance{}, operands, {&squares, 1},
                                   elementwise::Pack<float, float>{});
  reduce::sum_f32<Isa>(squares.data<float>(), shape, mask, y);
  const auto left = static_cast<float>(divisor(shape, a));
  for (int64_t i = 0; i < out[0].numel(); ++i) y[i] /= left;
}

// The squares pass through memory once.
Cost var_executes(Ins in, const Cost& declared, const VarAttr&) {
  Cost c = declared;
  c.read += in[0].nbytes();
  c.written += in[0].nbytes();
  return c;
}

const Op<VarAttr> op{{
    .name = "var",
    .doc = "Variance over dims",
    .equation = "y = sum (x - mean x)^2 / (n - correction)",
    .shape =
        [](Ins in, const VarAttr& a) {
          rules::arity("var", in, 1, 1);
          rules::floating("var", in, 0);
          const Shape& x = in[0].shape();
          return Metas{{rules::reduced_shape(x, mask_of(x, a), a.keepdim), in[0].dtype()}};
        },
    .cost =
        [](Ins in, std::span<const Meta> out, const VarAttr&) {
          const int64_t n = in[0].numel();
          return Cost{.add = 3 * n, .mul = n, .special = 2 * out[0].shape.numel()};
        },
    .kernels = {simd_kernel<simd::Avx512>(var_simd<simd::Avx512>, nullptr, var_executes),
                simd_kernel<simd::Avx2>(var_simd<simd::Avx2>, nullptr, var_executes),
                simd_kernel<simd::Portable>(var_simd<simd::Portable>, nullptr, var_executes),
                {"ref", var_ref}},
    .saves_in = {0},
    .backward =
        [](const Saved<VarAttr>& s, Ins gy) {
          const Tensor x = s.in(0);
          const VarAttr& a = s.attr();
          const uint32_t mask = mask_of(x.shape(), a);
          const Tensor g = reduce::spread(scale(gy[0], 2 / divisor(x.shape(), a)), x.shape(), mask);
          return Tensors{mul(sub(x, mean(x, a.dim, true)), g)};
        },
    .samples = {{{{{3, 5}}}},
                {{{{1}}}, {.dim = {0}, .correction = 0, .keepdim = true}},
                {{{{2, 37}, 5, 6}}, {.dim = {-1}}},
                {{{{5, 3, 2, 7}}}, {.dim = {0, 2, 3}, .correction = 2}}},
}};

}  // namespace

Tensor var(const Tensor& x, const Shape& dim, int64_t correction, bool keepdim) {
  return op.one({x}, {.dim = dim, .correction = correction, .keepdim = keepdim});
}

}  // namespace wattle
