// Device code of matmul and linear: cuBLASLt, or a thread an element where it refuses.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/cuda/blas.h"
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// Sums are of type A, results of type Y.
template <class T, class A, class Y = A>
struct Product {
  Gemm g;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t b = i / (g.m * g.n), at = i - b * g.m * g.n, row = at / g.n, col = at - row * g.n;
    const T* const a = static_cast<const T*>(g.a.p) + b * g.a.batch_step + row * g.a.row;
    const T* const c = static_cast<const T*>(g.b.p) + b * g.b.batch_step + col * g.b.col;
    const A bias = g.bias ? static_cast<A>(static_cast<const Y*>(g.bias)[col]) : A(0);
    A total = 0;
    for (int64_t k = 0; k < g.k; ++k)
      total += static_cast<A>(a[k * g.a.col]) * static_cast<A>(c[k * g.b.row]);
    static_cast<Y*>(g.c)[b * g.c_step + at] = static_cast<Y>(total + bias);
  }
};

}  // namespace

/// Also for quant/int_matmul.cu.
const char* product(const Launch& l, const Gemm& g) {
  if (g.dtype == f32 && g.math == math_fp8 && g.k > 0) return fp8_product(l, g);
  const bool plain = blas_refusal(g) != nullptr;
  if (!plain && emulated())  // the descriptors at least are cuBLAS's
    if (const char* e = blas_describe(g)) return e;
  if (!plain && !emulated()) {
    l.kernel = "cublaslt";
    return blas_run(g);
  }
  const int64_t all = g.batch * g.m * g.n;
  if (g.dtype == bf16) return each(all, Product<__nv_bfloat16, float, __nv_bfloat16>{g});
  if (g.dtype == fp16) return each(all, Product<__half, float, __half>{g});
  if (g.dtype == i8) return each(g.batch * g.m * g.n, Product<int8_t, int32_t>{g});
  return numeric(l, g.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(g.batch * g.m * g.n, Product<T, T>{g});
  });
}

namespace {

// The last two dims of an operand as a matrix.
void as_matrix(const View& v, bool transposed, bool left, Matrix* m, int64_t* rows, int64_t* cols) {
  m->p = v.data;
  if (v.rank == 1) {
    *rows = left ? 1 : v.size[0];
    *cols = left ? v.size[0] : 1;
    m->row = left ? v.size[0] : v.stride[0];
    m->col = left ? v.stride[0] : 1;
    return;
  }
  *rows = v.size[v.rank - 2], *cols = v.size[v.rank - 1];
  m->row = v.stride[v.rank - 2], m->col = v.stride[v.rank - 1];
  if (!transposed) return;
  std::swap(*rows, *cols);
  std::swap(m->row, m->col);
}

// Batches of a result of `batch` dims: one step if the operand goes through them evenly.
struct Batches {
  int rank = 0;
  int64_t size[max_rank], a[max_rank], b[max_rank], count = 1;
};
Batches batches(const Launch& l) {
  const View &x = l.in[0], &y = l.in[1];
  Batches out;
  const int xb = x.rank > 2 ? x.rank - 2 : 0, yb = y.rank > 2 ? y.rank - 2 : 0;
  const int rank = xb > yb ? xb : yb;
  for (int d = 0; d < rank; ++d) {
    const int i = d - (rank - xb), j = d - (rank - yb);
    const int64_t sx = i >= 0 ? x.size[i] : 1, sy = j >= 0 ? y.size[j] : 1;
    const int64_t n = sx == 1 ? sy : sx, a = sx == 1 ? 0 : x.stride[i],
                  b = sy == 1 ? 0 : y.stride[j];
    out.count *= n;
    if (n == 1) continue;
    const int last = out.rank - 1;
    if (out.rank && out.a[last] == a * n && out.b[last] == b * n) {
      out.size[last] *= n, out.a[last] = a, out.b[last] = b;
    } else {
      out.size[out.rank] = n, out.a[out.rank] = a, out.b[out.rank++] = b;
    }
  }
  return out;
}

}  // namespace

// Every product of a batch, with sums that are no floats'.
static const char* exact(const Launch& l, const Gemm& g) {
  const int64_t bytes = element_bytes(g.dtype);
  for (int64_t b = 0; b < g.batch; ++b) {
    const auto at = [&](const Matrix& x) {
      return static_cast<const char*>(x.p) + b * x.batch_step * bytes;
    };
    const ExactProduct p{g.m,
                         g.n,
                         g.k,
                         at(g.a),
                         g.a.row,
                         g.a.col,
                         at(g.b),
                         g.b.row,
                         g.b.col,
                         g.bias,
                         static_cast<char*>(g.c) + b * g.c_step * bytes,
                         g.n,
                         1};
    if (const char* e = exact_product(l, p)) return e;
  }
  return nullptr;
}

WATTLE_DEVICE_OP_WITH_HALVES(matmul) {
  Gemm g;
  int64_t k = 0;
  as_matrix(l.in[0], integer(l, "transpose_a"), true, &g.a, &g.m, &g.k);
  as_matrix(l.in[1], integer(l, "transpose_b"), false, &g.b, &k, &g.n);
  g.c = l.out[0].data;
  g.dtype = l.in[0].dtype;
  g.math = l.math;
  g.c_step = g.m * g.n;
  if (g.m * g.n == 0) return nullptr;
  const Batches b = batches(l);
  g.a.batch_step = b.rank ? b.a[b.rank - 1] : 0;
  g.b.batch_step = b.rank ? b.b[b.rank - 1] : 0;
  g.batch = b.rank ? b.size[b.rank - 1] : 1;
  if (b.count == 0) return nullptr;
  const int64_t bytes = element_bytes(g.dtype);
  const Gemm first = g;
  for (int64_t outer = 0; outer < b.count / g.batch; ++outer) {
    int64_t left = outer, oa = 0, ob = 0;
    for (int d = b.rank - 2; d >= 0; --d) {
      oa += left % b.size[d] * b.a[d];
      ob += left % b.size[d] * b.b[d];
      left /= b.size[d];
    }
    g.a.p = static_cast<const char*>(first.a.p) + oa * bytes;
    g.b.p = static_cast<const char*>(first.b.p) + ob * bytes;
    g.c = static_cast<char*>(first.c) + outer * g.batch * g.c_step * bytes;
    if (const char* e = float_sums(l) ? product(l, g) : exact(l, g)) return e;
  }
  return nullptr;
}

// y [rows, n] = x [rows, k] w^T [k, n] + b
WATTLE_DEVICE_OP_WITH_HALVES(linear) {
  const View &x = l.in[0], &w = l.in[1];
  Gemm g;
  g.n = w.size[0], g.k = w.size[1];
  g.m = g.n ? l.out[0].numel / g.n : 0;
  if (g.m * g.n == 0) return nullptr;
  g.a = {x.data, g.k, 1, 0};
  g.b = {w.data, 1, g.k, 0};
  g.c = l.out[0].data;
  g.bias = has(l, 2) ? l.in[2].data : nullptr;
  g.dtype = x.dtype;
  g.math = l.math;
  return float_sums(l) ? product(l, g) : exact(l, g);
}

}  // namespace wattle::device
