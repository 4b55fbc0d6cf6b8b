// int_conv2d: convolution of 8-bit integers in 32 bits, for quantised layers. No gradient. Every
// image is laid out as the taps of its outputs and multiplied with the weights
// (quant/int_matmul_kernels.h).
#include "core/error.h"
#include "ops/conv2d_kernels.h"
#include "ops/rules.h"
#include "quant/int_matmul_kernels.h"
#include "quant/ops.h"
#include "quant/patches.h"

namespace wattle {
namespace {

using conv::Geometry;

Metas shape(Ins in, const IntConvAttr& a) {
  rules::arity("int_conv2d", in, 2, 2);
  for (int i : {0, 1})
    if (in[static_cast<size_t>(i)].dtype() != DType::i8)
      throw dtype_error(
          str("int_conv2d: operand ", i, " is ", in[static_cast<size_t>(i)], ", expected i8"));
  rules::rank("int_conv2d", in, 0, 4);
  if (a.pad_value < -128 || a.pad_value > 127)
    throw value_error(str("int_conv2d: pad_value ", a.pad_value, " found, expected -128 to 127"));
  const Geometry g = conv::forward_geometry(in, a, "int_conv2d");
  if (g.c / g.groups * g.r * g.s > 65793)
    throw shape_error(str("int_conv2d: ", g.c / g.groups * g.r * g.s,
                          " taps found, expected at most 65793, for which 32 bits hold every sum"));
  return {{{g.n, g.k, g.ho, g.wo}, DType::i32}};
}

using Gemm = void (*)(const quant::IntGemm&);

void run_with(Ins in, Outs out, const IntConvAttr& a, Gemm gemm) {
  const Geometry g = conv::forward_geometry(in, a, "int_conv2d");
  const int64_t cg = g.c / g.groups, kg = g.k / g.groups, taps = cg * g.r * g.s;
  const int64_t plane = g.ho * g.wo;
  const int8_t *x = in[0].data<int8_t>(), *w = in[1].data<int8_t>();
  int32_t* y = out[0].data<int32_t>();
  parallel_for(g.n * g.groups, 1, [&](int64_t begin, int64_t end) {
    const Tensor scratch = Tensor::empty({plane * taps}, DType::i8);
    for (int64_t job = begin; job < end; ++job) {
      const int64_t n = job / g.groups, group = job % g.groups;
      quant::patches(g, x + (n * g.c + group * cg) * g.h * g.w, static_cast<int8_t>(a.pad_value),
                     scratch.data<int8_t>());
      gemm({kg, plane, taps, reinterpret_cast<const uint8_t*>(w + group * kg * taps), false,
            scratch.data<int8_t>(), 1, taps, y + (n * g.k + group * kg) * plane});
    }
  });
}

template <Gemm G>
void run(Ins in, Outs out, const IntConvAttr& a) {
  run_with(in, out, a, G);
}

SampleIn ints(const Shape& s) {
  SampleIn in{s, -128, 128, SampleIn::integers};
  in.int_dtype = DType::i8;
  return in;
}

IntConvAttr attr(ConvGeometryAttr g, int64_t pad) {
  IntConvAttr a;
  static_cast<ConvGeometryAttr&>(a) = g;
  a.pad_value = pad;
  return a;
}

const Op<IntConvAttr> op{{
    .name = "int_conv2d",
    .doc = "2-D convolution of 8-bit integers in 32 bits",
    .equation = "y[n,k,p,q] = sum_crs w[k,c,r,s] x[n,c,p*stride-pad+r*dil,q*stride-pad+s*dil]",
    .shape = shape,
    .cost =
        [](Ins in, std::span<const Meta> out, const IntConvAttr& a) {
          const Geometry g = conv::forward_geometry(in, a, "int_conv2d");
          return Cost{.mac = out[0].shape.numel() * (g.c / g.groups) * g.r * g.s};
        },
    .kernels = {{.name = "vnni",
                 .run = run<quant::int_gemm_vnni>,
                 .when = quant::without_vnni<IntConvAttr>,
                 .isa = simd::Level::avx512},
                {.name = "avxvnni",
                 .run = run<quant::int_gemm_avxvnni>,
                 .when = quant::without_avxvnni<IntConvAttr>,
                 .isa = simd::Level::avx2},
                {.name = "avx2", .run = run<quant::int_gemm_avx2>, .isa = simd::Level::avx2},
                {"ref", run<quant::int_gemm_ref>}},
    .samples = {{{ints({2, 3, 5, 7}), ints({4, 3, 3, 3})}, attr({1, 1, 1, 1}, 5)},
                {{ints({1, 1, 1, 1}), ints({1, 1, 1, 1})}, {}},
                {{ints({2, 4, 9, 8}), ints({6, 2, 3, 2})},
                 attr({Pair(2, 1), Pair(1, 2), Pair(2, 1), 2}, -128)}},
}};

}  // namespace

Tensor int_conv2d(const Tensor& x, const Tensor& weight, const IntConvAttr& a) {
  return op.one({x, weight}, a);
}

}  // namespace wattle
