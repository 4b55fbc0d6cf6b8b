// What a call can ask of the plugin (core/cuda/runtime.cu).
#pragma once
#include <driver_types.h>

#include <cstdint>

#include "core/launch.h"

namespace wattle::device {

cudaStream_t stream();
bool emulated();
bool capturing();
/// Keeps a text and returns it: return fail("k is %d, expected ...", k);
const char* fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
/// Null, or what the last launch went wrong with.
const char* launched();
/// Runs what waits to be launched together with more of its kind.
const char* flush_pending();
void set_flush(const char* (*flush)());
/// Casts from and to codes, which another package brings (quant/codecs.cu).
void set_codes_cast(Function cast);
const char* cast_codes(const Launch& l);
/// A matrix product of codes with sums that are no floats', which another package brings
/// (quant/exact_products.cu). Strides in elements; bias [n] may be null.
struct ExactProduct {
  int64_t m, n, k;
  const void* a;
  int64_t a_row, a_col;
  const void* b;
  int64_t b_row, b_col;
  const void* bias;
  void* c;
  int64_t c_row, c_col;
};
using ExactFunction = const char* (*)(const Launch&, const ExactProduct&);
void set_exact_product(ExactFunction f);
const char* exact_product(const Launch& l, const ExactProduct& p);
/// Products of f32 numbers whose operands become fp8, likewise (quant/fp8_products.cu).
struct Gemm;
using Fp8Function = const char* (*)(const Launch&, const Gemm&);
void set_fp8_product(Fp8Function f);
const char* fp8_product(const Launch& l, const Gemm& g);
// Ranks (core/cuda/ranks.cpp). Sums are in place; data on the device.
const char* ranks_new_id(char* id);
const char* ranks_join(const char* id, int32_t rank, int32_t size);
const char* ranks_sum(void* data, int64_t n, int32_t dtype);
const char* ranks_gather(const void* own, void* all, int64_t bytes);
void ranks_leave();
/// From the pool; null when there is no memory left.
void* allocate(int64_t bytes);
void deallocate(void* p, int64_t bytes);
/// Outside of the pool and of every graph, for as long as the process lives.
void* allocate_forever(int64_t bytes);
const char* copy_out(void* to, const void* from, int64_t bytes);

}  // namespace wattle::device
