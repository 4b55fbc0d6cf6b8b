#include "core/dtype.h"

#include "core/error.h"

namespace wattle {
namespace {

constexpr DTypeInfo table[] = {
    {DType::f32, "f32", DKind::floating, 1, 4, "<f4", "IEEE 754 binary32"},
    {DType::f64, "f64", DKind::floating, 1, 8, "<f8", "IEEE 754 binary64"},
    {DType::i64, "i64", DKind::integer, 1, 8, "<i8", "64-bit signed integer"},
    {DType::i32, "i32", DKind::integer, 1, 4, "<i4", "32-bit signed integer"},
    {DType::u8, "u8", DKind::integer, 1, 1, "|u1", "8-bit unsigned integer"},
    {DType::boolean, "bool", DKind::boolean, 1, 1, "|b1", "true or false, one byte each"},
    {DType::counted, "counted", DKind::floating, 1, sizeof(Counted), "",
     "a double that counts what is done to it; checks declared costs"},
};

struct Alias {
  std::string_view from, to;
};
constexpr Alias aliases[] = {{"float32", "f32"}, {"float", "f32"}, {"float64", "f64"},
                             {"double", "f64"},  {"int64", "i64"}, {"long", "i64"},
                             {"int32", "i32"},   {"int", "i32"},   {"uint8", "u8"},
                             {"boolean", "bool"}};

}  // namespace

const DTypeInfo& info(DType t) { return table[static_cast<int>(t)]; }

DType dtype_from_name(std::string_view wanted) {
  for (const Alias& a : aliases)
    if (a.from == wanted) wanted = a.to;
  std::string known;
  for (const DTypeInfo& i : table) {
    if (i.name == wanted) return i.id;
    known += known.empty() ? "" : ", ";
    known += i.name;
  }
  throw dtype_error(str("dtype: found '", wanted, "', expected one of ", known));
}

Cost& counted_tally() {
  thread_local Cost tally;
  return tally;
}

}  // namespace wattle
