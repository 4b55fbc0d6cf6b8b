// Element types. A dtype is one row of a table; Tensor asks the row and knows nothing else, so a
// packed or block-scaled format is a new row and no change to Tensor.
//
// Types from bf16 on are *coded*: no C++ type holds them. A Codec (core/codec.h) turns their codes
// into plain floats and back, and every op runs on them by way of that (ops/coded.h).
#pragma once
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/counted.h"

namespace wattle {

enum class DType : uint8_t {
  f32,
  f64,
  i64,
  i32,
  u8,
  boolean,
  counted,
  i8,
  bf16,
  fp16,
  fp8_e4m3,
  fp8_e5m2,
  posit8,
  posit8_es1,
  posit8_es0,
  posit16,
  posit16_es1,
  posit32,
  fp6_e3m2,
  fp6_e2m3,
  fp4_e2m1,
  e8m0,
  int4,
  mxfp8_e4m3,
  mxfp8_e5m2,
  mxfp6_e3m2,
  mxfp6_e2m3,
  mxfp4,
  mxint8,
  nvfp4,
  spike
};

enum class DKind : uint8_t { floating, integer, boolean };

/// One row of the dtype table. Storage is a sequence of blocks of `block` elements that take
/// `bytes` bytes together: f32 is {1, 4}, a 4-bit code {2, 1}, a spike {8, 1}, and a format with a
/// scale per 32 elements {32, 17}. A row of a tensor (its last dimension) starts on a
/// block boundary, so rows never share a block.
struct DTypeInfo {
  DType id;
  std::string_view name;
  DKind kind;
  int block;             ///< elements per block
  int bytes;             ///< bytes per block
  std::string_view npy;  ///< NumPy's descr, empty when NumPy has none
  std::string_view doc;
  bool coded = false;  ///< has a Codec and no C++ type
  /// The plain type that arithmetic on codes really runs in; the type itself where it is plain.
  DType computes_in = id;
};

const DTypeInfo& info(DType t);
/// The dtype called `name` (also PyTorch's and NumPy's names float32, int64, ...); throws
/// dtype_error listing the known ones.
DType dtype_from_name(std::string_view name);
inline bool is_floating(DType t) { return info(t).kind == DKind::floating; }
inline bool is_integer(DType t) { return info(t).kind == DKind::integer; }
inline bool is_coded(DType t) { return info(t).coded; }
inline bool is_posit(DType t) { return t >= DType::posit8 && t <= DType::posit32; }
inline std::string_view name(DType t) { return info(t).name; }
/// Every dtype that a user can name: all but the counting scalar.
std::vector<DType> all_dtypes();

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, int64_t>) return DType::i64;
  else if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  else if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
  else if constexpr (std::is_same_v<T, int8_t>) return DType::i8;
  else if constexpr (std::is_same_v<T, bool>) return DType::boolean;
  else {
    static_assert(std::is_same_v<T, Counted>, "no dtype holds this C++ type");
    return DType::counted;
  }
}

}  // namespace wattle
