// to_float: y = scale * x + shift, from stored bytes to f32. Images stay u8 in memory and on their
// way to the device; this is the first op of a network.
#include "ops/rules.h"

namespace wattle {
namespace {

struct ToFloatAttr {
  double scale = 1.0 / 255, shift = 0;
  template <class V>
  void visit(V&& v) {
    v("scale", scale), v("shift", shift);
  }
};

constexpr int64_t grain = 1 << 16;

// The result is f32 for u8 and integers, so there is no counting scalar to run it on; it is written
// with one multiplication and one addition an element, and that is what it declares.
void to_float_ref(Ins in, Outs out, const ToFloatAttr& a) {
  const float scale = static_cast<float>(a.scale), shift = static_cast<float>(a.shift);
  const uint8_t* x = in[0].data<uint8_t>();
  float* y = out[0].data<float>();
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(x[i]) * scale + shift;
  });
}

template <class Isa>
void to_float_simd(Ins in, Outs out, const ToFloatAttr& a) {
  const float scale = static_cast<float>(a.scale), shift = static_cast<float>(a.shift);
  const uint8_t* x = in[0].data<uint8_t>();
  float* y = out[0].data<float>();
  parallel_for(in[0].numel(), grain, [&](int64_t begin, int64_t end) {
    Isa::call([&]<int>() WATTLE_INLINE_BODY {
      // The compiler widens a plain loop with one instruction; a vector conversion from bytes it
      // would assemble lane by lane.
      const uint8_t* __restrict from = x;
      float* __restrict to = y;
      for (int64_t i = begin; i < end; ++i) to[i] = static_cast<float>(from[i]) * scale + shift;
    });
  });
}

template <class Isa>
Kernel<ToFloatAttr> kernel() {
  return {simd::level_name(Isa::level), to_float_simd<Isa>, nullptr, nullptr, Isa::level};
}

const Op<ToFloatAttr> op{{
    .name = "to_float",
    .doc = "Bytes to f32, scaled and shifted",
    .equation = "y = scale * x + shift",
    .shape =
        [](Ins in, const ToFloatAttr&) {
          rules::arity("to_float", in, 1, 1);
          if (in[0].dtype() != DType::u8)
            throw dtype_error(str("to_float: found ", in[0], ", expected u8"));
          return Metas{{in[0].shape(), DType::f32}};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const ToFloatAttr&) { return Cost{.add = in[0].numel(), .mul = in[0].numel()}; },
    .kernels = {kernel<simd::Avx512>(),
                kernel<simd::Avx2>(),
                kernel<simd::Portable>(),
                {"ref", to_float_ref}},
    .samples = {{{{{3, 37}, 0, 256, SampleIn::integers, {}, DType::u8}}},
                {{{{1}, 0, 256, SampleIn::integers, {}, DType::u8}}, {1.0, -128.0}},
                {{{{2, 1, 5, 5}, 0, 256, SampleIn::integers, {}, DType::u8}}}},
}};

}  // namespace

Tensor to_float(const Tensor& x, double scale, double shift) { return op.one({x}, {scale, shift}); }

}  // namespace wattle
