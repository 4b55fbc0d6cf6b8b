// dropout: y[i] = x[i] / (1 - p) where u[i] >= p, else 0; u[i] = number offset + i of the stream
// `seed`. The gradient is the same map of gy: the mask is drawn again, so nothing is saved.
#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "ops/philox_lanes.h"
#include "ops/rules.h"

namespace wattle {
namespace {

struct DropoutAttr {
  double p = 0.5;
  bool training = true;
  uint64_t seed = 0, offset = 0;
  template <class V>
  void visit(V&& v) {
    v("p", p), v("training", training), v("seed", seed), v("offset", offset);
  }
};

constexpr int64_t grain = 1 << 14;  // whole batches of Philox

bool identity(const DropoutAttr& a) { return !a.training || a.p == 0; }
// u < p, decided on the 24 random bits of u, so that every element type drops the same elements.
uint32_t threshold(double p) { return static_cast<uint32_t>(std::ceil(p * 0x1p24)); }
double keep_scale(double p) { return p < 1 ? 1 / (1 - p) : 0; }

void dropout_ref(Ins in, Outs out, const DropoutAttr& a) {
  const int64_t n = in[0].numel();
  dispatch_floating("dropout", in[0].dtype(), [&]<class T>() {
    const T* const x = in[0].data<T>();
    T* const y = out[0].data<T>();
    if (identity(a)) {
      std::copy(x, x + n, y);
      return;
    }
    const T scale = T(keep_scale(a.p));
    const uint32_t limit = threshold(a.p);
    philox_lanes::tally<T>((n + 3) / 4 * philox_lanes::iops_per_block + 2 * n);
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t at = a.offset + static_cast<uint64_t>(i);
      const T kept = x[i] * scale;  // computed whether it is used or not, as every kernel does
      y[i] = philox(a.seed, at / 4)[at % 4] >> 8 < limit ? T(0) : kept;
    }
  });
}

template <class Isa>
void dropout_simd(Ins in, Outs out, const DropoutAttr& a) {
  const float* const x = in[0].data<float>();
  float* const y = out[0].data<float>();
  const float scale = static_cast<float>(keep_scale(a.p));
  const int32_t limit = static_cast<int32_t>(threshold(a.p));
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      alignas(64) uint32_t bits[philox_lanes::batch];
      for (int64_t i = begin; i < end; i += philox_lanes::batch) {
        philox_lanes::draw(a.seed, (a.offset + static_cast<uint64_t>(i)) / 4, bits);
        const int64_t n = std::min(end - i, philox_lanes::batch);
        int64_t k = 0;
        for (; k + N <= n; k += N) {
          simd::u32<N> u;
          __builtin_memcpy(&u, bits + k, sizeof u);
          const simd::i32<N> r = (simd::i32<N>)(u >> 8);
          const simd::f32<N> kept = simd::load<N>(x + i + k) * scale;
          simd::store<N>(y + i + k, r < limit ? simd::f32<N>{} : kept);
        }
        for (; k < n; ++k)
          y[i + k] = static_cast<int32_t>(bits[k] >> 8) < limit ? 0 : x[i + k] * scale;
      }
    });
  });
}

Refusal whole_blocks(Ins, const DropoutAttr& a) {
  if (identity(a)) return {"without training, or with p = 0, it is a copy"};
  if (a.offset % 4 != 0) return {str("offset ", a.offset, " is not a multiple of 4")};
  return {};
}

template <class Isa>
Kernel<DropoutAttr> simd() {
  return simd_kernel<Isa>(dropout_simd<Isa>, whole_blocks);
}

const Op<DropoutAttr> op{{
    .name = "dropout",
    .doc = "Zeroes elements with probability p and scales the others by 1/(1-p)",
    .equation = "y[i] = x[i] / (1 - p) where Philox(seed, offset + i) >= p, else 0",
    .shape =
        [](Ins in, const DropoutAttr& a) {
          rules::arity("dropout", in, 1, 1);
          rules::floating("dropout", in, 0);
          if (!(a.p >= 0 && a.p <= 1))
            throw value_error(str("dropout: p ", a.p, " found, expected one in [0, 1]"));
          return Metas{in[0].meta()};
        },
    // Per element: the scaling, and on integers a fourth of a Philox block, a shift, a comparison.
    .cost =
        [](Ins in, std::span<const Meta>, const DropoutAttr& a) {
          if (identity(a)) return Cost{};
          const int64_t n = in[0].numel();
          return Cost{.mul = n, .iop = (n + 3) / 4 * philox_lanes::iops_per_block + 2 * n};
        },
    .kernels =
        {simd<simd::Avx512>(), simd<simd::Avx2>(), simd<simd::Portable>(), {"ref", dropout_ref}},
    .backward =
        [](const Saved<DropoutAttr>& s, Ins gy) {
          return Tensors{identity(s.attr()) ? gy[0] : op.one({gy[0]}, s.attr())};
        },
    .samples = {{{{{3, 5}}}, {0.3, true, 7, 8}},
                {{{{1}}}, {0.5, true, 1, 3}},
                {{{{5, 67}}}, {0.5, true, 11, uint64_t{1} << 36}},
                {{{{2, 3}}}, {0.5, false, 0, 0}},
                {{{{2, 37}}}, {1, true, 0, 0}},
                {{{{2, 37}}}, {0, true, 0, 0}}},
}};

}  // namespace

Tensor dropout(const Tensor& x, double p, bool training) {
  if (!training || p == 0) return x;
  Generator& g = default_generator();
  return op.one({x}, {p, training, g.seed, g.reserve(static_cast<uint64_t>(x.numel()))});
}

}  // namespace wattle
