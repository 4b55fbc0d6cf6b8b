#include "core/cuda/blas.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <string>
#include <unordered_map>

#include "core/cuda/runtime.h"

namespace wattle::device {
namespace {

const char* text(const char* what, cublasStatus_t s) {
  return s == CUBLAS_STATUS_SUCCESS ? nullptr : fail("%s: %s", what, cublasLtGetStatusString(s));
}

constexpr size_t workspace_bytes = size_t{32} << 20;

struct Types {
  cudaDataType_t operand, result;
  cublasComputeType_t compute;
  cudaDataType_t scale;
};
Types types(const Gemm& g) {
  if (g.dtype == f64) return {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F, CUDA_R_64F};
  if (g.dtype == bf16) return {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (g.dtype == fp16) return {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (g.dtype == fp8_e4m3) return {CUDA_R_8F_E4M3, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (g.dtype == i8) return {CUDA_R_8I, CUDA_R_32I, CUBLAS_COMPUTE_32I, CUDA_R_32I};
  const cublasComputeType_t c = g.math == math_tf32   ? CUBLAS_COMPUTE_32F_FAST_TF32
                                : g.math == math_bf16 ? CUBLAS_COMPUTE_32F_FAST_16BF
                                                      : CUBLAS_COMPUTE_32F;
  return {CUDA_R_32F, CUDA_R_32F, c, CUDA_R_32F};
}

// cuBLAS is column-major: the row-major c [m, n] is a column-major [n, m] = b^T a^T. A matrix whose
// columns are dense is the transpose of its column-major reading.
struct Side {
  bool transposed;
  int64_t rows, cols, ld;  // as it lies in memory, column-major
};
bool side(const Matrix& x, int64_t rows, int64_t cols, Side* s) {
  const int64_t row = rows == 1 ? (x.col == 1 ? cols : 1) : x.row;
  const int64_t col = cols == 1 ? (row == 1 ? rows : 1) : x.col;
  if (col == 1 && row >= cols) {
    *s = {false, cols, rows, row};
    return true;
  }
  if (row == 1 && col >= rows) {
    *s = {true, rows, cols, col};
    return true;
  }
  return false;
}

struct Described {
  cublasLtMatmulDesc_t op = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  ~Described() {
    if (op) cublasLtMatmulDescDestroy(op);
    for (cublasLtMatrixLayout_t l : {a, b, c})
      if (l) cublasLtMatrixLayoutDestroy(l);
  }
};

const char* layout(cublasLtMatrixLayout_t* to, cudaDataType_t t, const Side& s, int64_t batch,
                   int64_t step) {
  if (const char* e = text("cublasLtMatrixLayoutCreate",
                           cublasLtMatrixLayoutCreate(to, t, static_cast<uint64_t>(s.rows),
                                                      static_cast<uint64_t>(s.cols), s.ld)))
    return e;
  if (batch == 1) return nullptr;
  const int32_t count = static_cast<int32_t>(batch);
  if (const char* e =
          text("batch count", cublasLtMatrixLayoutSetAttribute(
                                  *to, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count)))
    return e;
  return text("batch stride",
              cublasLtMatrixLayoutSetAttribute(*to, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                               &step, sizeof step));
}

const char* describe(const Gemm& g, Described* d) {
  const Types t = types(g);
  Side a, b;
  if (!side(g.a, g.m, g.k, &a) || !side(g.b, g.k, g.n, &b)) return fail("strides of no matrix");
  if (const char* e =
          text("cublasLtMatmulDescCreate", cublasLtMatmulDescCreate(&d->op, t.compute, t.scale)))
    return e;
  const auto set = [&](cublasLtMatmulDescAttributes_t what, const void* value, size_t size) {
    return text("cublasLtMatmulDescSetAttribute",
                cublasLtMatmulDescSetAttribute(d->op, what, value, size));
  };
  const cublasOperation_t ta = b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t tb = a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  if (const char* e = set(CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta)) return e;
  if (const char* e = set(CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb)) return e;
  if (g.dtype == fp8_e4m3) {  // a and b change places
    const void *of_a = g.b_scale, *of_b = g.a_scale;
    if (const char* e = set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &of_a, sizeof of_a)) return e;
    if (const char* e = set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &of_b, sizeof of_b)) return e;
  }
  if (g.bias) {
    const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
    if (const char* e = set(CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias)) return e;
    if (const char* e = set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g.bias, sizeof g.bias)) return e;
  }
  if (const char* e = layout(&d->a, t.operand, b, g.batch, g.b.batch_step)) return e;
  if (const char* e = layout(&d->b, t.operand, a, g.batch, g.a.batch_step)) return e;
  return layout(&d->c, t.result, {false, g.n, g.m, g.n}, g.batch, g.c_step);
}

// What an algorithm is chosen for. Pointers count by their alignment alone.
std::string key_of(const Gemm& g) {
  const auto aligned = [](const void* p) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % 16);
  };
  const int64_t k[] = {g.m,
                       g.n,
                       g.k,
                       g.batch,
                       g.a.row,
                       g.a.col,
                       g.b.row,
                       g.b.col,
                       g.a.batch_step,
                       g.b.batch_step,
                       g.c_step,
                       g.dtype,
                       g.math,
                       g.bias != nullptr,
                       aligned(g.a.p),
                       aligned(g.b.p),
                       aligned(g.c),
                       aligned(g.bias)};
  return {reinterpret_cast<const char*>(k), sizeof k};
}

