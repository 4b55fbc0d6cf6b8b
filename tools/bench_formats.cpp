// wattle bench formats: number formats against f32 and against their own references, in turn, on
// more than a million distinct operands.
#include <cstring>
#include <optional>

#include "core/codec.h"
#include "core/counters.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "quant/int_matmul_kernels.h"
#include "quant/ops.h"
#include "tools/paired_bench.h"

namespace wattle::cli {
namespace {

Tensor posits(const Shape& s, DType t) { return cast(normal(s), t); }

void codecs(Bench& b) {
  constexpr int64_t n = 1 << 20;
  const Tensor x = normal({n}), y = Tensor::empty({n});
  const Work copy = [&] {
    std::memcpy(y.data<float>(), x.data<float>(), static_cast<size_t>(n) * sizeof(float));
  };
  for (DType t : {DType::posit16, DType::posit8}) {
    const Tensor codes = cast(x, t), out = Tensor::empty({n}, t);
    const std::string name(wattle::name(t));
    b.compare(
        name + " decode", [&] { decode(codes, y.data<float>()); }, "f32 copy", copy, 2, true);
    b.compare(
        name + " encode", [&] { encode(x.data<float>(), out); }, "f32 copy", copy, 3, true);
  }
}

void elementwise(Bench& b, double wanted) {
  constexpr int64_t n = 1 << 20;
  for (DType t : {DType::posit16, DType::posit8}) {
    const Tensor x = posits({n}, t), y = posits({n}, t), z = posits({n}, t);
    const auto run = [&](const char* op, const Work& work) {
      b.compare(
          str(wattle::name(t), " ", op), work, "scalar reference",
          [&, op] {
            const ForceKernel slow(op, "posit_ref");
            work();
          },
          wanted, false);
    };
    run("add", [&] { add(x, y); });
    run("mul", [&] { mul(x, y); });
    run("fma", [&] { fma(x, y, z); });
    run("div", [&] { div(x, y); });
  }
}

// Codes of normal numbers with 30 for their deviation, or all codes equally often.
Tensor int8_codes(const Shape& s, bool bell) {
  return cast(bell ? scale(normal(s), 30) : uniform(s, -128.5, 127.5), DType::i8);
}

void products(Bench& b) {
  for (const auto& [n, wanted] : {std::pair<int64_t, double>{256, 1.35}, {512, 1.15}}) {
    const Tensor x = normal({n, n}), y = normal({n, n});
    const Tensor px = cast(x, DType::posit16), py = cast(y, DType::posit16);
    const Work f32 = [&] { matmul(x, y); };
    const std::string size = str(" ", n, "^3");
    b.compare(
        "posit16 matmul f32" + size, [&] { matmul(px, py); }, "f32 matmul", f32, wanted, true);
    b.compare(
        "posit16 matmul certified" + size,
        [&] { matmul(px, py, MatmulAttr{.accumulate = "certified"}); }, "f32 matmul", f32, 5, true);
  }
  const int64_t n = 1024;
  const Tensor x = normal({n, n}), y = normal({n, n});
  const bool fast = simd::level() == simd::Level::avx512 && quant::has_vnni();
  // A kernel may take another way for numbers that are mostly small, as weights are.
  for (const bool bell : {true, false}) {
    const Tensor qx = int8_codes({n, n}, bell), qy = int8_codes({n, n}, bell);
    b.compare(
        str("int8 matmul 1024^3, ", bell ? "bell-shaped" : "evenly spread"),
        [&] { int_matmul(qx, qy); }, "f32 matmul", [&] { matmul(x, y); }, fast ? 3 : 1.5, false);
  }
}

}  // namespace

// One side of bench/int8_against_pytorch.py.
void bench_formats_worker() {
  manual_seed(1);
  serve_orders("int8 M N K all|bell steps S", [](std::istringstream& words) -> Timed {
    std::string order, spread, steps_word;
    int64_t m = 0, n = 0, k = 0;
    int runs = 0;
    words >> order >> m >> n >> k >> spread >> steps_word >> runs;
    if (!words || order != "int8" || steps_word != "steps") return {};
    if (spread != "all" && spread != "bell") return {};
    const Tensor a = int8_codes({m, k}, spread == "bell"), b = int8_codes({k, n}, spread == "bell");
    return {runs, [=] { int_matmul(a, b); }};
  });
}

void bench_formats(int repeats, bool as_json) {
  manual_seed(1);
  Bench b(repeats);
  codecs(b);
  elementwise(b, simd::level() == simd::Level::avx512 ? 15 : 5);
  products(b);
  b.print(as_json);
}

}  // namespace wattle::cli
