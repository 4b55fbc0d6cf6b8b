// sum(x) over dims.   dx = gy, spread over the reduced dims.
#include "ops/reduce.h"

namespace wattle {
namespace {

using reduce::DimAttr;

uint32_t mask_of(Ins in, const DimAttr& a) { return rules::axis_mask("sum", a.dim, in[0].rank()); }

// Integers and truth values add up in 64 bits, as in PyTorch.
template <class T>
using Acc = std::conditional_t<std::is_integral_v<T>, int64_t, T>;

void sum_ref(Ins in, Outs out, const DimAttr& a) {
  const reduce::Split split = reduce::split_dims(in[0].shape(), mask_of(in, a));
  dispatch_all("sum", in[0].dtype(), [&]<class T>() {
    const T* x = in[0].data<T>();
    Acc<T>* y = out[0].data<Acc<T>>();
    reduce::for_each_result(split, [&](int64_t o, int64_t base) {
      Acc<T> s{};
      for_each_offset(split.reduced, split.reduced_strides,
                      [&](int64_t, int64_t i) { s += x[base + i]; });
      y[o] = s;
    });
  });
}

template <class Isa>
void sum_simd(Ins in, Outs out, const DimAttr& a) {
  reduce::sum_f32<Isa>(in[0].data<float>(), in[0].shape(), mask_of(in, a), out[0].data<float>());
}

const Op<DimAttr> op{{
    .name = "sum",
    .doc = "Sum over dims",
    .equation = "y = sum of x over dim",
    .shape =
        [](Ins in, const DimAttr& a) {
          rules::arity("sum", in, 1, 1);
          const DType t = is_floating(in[0].dtype()) ? rules::numbers_dtype(in) : DType::i64;
          return Metas{{rules::reduced_shape(in[0].shape(), mask_of(in, a), a.keepdim), t}};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const DimAttr&) { return Cost{.add = in[0].numel()}; },
    .kernels = {simd_kernel<simd::Avx512>(sum_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(sum_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(sum_simd<simd::Portable>),
                {"ref", sum_ref}},
    .spike_ins = {0},
    .backward =
        [](const Saved<DimAttr>& s, Ins gy) {
          const Shape x = s.shape(0);
          return Tensors{reduce::spread(gy[0], x, rules::axis_mask("sum", s.attr().dim, x.rank()))};
        },
    .samples = {{{{{3, 5}}}},
                {{{{1}}}, {.dim = {0}, .keepdim = true}},
                {{{{2, 37}}}, {.dim = {-1}}},
                {{{{5, 3, 2, 7}}}, {.dim = {0, 2, 3}}},
                {{{{9, 1, 5}}}, {.dim = {0}}},
                {{{{150, 3}}}, {.dim = {0}}},
                {{{{3, 35, 19}}}, {.dim = {1}, .keepdim = true}},
                {{{{66, 69}}}, {.dim = {0}}},
                {{{{3, 133}}}, {.dim = {0}}},
                {{{{4100}}}},
                {{{{7, 100}}}, {.dim = {1}}},
                {{{{2, 3, 4}, -9, 9, SampleIn::integers}}, {.dim = {1}}}},
}};

}  // namespace

Tensor sum(const Tensor& x, const Shape& dim, bool keepdim) {
  return op.one({x}, {.dim = dim, .keepdim = keepdim});
}

}  // namespace wattle
