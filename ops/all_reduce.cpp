// all_reduce: x = sum of x over all ranks, in place (core/ranks.h). Collective: every rank calls it
// for the same tensors in the same order. Cost: a rank's share of a ring, in which each rank adds
// and sends (R - 1) / R of the numbers twice; nothing for a rank alone.
#include "core/ranks.h"
#include "ops/rules.h"

namespace wattle {
namespace {

void run(Ins in, Outs, const NoAttr&) {
  dispatch_floating("all_reduce", in[0].dtype(), [&]<class T>() {
    if constexpr (!std::is_same_v<T, Counted>) world().all_reduce(in[0].data<T>(), in[0].numel());
  });
}

const Op<> op{{
    .name = "all_reduce",
    .doc = "Sum over all ranks, in place",
    .equation = "x = sum over ranks of x",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("all_reduce", in, 1, 1);
          rules::floating("all_reduce", in, 0);
          if (is_coded(in[0].dtype()))
            throw dtype_error(str("all_reduce: found ", in[0], ", expected f32 or f64"));
          return Metas{};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NoAttr&) {
          const int64_t ranks = world().size(), n = in[0].numel();
          return Cost{.add = (n * (ranks - 1) + ranks - 1) / ranks};
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const NoAttr&) {
          return world().size() == 1 ? Bytes{} : default_bytes(in, out, {0});
        },
    .kernels = {{"ref", run}},
    .writes = {0},
    .samples = {{{{{4, 5}}}}, {{{{1}}}}, {{{{3, 37}}}}},
}};

}  // namespace

void all_reduce(const Tensor& x) { op({x}); }

}  // namespace wattle