struct Blas {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::unordered_map<std::string, cublasLtMatmulAlgo_t> chosen;
};
Blas& blas() {
  static Blas* const b = new Blas;
  return *b;
}

const char* choose(const Gemm& g, const Described& d, const cublasLtMatmulAlgo_t** algo) {
  Blas& s = blas();
  const std::string key = key_of(g);
  if (const auto it = s.chosen.find(key); it != s.chosen.end()) {
    *algo = &it->second;
    return nullptr;
  }
  cublasLtMatmulPreference_t preference = nullptr;
  if (const char* e = text("preference", cublasLtMatmulPreferenceCreate(&preference))) return e;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                       &workspace_bytes, sizeof workspace_bytes);
  const uint32_t alignments[] = {256, 256, 256};
  const void* const pointers[] = {g.b.p, g.a.p, g.c};
  const cublasLtMatmulPreferenceAttributes_t names[] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES};
  for (int i = 0; i < 3; ++i) {
    uint32_t a = alignments[i];
    while (a > 1 && reinterpret_cast<uintptr_t>(pointers[i]) % a) a /= 2;
    cublasLtMatmulPreferenceSetAttribute(preference, names[i], &a, sizeof a);
  }
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(s.handle, d.op, d.a, d.b, d.c, d.c,
                                                               preference, 1, &result, &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0)
    return fail("cuBLASLt has no algorithm for a product of %lld x %lld x %lld (%s)",
                static_cast<long long>(g.m), static_cast<long long>(g.n),
                static_cast<long long>(g.k), cublasLtGetStatusString(status));
  *algo = &s.chosen.emplace(key, result.algo).first->second;
  return nullptr;
}

}  // namespace

const char* blas_refusal(const Gemm& g) {
  Side a, b;
  if (g.dtype != f32 && g.dtype != f64 && g.dtype != i8 && g.dtype != bf16 && g.dtype != fp16 &&
      g.dtype != fp8_e4m3)
    return "the type is none of cuBLAS's";
  if (g.m == 0 || g.n == 0 || g.k == 0) return "empty";
  if (!side(g.a, g.m, g.k, &a) || !side(g.b, g.k, g.n, &b)) return "neither dim is dense";
  if (g.bias && g.dtype == f64) return "no bias epilogue in f64";
  if (g.dtype == fp8_e4m3 && (g.m % 16 || g.n % 16 || g.k % 16 || a.ld % 16 || b.ld % 16 ||
                              a.transposed || !b.transposed || g.bias))
    return "fp8 needs sizes of 16, k side by side and no bias";
  if (g.dtype == i8 && (a.ld % 4 || b.ld % 4 || g.n % 4 || a.transposed || !b.transposed))
    return "8-bit integers need rows of whole words";
  return nullptr;
}

const char* blas_describe(const Gemm& g) {
  Described d;
  return describe(g, &d);
}

const char* blas_run(const Gemm& g) {
  Blas& s = blas();
  if (!s.handle) {
    if (const char* e = text("cublasLtCreate", cublasLtCreate(&s.handle))) return e;
    s.workspace = allocate_forever(workspace_bytes);
    if (!s.workspace) return fail("out of memory for the workspace of cuBLAS");
  }
  Described d;
  if (const char* e = describe(g, &d)) return e;
  const cublasLtMatmulAlgo_t* algo = nullptr;
  if (const char* e = choose(g, d, &algo)) return e;
  const float one = 1, zero = 0;
  const double one64 = 1, zero64 = 0;
  const int32_t one32 = 1, zero32 = 0;
  const void* alpha = g.dtype == f64  ? static_cast<const void*>(&one64)
                      : g.dtype == i8 ? static_cast<const void*>(&one32)
                                      : &one;
  const void* beta = g.dtype == f64  ? static_cast<const void*>(&zero64)
                     : g.dtype == i8 ? static_cast<const void*>(&zero32)
                                     : &zero;
  return text("cublasLtMatmul",
              cublasLtMatmul(s.handle, d.op, alpha, g.b.p, d.a, g.a.p, d.b, beta, g.c, d.c, g.c,
                             d.c, algo, s.workspace, workspace_bytes, stream()));
}

}  // namespace wattle::device
