// uniform: y[i] = low + (high - low) * u, u = number offset + i of the stream `seed`, in [0, 1).
// The sum is rounded to f32, so high itself can come out where the numbers near it lie far apart.
#include "core/rng.h"
#include "ops/philox_lanes.h"
#include "ops/rules.h"

namespace wattle {
namespace {

struct UniformAttr {
  Shape shape;
  double low = 0, high = 1;
  uint64_t seed = 0, offset = 0;
  template <class V>
  void visit(V&& v) {
    v("shape", shape), v("low", low), v("high", high), v("seed", seed), v("offset", offset);
  }
};

constexpr int64_t grain = 1 << 14;  // whole batches of Philox

void uniform_ref(Ins, Outs out, const UniformAttr& a) {
  float* const y = out[0].data<float>();
  const float low = static_cast<float>(a.low), width = static_cast<float>(a.high - a.low);
  parallel_for(out[0].numel(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      y[i] = low + width * uniform_at(a.seed, a.offset + static_cast<uint64_t>(i));
  });
}

template <class Isa>
void uniform_simd(Ins, Outs out, const UniformAttr& a) {
  float* const y = out[0].data<float>();
  const float low = static_cast<float>(a.low), width = static_cast<float>(a.high - a.low);
  parallel_for(out[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      alignas(64) uint32_t bits[philox_lanes::batch];
      for (int64_t i = begin; i < end; i += philox_lanes::batch) {
        philox_lanes::draw(a.seed, (a.offset + static_cast<uint64_t>(i)) / 4, bits);
        const int64_t n = end - i < philox_lanes::batch ? end - i : philox_lanes::batch;
#pragma omp simd
        for (int64_t k = 0; k < n; ++k)
          y[i + k] =
              low + width * (static_cast<float>(static_cast<int32_t>(bits[k] >> 8)) * 0x1p-24f);
      }
    });
  });
}

Refusal whole_blocks(Ins, const UniformAttr& a) {
  if (a.offset % 4 != 0) return {str("offset ", a.offset, " is not a multiple of 4")};
  return {};
}

// Not simd_kernel(): without operands there is no dtype to look at.
template <class Isa>
Kernel<UniformAttr> kernel() {
  return {simd::level_name(Isa::level), uniform_simd<Isa>, whole_blocks, nullptr, Isa::level};
}

// Per number: a multiplication and an addition; the draw itself is 80 integer operations per four.
const Op<UniformAttr> op{{
    .name = "uniform",
    .doc = "Uniform random numbers in [low, high)",
    .equation = "y[i] = low + (high - low) * Philox(seed, offset + i)",
    .shape =
        [](Ins in, const UniformAttr& a) {
          rules::arity("uniform", in, 0, 0);
          checked_numel("uniform", a.shape);
          if (!(a.low <= a.high))
            throw value_error(
                str("uniform: low ", a.low, " and high ", a.high, " found, expected low <= high"));
          return Metas{{a.shape, DType::f32}};
        },
    .cost =
        [](Ins, std::span<const Meta> out, const UniformAttr&) {
          const int64_t n = out[0].shape.numel();
          return Cost{.add = n, .mul = n, .iop = (n + 3) / 4 * philox_lanes::iops_per_block};
        },
    .kernels = {kernel<simd::Avx512>(),
                kernel<simd::Avx2>(),
                kernel<simd::Portable>(),
                {"ref", uniform_ref}},
    .samples = {{{}, {{3, 5}, -1, 2, 7, 8}},
                {{}, {{1}, 0, 1, 0, 1}},
                {{}, {{3, 37}, 0, 1, uint64_t{1} << 40, uint64_t{1} << 36}},
                {{}, {{20001}, -2, 0.5, 3, 0}}},
}};

}  // namespace

Tensor uniform(const Shape& shape, double low, double high) {
  Generator& g = default_generator();
  const uint64_t n = static_cast<uint64_t>(checked_numel("uniform", shape));
  return op.one({}, {shape, low, high, g.seed, g.reserve(n)});
}

}  // namespace wattle
