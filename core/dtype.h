// Element types. A dtype is one row of a table; Tensor asks the row and knows nothing else, so a
// packed or block-scaled format is a new row and no change to Tensor.
#pragma once
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "core/counted.h"

namespace wattle {

enum class DType : uint8_t { f32, f64, i64, i32, u8, boolean, counted };

enum class DKind : uint8_t { floating, integer, boolean };

/// One row of the dtype table. Storage is a sequence of blocks of `block` elements that take
/// `bytes` bytes together: f32 is {1, 4}; a 4-bit code would be {2, 1}, a spike bit {64, 8}, and a
/// format with a scale per 32 elements {32, 17}. A row of a tensor (its last dimension) starts on a
/// block boundary, so rows never share a block.
struct DTypeInfo {
  DType id;
  std::string_view name;
  DKind kind;
  int block;             ///< elements per block
  int bytes;             ///< bytes per block
  std::string_view npy;  ///< NumPy's descr, empty when NumPy has none
  std::string_view doc;
};

const DTypeInfo& info(DType t);
/// The dtype called `name` (also PyTorch's and NumPy's names float32, int64, ...); throws
/// dtype_error listing the known ones.
DType dtype_from_name(std::string_view name);
inline bool is_floating(DType t) { return info(t).kind == DKind::floating; }
inline bool is_integer(DType t) { return info(t).kind == DKind::integer; }
inline std::string_view name(DType t) { return info(t).name; }

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, int64_t>) return DType::i64;
  else if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  else if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
  else if constexpr (std::is_same_v<T, bool>) return DType::boolean;
  else {
    static_assert(std::is_same_v<T, Counted>, "no dtype holds this C++ type");
    return DType::counted;
  }
}

}  // namespace wattle
