// normal: y[i] = mean + std * z, z = standard normal number offset + i of the stream `seed`: two
// from each pair of uniform numbers u, v by Box and Muller (1958),
//   r = sqrt(-2 log(1 - u)),   z_even = r cos(2 pi v),   z_odd = r sin(2 pi v)
#include "core/rng.h"
#include "ops/philox_lanes.h"
#include "ops/rules.h"

namespace wattle {
namespace {

struct NormalAttr {
  Shape shape;
  double mean = 0, std = 1;
  uint64_t seed = 0, offset = 0;
  template <class V>
  void visit(V&& v) {
    v("shape", shape), v("mean", mean), v("std", std), v("seed", seed), v("offset", offset);
  }
};

void normal_ref(Ins, Outs out, const NormalAttr& a) {
  float* const y = out[0].data<float>();
  const float mean = static_cast<float>(a.mean), std = static_cast<float>(a.std);
  // Chunks begin at an even number of the stream, so that a pair is made once.
  const int64_t odd = static_cast<int64_t>(a.offset % 2), n = out[0].numel();
  parallel_for(n + odd, 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += 2) {
      const auto z = normal_pair_at(a.seed, (a.offset + static_cast<uint64_t>(i)) / 2);
      if (i >= odd) y[i - odd] = mean + std * z[0];
      if (i + 1 - odd < n) y[i + 1 - odd] = mean + std * z[1];
    }
  });
}

// Per number: mean + std * z. Per pair: 1 - u; -2 log, 2 pi v and r times both; log, sqrt, cos,
// sin; and half a Philox block.
const Op<NormalAttr> op{{
    .name = "normal",
    .doc = "Normally distributed random numbers",
    .equation = "y[i] = mean + std * BoxMuller(Philox(seed, offset + i))",
    .shape =
        [](Ins in, const NormalAttr& a) {
          rules::arity("normal", in, 0, 0);
          checked_numel("normal", a.shape);
          if (!(a.std >= 0))
            throw value_error(str("normal: std ", a.std, " found, expected at least 0"));
          return Metas{{a.shape, DType::f32}};
        },
    .cost =
        [](Ins, std::span<const Meta> out, const NormalAttr& a) {
          const int64_t n = out[0].shape.numel(), odd = static_cast<int64_t>(a.offset % 2);
          const int64_t pairs = n == 0 ? 0 : (n + odd + 1) / 2;
          return Cost{.add = n + pairs,
                      .mul = n + 4 * pairs,
                      .special = 4 * pairs,
                      .iop = pairs * philox_lanes::iops_per_block};
        },
    .kernels = {{"ref", normal_ref}},
    .samples = {{{}, {{3, 5}, -1, 2, 7, 8}},
                {{}, {{1}, 0, 1, 0, 1}},
                {{}, {{3, 37}, 0, 1, uint64_t{1} << 40, 5}},
                {{}, {{9001}, 0.5, 0.1, 3, 0}}},
}};

}  // namespace

Tensor normal(const Shape& shape, double mean, double std) {
  Generator& g = default_generator();
  const uint64_t n = static_cast<uint64_t>(checked_numel("normal", shape));
  return op.one({}, {shape, mean, std, g.seed, g.reserve(n)});
}

}  // namespace wattle
