// 8-bit integer products into 32-bit sums: raw kernels behind quant/int_matmul.cpp.
#pragma once
#include <cstdint>

#include "core/op.h"

namespace wattle::quant {

/// c [m,n] = a [m,k] b, i32, row-major; b element (p, j) is b[p * b_row + j * b_col]. a is i8, or
/// u8 where a_unsigned. Sums wrap beyond 32 bits, which takes k > 2^31 / 2^15.
struct IntGemm {
  int64_t m, n, k;
  const uint8_t* a;
  bool a_unsigned;
  const int8_t* b;
  int64_t b_row, b_col;
  int32_t* c;
};

/// The definition.
void int_gemm_ref(const IntGemm& g);
/// Products of pairs of 16 bits (vpmaddwd).
void int_gemm_avx2(const IntGemm& g);
/// The same with 7 products of sums of blocks for 8 of blocks, of any size.
void int_gemm_strassen(const IntGemm& g);
/// Products of bytes by fours, exact in 32 bits (vpdpbusd).
void int_gemm_vnni(const IntGemm& g);
void int_gemm_avxvnni(const IntGemm& g);
/// Tiles of 16 x 64 bytes (AMX).
void int_gemm_amx(const IntGemm& g);
bool has_vnni();     ///< AVX-512 VNNI
bool has_avxvnni();  ///< the same on 256 bits
/// True when the processor has AMX and the system lets this process use it.
bool has_amx();

/// For Kernel::when.
template <class A>
Refusal without_vnni(Ins, const A&) {
  return has_vnni() ? Refusal{} : Refusal{"this machine has no AVX-512 VNNI"};
}
template <class A>
Refusal without_avxvnni(Ins, const A&) {
  return has_avxvnni() ? Refusal{} : Refusal{"this machine has no AVX-VNNI"};
}
/// The sums of blocks cost as much as the eighth product where a side is short.
template <class A>
Refusal too_small_for_strassen(Ins in, const A& attr) {
  const int64_t m = in[0].size(0), k = in[0].size(1), n = in[1].size(attr.transpose_b ? 0 : 1);
  if (m >= 768 && k >= 512 && n >= 128) return {};
  return {str(m, " x ", k, " x ", n, " does not earn back its sums of blocks")};
}

}  // namespace wattle::quant
