// wattle bench formats: number formats against f32 and against their own references, in turn, on
// more than a million distinct operands.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/callable.h"
#include "core/codec.h"
#include "core/counters.h"
#include "core/parallel.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "quant/int_matmul_kernels.h"
#include "quant/ops.h"
#include "tools/cli.h"

namespace wattle::cli {
namespace {

using json = nlohmann::ordered_json;
using Work = Callable<void()>;

double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One comparison: medians of `ours` and `other`, timed in turn, and how one stands to the other.
struct Line {
  std::string what, against;
  double ours = 0, other = 0, ratio = 0, wanted = 0;
  bool at_most = true;  ///< the ratio is to stay below `wanted`; else above
  bool holds() const { return at_most ? ratio <= wanted : ratio >= wanted; }
};

class Bench {
 public:
  explicit Bench(int repeats) : repeats_(repeats) {}
  // ratio = ours / other where it is to be small, other / ours where it is to be large
  void compare(const std::string& what, const Work& ours, const std::string& against,
               const Work& other, double wanted, bool at_most) {
    std::vector<double> a, b;
    ours();
    other();
    for (int i = 0; i < repeats_; ++i) {
      a.push_back(seconds(ours));
      b.push_back(seconds(other));
    }
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    Line l{what, against, a[a.size() / 2], b[b.size() / 2]};
    l.ratio = at_most ? l.ours / l.other : l.other / l.ours;
    l.wanted = wanted;
    l.at_most = at_most;
    lines.push_back(l);
  }
  std::vector<Line> lines;

 private:
  int repeats_;
};

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
  const Tensor qx = cast(scale(x, 30), DType::i8), qy = cast(scale(y, 30), DType::i8);
  const bool fast = simd::level() == simd::Level::avx512 && quant::has_vnni();
  b.compare(
      "int8 matmul 1024^3", [&] { int_matmul(qx, qy); }, "f32 matmul", [&] { matmul(x, y); },
      fast ? 3 : 1.5, false);
}

}  // namespace

void bench_formats(int repeats, bool as_json) {
  manual_seed(1);
  Bench b(repeats);
  codecs(b);
  elementwise(b, simd::level() == simd::Level::avx512 ? 15 : 5);
  products(b);
  if (as_json) {
    json all = json::array();
    for (const Line& l : b.lines)
      all.push_back({{"what", l.what},
                     {"against", l.against},
                     {"seconds", l.ours},
                     {"seconds_against", l.other},
                     {"ratio", l.ratio},
                     {"wanted", l.wanted},
                     {"at_most", l.at_most},
                     {"holds", l.holds()}});
    std::printf(
        "%s\n",
        json{{"isa", simd::level_name(simd::level())}, {"threads", num_threads()}, {"lines", all}}
            .dump(1)
            .c_str());
    return;
  }
  std::printf("%s, %d thread%s, medians of %d in turn\n", simd::level_name(simd::level()),
              num_threads(), num_threads() == 1 ? "" : "s", repeats);
  for (const Line& l : b.lines)
    std::printf("%s%10.3f ms  %s%10.3f ms  %7.2fx  (%s %g)%s\n", cell(l.what, 32).c_str(),
                l.ours * 1e3, cell(l.against, 18).c_str(), l.other * 1e3, l.ratio,
                l.at_most ? "at most" : "at least", l.wanted, l.holds() ? "" : "  short of it");
}

}  // namespace wattle::cli
