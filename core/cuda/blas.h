// Matrix products by cuBLASLt.
#pragma once
#include <cstdint>

#include "core/launch.h"

namespace wattle::device {

/// rows x cols numbers; element (i, j) at p[i * row + j * col].
struct Matrix {
  const void* p;
  int64_t row, col, batch_step;
};

/// c [m, n] = a [m, k] b [k, n] (+ bias [n] in every row), `batch` times. c is row-major, batches
/// c_step apart.
struct Gemm {
  int64_t m, n, k, batch = 1;
  Matrix a, b;
  void* c;
  int64_t c_step = 0;
  const void* bias = nullptr;
  int32_t dtype = f32, math = math_f32;  ///< i8: c is i32; fp8_e4m3: c is f32
  /// Of fp8_e4m3: numbers on the device that a and b are multiplied by.
  const float *a_scale = nullptr, *b_scale = nullptr;
};

/// Why cuBLASLt does not take a product (strides, types); null = it does. Needs no device.
const char* blas_refusal(const Gemm& g);
/// Descriptors alone, as for a run: what a machine without a device can check.
const char* blas_describe(const Gemm& g);
const char* blas_run(const Gemm& g);

}  // namespace wattle::device
