// Products of f32 numbers by the FP8 units of a GPU (--math fp8): both operands become E4M3 codes
// under a scale that puts their largest number at 448, side by side along k and padded to what
// cuBLASLt takes; sums are f32.
#include "core/cuda/blas.h"
#include "core/cuda/each.cuh"
#include "quant/minifloat.h"

namespace wattle::device {
namespace {

using E4M3 = quant::e4m3_format;

// Rows of an operand, each along k.
struct Operand {
  const float* p;
  int64_t rows, k, row, step;  // element (i, t) at i * row + t * step
};
int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// The scale: the largest magnitude over 448. Not-a-number and infinity stay visible in the codes.
struct ScaleOf {
  using Acc = float;
  Operand x;
  float* to;
  WATTLE_BOTH float start() const { return 0; }
  WATTLE_BOTH void take(float& a, int64_t, int64_t at) const {
    const int64_t i = at / x.k, t = at - i * x.k;
    const float v = ::fabsf(x.p[i * x.row + t * x.step]);
    if (v > a && v <= 3.402823466e38f) a = v;
  }
  WATTLE_BOTH void merge(float& a, float b) const { a = b > a ? b : a; }
  WATTLE_BOTH void store(int64_t, float a) const {
    const float scale = a / 448;  // 0 also where every number is next to nothing
    *to = scale > 0 ? scale : 1;
  }
};
struct ToCodes {
  Operand x;
  int64_t k;  // padded
  const float* scale;
  uint8_t* to;
  WATTLE_BOTH void operator()(int64_t at) const {
    const int64_t i = at / k, t = at - i * k;
    const bool there = i < x.rows && t < x.k;
    const double v = there ? static_cast<double>(x.p[i * x.row + t * x.step]) / *scale : 0;
    to[at] = static_cast<uint8_t>(E4M3::encode(v, quant::Saturate::off));
  }
};
// A thread an element, where there are no such units.
struct Plain {
  int64_t n, k;
  const uint8_t *a, *b;
  const float *a_scale, *b_scale;
  float* c;
  WATTLE_BOTH void operator()(int64_t at) const {
    const int64_t i = at / n, j = at - i * n;
    float sum = 0;
    for (int64_t t = 0; t < k; ++t)
      sum += static_cast<float>(E4M3::decode(a[i * k + t])) *
             static_cast<float>(E4M3::decode(b[j * k + t]));
    c[at] = sum * *a_scale * *b_scale;
  }
};
struct Unpad {
  int64_t n, from_n;
  const float *from, *bias;
  float* c;
  WATTLE_BOTH void operator()(int64_t at) const {
    const int64_t i = at / n, j = at - i * n;
    c[at] = from[i * from_n + j] + (bias ? bias[j] : 0);
  }
};

const char* one(const Launch& l, const Operand& a, const Operand& b, const float* bias, float* c) {
  const int64_t m = padded(a.rows), n = padded(b.rows), k = padded(a.k);
  const Scratch qa(m * k), qb(n * k), sums(m * n * 4), scales(32);
  if (!qa || !qb || !sums || !scales)
    return fail("out of memory for codes of a product of %lld x %lld x %lld",
                static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k));
  float *const sa = scales.as<float>(), *const sb = sa + 4;
  const char* e = fold(1, a.rows * a.k, ScaleOf{a, sa});
  if (!e) e = fold(1, b.rows * b.k, ScaleOf{b, sb});
  if (!e) e = each(m * k, ToCodes{a, k, sa, qa.as<uint8_t>()});
  if (!e) e = each(n * k, ToCodes{b, k, sb, qb.as<uint8_t>()});
  if (e) return e;
  Gemm g;
  g.m = m, g.n = n, g.k = k, g.dtype = fp8_e4m3;
  g.a = {qa.as<void>(), k, 1, 0}, g.b = {qb.as<void>(), 1, k, 0}, g.c = sums.as<void>();
  g.a_scale = sa, g.b_scale = sb;
  if (const char* no = blas_refusal(g)) return fail("a product of fp8: %s", no);
  if (emulated()) {
    e = blas_describe(g);
    if (!e)
      e = each(m * n, Plain{n, k, qa.as<uint8_t>(), qb.as<uint8_t>(), sa, sb, sums.as<float>()});
  } else {
    e = blas_run(g);
  }
  if (e) return e;
  l.kernel = "cublaslt_fp8";
  return each(a.rows * b.rows, Unpad{b.rows, n, sums.as<float>(), bias, c});
}

const char* product_of_fp8(const Launch& l, const Gemm& g) {
  for (int64_t batch = 0; batch < g.batch; ++batch) {
    const Operand a{static_cast<const float*>(g.a.p) + batch * g.a.batch_step, g.m, g.k, g.a.row,
                    g.a.col};
    const Operand b{static_cast<const float*>(g.b.p) + batch * g.b.batch_step, g.n, g.k, g.b.col,
                    g.b.row};
    if (const char* e = one(l, a, b, static_cast<const float*>(g.bias),
                            static_cast<float*>(g.c) + batch * g.c_step))
      return e;
  }
  return nullptr;
}

const bool registered = [] {
  set_fp8_product(product_of_fp8);
  return true;
}();

}  // namespace
}  // namespace wattle::device
