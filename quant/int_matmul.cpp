// int_matmul: y = a b in 32-bit integers, for quantised layers. No gradient.
#include "core/error.h"
#include "ops/rules.h"
#include "quant/int_matmul_kernels.h"
#include "quant/ops.h"

namespace wattle {
namespace {

using quant::IntGemm;

struct IntMatmulAttr {
  bool transpose_b = false;
  template <class V>
  void visit(V&& v) {
    v("transpose_b", transpose_b);
  }
};

IntGemm plan(Ins in, const IntMatmulAttr& attr) {
  const Tensor &a = in[0], &b = in[1];
  IntGemm g{};
  g.m = a.size(0);
  g.k = a.size(1);
  g.n = b.size(attr.transpose_b ? 0 : 1);
  g.a_unsigned = a.dtype() == DType::u8;
  g.b_row = attr.transpose_b ? 1 : g.n;
  g.b_col = attr.transpose_b ? g.k : 1;
  return g;
}

IntGemm with_data(Ins in, Outs out, const IntMatmulAttr& attr) {
  IntGemm g = plan(in, attr);
  g.a = static_cast<const uint8_t*>(in[0].raw());
  g.b = in[1].data<int8_t>();
  g.c = out[0].data<int32_t>();
  return g;
}

Metas shape(Ins in, const IntMatmulAttr& attr) {
  rules::arity("int_matmul", in, 2, 2);
  rules::rank("int_matmul", in, 0, 2);
  rules::rank("int_matmul", in, 1, 2);
  if (in[0].dtype() != DType::i8 && in[0].dtype() != DType::u8)
    throw dtype_error(str("int_matmul: operand 0 is ", in[0], ", expected i8 or u8"));
  if (in[1].dtype() != DType::i8)
    throw dtype_error(str("int_matmul: operand 1 is ", in[1], ", expected i8"));
  const IntGemm g = plan(in, attr);
  const int64_t k = in[1].size(attr.transpose_b ? 1 : 0);
  if (k != g.k)
    throw shape_error(str("int_matmul: inner sizes differ: ", in[0].shape(), " x ", in[1].shape(),
                          " (", g.k, " and ", k, ")"));
  // Beyond, 32 bits may not hold the sum of k products of 255 * 128.
  if (g.k > 65793)
    throw shape_error(str("int_matmul: inner size ", g.k,
                          " found, expected at most 65793, for "
                          "which 32 bits hold every sum"));
  return {{{g.m, g.n}, DType::i32}};
}

template <void (*Run)(const IntGemm&)>
void run(Ins in, Outs out, const IntMatmulAttr& attr) {
  Run(with_data(in, out, attr));
}

Refusal without_amx(Ins in, const IntMatmulAttr& attr) {
  if (!quant::has_amx()) return {"this machine has no AMX"};
  const IntGemm g = plan(in, attr);
  if (g.m < 16 || g.k < 32) return {str(g.m, " rows of ", g.k, " leave its tiles mostly empty")};
  return {};
}

// Seven of eight multiplications, of sides made even; additions of blocks before and after them.
Cost strassen_executes(Ins in, const Cost&, const IntMatmulAttr& attr) {
  const IntGemm g = plan(in, attr);
  const int64_t m = (g.m + 1) / 2, n = (g.n + 1) / 2, k = (g.k + 1) / 2;
  return {.mac = 7 * m * n * k, .add = 5 * m * k + 5 * k * n + 8 * m * n};
}

SampleIn ints(const Shape& s, DType t = DType::i8) {
  SampleIn in{s, t == DType::u8 ? 0.0 : -128.0, t == DType::u8 ? 256.0 : 128.0, SampleIn::integers};
  in.int_dtype = t;
  return in;
}

const Op<IntMatmulAttr> op{{
    .name = "int_matmul",
    .doc = "Matrix product of 8-bit integers in 32 bits",
    .equation = "y[i,j] = sum_k a[i,k] b[k,j]",
    .shape = shape,
    .cost =
        [](Ins in, std::span<const Meta>, const IntMatmulAttr& attr) {
          const IntGemm g = plan(in, attr);
          return Cost{.mac = g.m * g.n * g.k};
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const IntMatmulAttr&) {
          return out[0].shape.numel() == 0 ? Bytes{} : default_bytes(in, out, {});
        },
    .kernels = {{.name = "amx",
                 .run = run<quant::int_gemm_amx>,
                 .when = without_amx,
                 .isa = simd::Level::avx512},
                {.name = "vnni",
                 .run = run<quant::int_gemm_vnni>,
                 .when = quant::without_vnni<IntMatmulAttr>,
                 .isa = simd::Level::avx512},
                {.name = "avxvnni",
                 .run = run<quant::int_gemm_avxvnni>,
                 .when = quant::without_avxvnni<IntMatmulAttr>,
                 .isa = simd::Level::avx2},
                {.name = "strassen",
                 .run = run<quant::int_gemm_strassen>,
                 .when = quant::too_small_for_strassen<IntMatmulAttr>,
                 .executes = strassen_executes,
                 .isa = simd::Level::avx2},
                {.name = "avx2", .run = run<quant::int_gemm_avx2>, .isa = simd::Level::avx2},
                {"ref", run<quant::int_gemm_ref>}},
    .samples = {{{ints({5, 7}), ints({7, 9})}},
                {{ints({1, 1}), ints({1, 1})}},
                {{ints({33, 70}), ints({50, 70})}, {true}},
                {{ints({40, 130}, DType::u8), ints({130, 37})}},
                {{ints({17, 64}), ints({64, 16})}},
                {{ints({769, 513}), ints({131, 513})}, {true}}},  // large enough for strassen
}};

}  // namespace

Tensor int_matmul(const Tensor& a, const Tensor& b, bool transpose_b) {
  return op.one({a, b}, {transpose_b});
}

}  // namespace wattle
