// mean(x) over dims = sum / n.   dx = gy / n, spread over the reduced dims.
#include "ops/reduce.h"

namespace wattle {
namespace {

using reduce::DimAttr;

uint32_t mask_of(Ins in, const DimAttr& a) { return rules::axis_mask("mean", a.dim, in[0].rank()); }

void mean_ref(Ins in, Outs out, const DimAttr& a) {
  const uint32_t mask = mask_of(in, a);
  const reduce::Split split = reduce::split_dims(in[0].shape(), mask);
  const auto n = static_cast<double>(reduce::reduced_count(in[0].shape(), mask));
  dispatch_floating("mean", in[0].dtype(), [&]<class T>() {
    const T* x = in[0].data<T>();
    T* y = out[0].data<T>();
    reduce::for_each_result(split, [&](int64_t o, int64_t base) {
      T s{};
      for_each_offset(split.reduced, split.reduced_strides,
                      [&](int64_t, int64_t i) { s += x[base + i]; });
      y[o] = s / T(n);
    });
  });
}

template <class Isa>
void mean_simd(Ins in, Outs out, const DimAttr& a) {
  const uint32_t mask = mask_of(in, a);
  float* y = out[0].data<float>();
  reduce::sum_f32<Isa>(in[0].data<float>(), in[0].shape(), mask, y);
  const auto n = static_cast<float>(reduce::reduced_count(in[0].shape(), mask));
  for (int64_t i = 0; i < out[0].numel(); ++i) y[i] /= n;
}

const Op<DimAttr> op{{
    .name = "mean",
    .doc = "Arithmetic mean over dims",
    .equation = "y = sum of x over dim, divided by n",
    .shape =
        [](Ins in, const DimAttr& a) {
          rules::arity("mean", in, 1, 1);
          rules::floating("mean", in, 0);
          return Metas{{rules::reduced_shape(in[0].shape(), mask_of(in, a), a.keepdim),
                        rules::numbers_dtype(in)}};
        },
    .cost =
        [](Ins in, std::span<const Meta> out, const DimAttr&) {
          return Cost{.add = in[0].numel(), .special = out[0].shape.numel()};
        },
    .kernels = {simd_kernel<simd::Avx512>(mean_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(mean_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(mean_simd<simd::Portable>),
                {"ref", mean_ref}},
    .spike_ins = {0},
    .backward =
        [](const Saved<DimAttr>& s, Ins gy) {
          const Shape x = s.shape(0);
          const uint32_t mask = rules::axis_mask("mean", s.attr().dim, x.rank());
          const auto n = static_cast<double>(reduce::reduced_count(x, mask));
          return Tensors{reduce::spread(scale(gy[0], 1 / n), x, mask)};
        },
    .samples = {{{{{3, 5}}}},
                {{{{1}}}, {.dim = {0}, .keepdim = true}},
                {{{{2, 37}}}, {.dim = {-1}}},
                {{{{5, 3, 2, 7}}}, {.dim = {0, 2, 3}, .keepdim = true}}},
}};

}  // namespace

Tensor mean(const Tensor& x, const Shape& dim, bool keepdim) {
  return op.one({x}, {.dim = dim, .keepdim = keepdim});
}

}  // namespace wattle
