#include "core/dtype.h"

#include "core/error.h"

namespace wattle {
namespace {

constexpr DTypeInfo coded(DType id, std::string_view name, int block, int bytes,
                          std::string_view doc, DType computes_in = DType::f32) {
  return {id, name, DKind::floating, block, bytes, "", doc, true, computes_in};
}

constexpr DTypeInfo table[] = {
    {DType::f32, "f32", DKind::floating, 1, 4, "<f4", "IEEE 754 binary32"},
    {DType::f64, "f64", DKind::floating, 1, 8, "<f8", "IEEE 754 binary64"},
    {DType::i64, "i64", DKind::integer, 1, 8, "<i8", "64-bit signed integer"},
    {DType::i32, "i32", DKind::integer, 1, 4, "<i4", "32-bit signed integer"},
    {DType::u8, "u8", DKind::integer, 1, 1, "|u1", "8-bit unsigned integer"},
    {DType::boolean, "bool", DKind::boolean, 1, 1, "|b1", "true or false, one byte each"},
    {DType::counted, "counted", DKind::floating, 1, sizeof(Counted), "",
     "a double that counts what is done to it; checks declared costs"},
    {DType::i8, "i8", DKind::integer, 1, 1, "|i1", "8-bit signed integer"},
    coded(DType::bf16, "bf16", 1, 2, "bfloat16: 8 exponent, 7 fraction bits"),
    coded(DType::fp16, "fp16", 1, 2, "IEEE 754 binary16"),
    coded(DType::fp8_e4m3, "fp8_e4m3", 1, 1, "OCP FP8 E4M3 (fn: no infinity)"),
    coded(DType::fp8_e5m2, "fp8_e5m2", 1, 1, "OCP FP8 E5M2"),
    coded(DType::posit8, "posit8", 1, 1, "posit<8, 2>, standard of 2022"),
    coded(DType::posit8_es1, "posit8_es1", 1, 1, "posit<8, 1>, before 2022"),
    coded(DType::posit8_es0, "posit8_es0", 1, 1, "posit<8, 0>, before 2022"),
    coded(DType::posit16, "posit16", 1, 2, "posit<16, 2>, standard of 2022"),
    coded(DType::posit16_es1, "posit16_es1", 1, 2, "posit<16, 1>, before 2022"),
    coded(DType::posit32, "posit32", 1, 4, "posit<32, 2>, standard of 2022", DType::f64),
    coded(DType::fp6_e3m2, "fp6_e3m2", 4, 3, "6-bit element of MX: 3 exponent, 2 fraction bits"),
    coded(DType::fp6_e2m3, "fp6_e2m3", 4, 3, "6-bit element of MX: 2 exponent, 3 fraction bits"),
    coded(DType::fp4_e2m1, "fp4_e2m1", 2, 1, "4-bit element of MX: 2 exponent, 1 fraction bit"),
    coded(DType::e8m0, "e8m0", 1, 1, "powers of two, the scale of an MX block"),
    {DType::int4, "int4", DKind::integer, 2, 1, "", "4-bit signed integer, two in a byte", true,
     DType::f32},
    coded(DType::mxfp8_e4m3, "mxfp8_e4m3", 32, 33, "MX: E4M3 in blocks of 32 under a scale"),
    coded(DType::mxfp8_e5m2, "mxfp8_e5m2", 32, 33, "MX: E5M2 in blocks of 32 under a scale"),
    coded(DType::mxfp6_e3m2, "mxfp6_e3m2", 32, 25, "MX: E3M2 in blocks of 32 under a scale"),
    coded(DType::mxfp6_e2m3, "mxfp6_e2m3", 32, 25, "MX: E2M3 in blocks of 32 under a scale"),
    coded(DType::mxfp4, "mxfp4", 32, 17, "MX: E2M1 in blocks of 32 under a scale"),
    coded(DType::mxint8, "mxint8", 32, 33, "MX: k/64 in blocks of 32 under a scale"),
    coded(DType::nvfp4, "nvfp4", 16, 9, "E2M1 in blocks of 16 under E4M3 scales"),
    coded(DType::spike, "spike", 8, 1, "0 or 1: a bit each, packed along the last dimension"),
};

struct Alias {
  std::string_view from, to;
};
constexpr Alias aliases[] = {{"float32", "f32"},  {"float", "f32"}, {"float64", "f64"},
                             {"double", "f64"},   {"int64", "i64"}, {"long", "i64"},
                             {"int32", "i32"},    {"int", "i32"},   {"uint8", "u8"},
                             {"boolean", "bool"}, {"int8", "i8"},   {"bfloat16", "bf16"},
                             {"float16", "fp16"}, {"half", "fp16"}};

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

std::vector<DType> all_dtypes() {
  std::vector<DType> all;
  for (const DTypeInfo& i : table)
    if (i.id != DType::counted) all.push_back(i.id);
  return all;
}

Cost& counted_tally() {
  thread_local Cost tally;
  return tally;
}

}  // namespace wattle
