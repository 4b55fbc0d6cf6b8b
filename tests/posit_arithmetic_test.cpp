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
#include "tests/posit_oracle.h"

namespace wattle {
namespace {

using posit_oracle::Op;

struct Type {
  DType dtype;
  int n, es;
};
constexpr Type types[] = {{DType::posit8, 8, 2},       {DType::posit8_es1, 8, 1},
                          {DType::posit8_es0, 8, 0},   {DType::posit16, 16, 2},
                          {DType::posit16_es1, 16, 1}, {DType::posit32, 32, 2}};

uint64_t code_at(const Tensor& t, int64_t i) {
  switch (info(t.dtype()).bytes) {
    case 1: return static_cast<uint8_t*>(t.raw())[i];
    case 2: return static_cast<uint16_t*>(t.raw())[i];
    default: return static_cast<uint32_t*>(t.raw())[i];
  }
}
Tensor codes(DType t, const std::vector<uint64_t>& c) {
  const Tensor x = Tensor::empty({static_cast<int64_t>(c.size())}, t);
  for (size_t i = 0; i < c.size(); ++i) {
    if (info(t).bytes == 1) static_cast<uint8_t*>(x.raw())[i] = static_cast<uint8_t>(c[i]);
    if (info(t).bytes == 2) static_cast<uint16_t*>(x.raw())[i] = static_cast<uint16_t>(c[i]);
    if (info(t).bytes == 4) static_cast<uint32_t*>(x.raw())[i] = static_cast<uint32_t>(c[i]);
  }
  return x;
}

Tensor run(Op op, const Tensor& a, const Tensor& b, const Tensor& c) {
  switch (op) {
    case Op::add: return add(a, b);
    case Op::sub: return sub(a, b);
    case Op::mul: return mul(a, b);
    case Op::div: return div(a, b);
    case Op::sqrt: return sqrt(a);
    case Op::fma: return fma(a, b, c);
  }
  return {};
}
constexpr Op all_ops_of_posits[] = {Op::add, Op::sub, Op::mul, Op::div, Op::sqrt, Op::fma};

int64_t wrong(Op op, const Type& t, const Tensor& a, const Tensor& b, const Tensor& c,
              const Tensor& y) {
  std::atomic<int64_t> count{0};
  parallel_for(y.numel(), 4096, [&](int64_t begin, int64_t end) {
    int64_t n = 0;
    for (int64_t i = begin; i < end; ++i)
      n += !posit_oracle::right(op, code_at(y, i), code_at(a, i), code_at(b, i), code_at(c, i), t.n,
                                t.es);
    count += n;
  });
  return count;
}

// Words of all sizes: the regime's length is drawn first, so that long ones are as frequent as
// short ones; a third of the pairs lie close together, where sums cancel.
struct Words {
  std::vector<uint64_t> a, b, c;
};
Words stratified(const Type& t, int64_t count, uint64_t seed) {
  Words w;
  const uint64_t mask = (uint64_t{2} << (t.n - 1)) - 1;
  const auto draw = [&](uint64_t i, uint64_t stream) {
    const auto r = philox(seed, i, stream);
    uint64_t word = r[0] & mask;
    const int run = static_cast<int>(r[1] % static_cast<unsigned>(t.n));
    const uint64_t body = (uint64_t{1} << (t.n - 1)) - 1;
    // `run` leading bits of the body become equal
    const uint64_t head = body & ~(body >> run);
    word = r[2] & 1 ? word | head : word & ~head;
    return r[3] % 257 == 0 ? r[3] >> 16 & mask & 1 : word;
  };
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) {
    const uint64_t a = draw(i, 0), b = draw(i, 1);
    w.a.push_back(a);
    w.b.push_back(i % 3 ? b : ((b & 1 ? ~a : a) + (b >> 1 & 7)) & mask);
    w.c.push_back(draw(i, 2));
  }
  return w;
}

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
    for (Op op : {Op::add, Op::sub, Op::mul, Op::div, Op::sqrt})
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
    for (Op op : all_ops_of_posits)
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
      for (Op o : all_ops_of_posits)
        if (std::string(op) ==
            (const char*[]){"add", "sub", "mul", "div", "sqrt", "fma"}[static_cast<int>(o)])
          EXPECT_EQ(wrong(o, t, a, b, c, run(o, a, b, c)), 0) << name(t.dtype) << op;
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
  EXPECT_GT(wrong(Op::fma, t, a, b, c, twice), 5);
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
}

TEST(PositArithmetic, BroadcastAndStridedOperands) {
  const Tensor a = cast(uniform({3, 4}, -4, 4), DType::posit16);
  const Tensor b = cast(uniform({4, 1}, -4, 4), DType::posit16);
  const Tensor y = add(transpose(a, 0, 1), b);  // [4, 3] + [4, 1]
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 3; ++j)
      EXPECT_TRUE(posit_oracle::right(Op::add, code_at(y, i * 3 + j), code_at(a, j * 4 + i),
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
