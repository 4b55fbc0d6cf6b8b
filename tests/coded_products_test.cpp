// matmul and linear on codes summed in f32: the same codes, rounding counts and work as decoding,
// multiplying and casting one after the other, whatever the path that a shape takes.
#include <gtest/gtest.h>

#include <cstring>

#include "core/codec.h"
#include "core/counters.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "ops/ops.h"

namespace wattle {
namespace {

struct Threads {
  explicit Threads(int n) : before(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

struct Level {
  explicit Level(simd::Level l) : before(simd::set_level(l)) {}
  ~Level() { simd::set_level(before); }
  simd::Level before;
};

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.nbytes() == b.nbytes() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.nbytes())) == 0;
}

template <class F>
std::pair<CastStats, Cost> counted(const char* op, F&& f) {
  counters().clear();
  f();
  CastStats s;
  Cost c;
  for (const auto& row : counters().rows())
    if (std::string_view(row.key.op->name) == op) s += row.rounding, c += row.executed;
  return {s, c};
}

Tensor floats(const Tensor& t) { return t ? cast(t, DType::f32) : t; }

// Numbers of many sizes: rounding them reaches every regime of a posit.
Tensor wide_range(const Shape& shape) {
  const Tensor x = normal(shape), x3 = mul(mul(x, x), x);
  return mul(mul(x3, x3), x3);
}

void compare_matmul(int64_t m, int64_t n, int64_t k, DType t, bool ta, bool tb, DType to) {
  const Tensor a = cast(wide_range(ta ? Shape{k, m} : Shape{m, k}), t);
  const Tensor b = cast(normal(tb ? Shape{n, k} : Shape{k, n}), t);
  MatmulAttr attr{ta, tb};
  attr.out = to;
  Tensor y;
  const Threads one(1);  // several decode a small b more than once, and count it
  const auto [stats, cost] = counted("matmul", [&] { y = matmul(a, b, attr); });
  const Tensor sums = matmul(floats(a), floats(b), ta, tb);
  Tensor expected = sums;
  CastStats rounded;
  if (to != DType::f32) rounded = counted("cast", [&] { expected = cast(sums, to); }).first;
  const std::string what = str(m, "x", n, "x", k, " ", name(t), " to ", name(to), ta, tb);
  EXPECT_TRUE(same_bytes(y, expected)) << what;
  EXPECT_EQ(stats, rounded) << what;
  const int64_t values = a.numel() + b.numel(), results = to == DType::f32 ? 0 : y.numel();
  EXPECT_EQ(cost.mac, m * n * k) << what;
  EXPECT_EQ(cost.iop,
            values * codec(t).decode_iops + (results ? results * codec(to).encode_iops : 0))
      << what;
  EXPECT_EQ(cost.written, y.nbytes() + 4 * (values + results)) << what;
}

TEST(CodedProducts, EqualFloatsRoundedOnceOnEveryPath) {
  manual_seed(3);
  constexpr int64_t shapes[][3] = {{256, 256, 256}, {57, 33, 330},  {120, 70, 1999}, {61, 1, 40},
                                   {1, 50, 40},     {90, 31, 2500}, {70, 600, 700},  {56, 64, 1}};
  for (const auto& [m, n, k] : shapes)
    for (const DType t : {DType::posit16, DType::posit8, DType::bf16, DType::fp8_e4m3}) {
      compare_matmul(m, n, k, t, false, false, t);
      compare_matmul(m, n, k, t, false, true, DType::f32);
    }
  compare_matmul(64, 65, 66, DType::posit16, true, false, DType::posit16);
  compare_matmul(64, 65, 66, DType::posit8, true, true, DType::posit16);
}

TEST(CodedProducts, EveryLevelAndThreadCountAgrees) {
  manual_seed(4);
  for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512}) {
    if (!simd::machine_has(l)) continue;
    const Level level(l);
    compare_matmul(100, 75, 340, DType::posit16, false, false, DType::posit16);
    const Tensor a = cast(normal({200, 90}), DType::posit16);
    const Tensor w = cast(normal({70, 90}), DType::posit16);
    const Tensor bias = cast(normal({70}), DType::posit16);
    const Threads one(1);
    const Tensor y = linear(a, w, bias);
    EXPECT_TRUE(same_bytes(y, cast(linear(floats(a), floats(w), floats(bias)), DType::posit16)));
    const Threads two(2);
    for (const int64_t n : {96, 97, 512}) {  // b is read in place, or packed
      const Tensor x = cast(normal({200, 40}), DType::posit16);
      const Tensor b = cast(normal({40, n}), DType::posit16);
      EXPECT_TRUE(same_bytes(matmul(x, b), cast(matmul(floats(x), floats(b)), DType::posit16)));
    }
    const auto [stats, cost] =
        counted("linear", [&] { EXPECT_TRUE(same_bytes(y, linear(a, w, bias))); });
    const int64_t decoded = a.numel() + 2 * w.numel() + bias.numel();  // w by both threads
    const Codec& c = codec(DType::posit16);
    EXPECT_EQ(cost.iop, decoded * c.decode_iops + y.numel() * c.encode_iops);
    EXPECT_EQ(stats.n, y.numel());
  }
}

TEST(CodedProducts, NaRAndEmptySumsComeOut) {
  Tensor a = Tensor::ones({60, 40}, DType::posit16);
  static_cast<uint16_t*>(a.raw())[3 * 40 + 7] = 0x8000;
  const Tensor y = matmul(a, Tensor::ones({40, 50}, DType::posit16));
  for (int64_t i = 0; i < 60; ++i)
    EXPECT_EQ(static_cast<uint16_t*>(y.raw())[i * 50 + 49] == 0x8000, i == 3);
  const Tensor none =
      matmul(Tensor::ones({60, 0}, DType::posit16), Tensor::ones({0, 50}, DType::posit16));
  EXPECT_TRUE(same_bytes(none, Tensor::zeros({60, 50}, DType::posit16)));
  EXPECT_EQ(
      matmul(Tensor::ones({0, 4}, DType::posit16), Tensor::ones({4, 5}, DType::posit16)).numel(),
      0);
}

}  // namespace
}  // namespace wattle
