// Posit arithmetic through the ops, at every SIMD level, against an oracle of whole numbers.
#include <gtest/gtest.h>

#include <atomic>

#include "core/counters.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "ops/ops.h"
#include "quant/posit.h"
#include "tests/posit_cases.h"

namespace wattle {
namespace {

using namespace posit_cases;

struct AtLevel {
  explicit AtLevel(simd::Level l) : before(simd::set_level(l)) {}
  ~AtLevel() { simd::set_level(before); }
  simd::Level before;
};
std::vector<simd::Level> levels() {
  std::vector<simd::Level> l;
  for (simd::Level x : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512})
    if (simd::machine_has(x)) l.push_back(x);
  return l;
}

TEST(PositArithmetic, EveryPairOfPosit8) {
  std::vector<uint64_t> a, b;
  for (uint64_t i = 0; i < 65536; ++i) a.push_back(i >> 8), b.push_back(i & 255);
  for (const Type& t : types) {
    if (t.n != 8) continue;
    const Tensor x = codes(t.dtype, a), y = codes(t.dtype, b);
    for (Arith op : {Arith::add, Arith::sub, Arith::mul, Arith::div, Arith::sqrt})
      for (simd::Level l : levels()) {
        const AtLevel at(l);
        EXPECT_EQ(wrong(op, t, x, y, y, run(op, x, y, y)), 0)
            << name(t.dtype) << " op " << static_cast<int>(op) << simd::level_name(l);
      }
  }
}

TEST(PositArithmetic, StratifiedWordsOfEveryTypeAtEveryLevel) {
  for (const Type& t : types) {
    const Words w = stratified(t, 40000, 17);
    const Tensor a = codes(t.dtype, w.a), b = codes(t.dtype, w.b), c = codes(t.dtype, w.c);
    for (Arith op : all_ops_of_posits)
      for (simd::Level l : levels()) {
        const AtLevel at(l);
        EXPECT_EQ(wrong(op, t, a, b, c, run(op, a, b, c)), 0)
            << name(t.dtype) << " op " << static_cast<int>(op) << simd::level_name(l);
      }
  }
}

TEST(PositArithmetic, TheReferenceKernelToo) {
  for (const Type& t : types) {
    const Words w = stratified(t, 20000, 23);
    const Tensor a = codes(t.dtype, w.a), b = codes(t.dtype, w.b), c = codes(t.dtype, w.c);
    for (const char* op : {"add", "sub", "mul", "div", "sqrt", "fma"}) {
      const ForceKernel force(op, "posit_ref");
      for (Arith o : all_ops_of_posits)
        if (std::string(op) ==
            (const char*[]){"add", "sub", "mul", "div", "sqrt", "fma"}[static_cast<int>(o)]) {
          EXPECT_EQ(wrong(o, t, a, b, c, run(o, a, b, c)), 0) << name(t.dtype) << op;
        }
    }
  }
}

// Numbers whose exact result lies just beside a tie: a plain float FMA rounds them twice.
TEST(PositArithmetic, StickyBitsOfPosit16) {
  const Tensor y = fma(codes(DType::posit16, {0x9600, 0x048a, 0x80b6, 0x7f10}),
                       codes(DType::posit16, {0x81d4, 0x7fe8, 0x0424, 0x7e80}),
                       codes(DType::posit16, {0x0008, 0x0009, 0xffff, 0x005d}));
  const uint64_t want[] = {0x7f69, 0x7ea3, 0x8b01, 0x7ffb};
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(code_at(y, i), want[i]) << i;
}

// The planted fault: by way of plain floats, which is how other ops run, roundings differ.
TEST(PositArithmetic, RoundingTwiceIsFound) {
  const Type t = types[3];
  const Words w = stratified(t, 400000, 5);
  const Tensor a = codes(t.dtype, w.a), b = codes(t.dtype, w.b), c = codes(t.dtype, w.c);
  const Tensor twice =
      cast(add(mul(cast(a, DType::f32), cast(b, DType::f32)), cast(c, DType::f32)), DType::posit16);
  EXPECT_GT(wrong(Arith::fma, t, a, b, c, twice), 5);
}

TEST(PositArithmetic, TheFastKernelRan) {
  const Tensor a = Tensor::ones({100}, DType::posit16);
  counters().clear();
  add(a, a);
  EXPECT_STREQ(counters().rows()[0].key.kernel, "posit");
  EXPECT_EQ(counters().rows()[0].key.dtype, DType::posit16);
  // What ran were float additions and the integer work of three conversions.
  EXPECT_GE(counters().total().executed.iop, 100 * 60);
  EXPECT_EQ(counters().total().cost.add, 100);
  // The reference runs on integers alone.
  const ForceKernel slow("add", "posit_ref");
  counters().clear();
  add(a, a);
  EXPECT_EQ(counters().total().executed.flops(), 0);
  EXPECT_GT(counters().total().executed.iop, 100 * 60);
}

TEST(PositArithmetic, BroadcastAndStridedOperands) {
  const Tensor a = cast(uniform({3, 4}, -4, 4), DType::posit16);
  const Tensor b = cast(uniform({4, 1}, -4, 4), DType::posit16);
  const Tensor y = add(transpose(a, 0, 1), b);  // [4, 3] + [4, 1]
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 3; ++j)
      EXPECT_TRUE(posit_oracle::right(Arith::add, code_at(y, i * 3 + j), code_at(a, j * 4 + i),
                                      code_at(b, i), 0, 16, 2));
}

TEST(PositArithmetic, NaRIsOneValueBelowAllOthers) {
  const Tensor a = codes(DType::posit16, {0x8000, 0x8000, 0x8001, 0, 0x4000});
  const Tensor b = codes(DType::posit16, {0x8000, 0x8001, 0x8000, 0x8000, 0x4000});
  EXPECT_EQ(eq(a, b).values<int>(), (std::vector<int>{1, 0, 0, 0, 1}));
  EXPECT_EQ(lt(a, b).values<int>(), (std::vector<int>{0, 1, 0, 0, 0}));
  EXPECT_EQ(le(a, b).values<int>(), (std::vector<int>{1, 1, 0, 0, 1}));
  EXPECT_EQ(gt(a, b).values<int>(), (std::vector<int>{0, 0, 1, 1, 0}));
  EXPECT_EQ(ge(a, b).values<int>(), (std::vector<int>{1, 0, 1, 1, 1}));
  EXPECT_EQ(ne(a, b).values<int>(), (std::vector<int>{0, 1, 1, 1, 0}));
  EXPECT_EQ(code_at(neg(codes(DType::posit16, {0x8000})), 0), 0x8000u);
}

}  // namespace
}  // namespace wattle
