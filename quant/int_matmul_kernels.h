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
/// Products of pairs of 16 bits (vpmaddwd): nothing saturates, unlike vpmaddubsw, which clips the
/// sum of two products of bytes to 16 bits. From `rows_for_signs` rows on, and for b of mostly
/// small numbers, it is int_gemm_signs.
void int_gemm_avx2(const IntGemm& g);
/// Products of bytes by fours on AVX2 (vpmaddubsw), of magnitudes that keep it from clipping.
void int_gemm_signs(const IntGemm& g);
/// Fewer rows do not earn back the signed copies of b that int_gemm_signs makes.
inline constexpr int64_t rows_for_signs = 128;
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

}  // namespace wattle::quant
