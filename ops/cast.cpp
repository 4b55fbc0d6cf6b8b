// cast(x) = x as another element type.   dx = gy in x's type, between floating types.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct CastAttr {
  DType dtype = DType::f32;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
  }
};

// Towards zero; negative numbers wrap around in unsigned types, by way of 64 bits, as in PyTorch.
template <class To, class From>
To convert(const From& x) {
  if constexpr (std::is_same_v<To, bool>) return static_cast<double>(x) != 0;
  else if constexpr (std::is_same_v<To, Counted>) return To(static_cast<double>(x));
  else if constexpr (std::is_integral_v<To> && sizeof(To) < 8)
    return static_cast<To>(static_cast<int64_t>(x));
  else return static_cast<To>(x);
}

template <class From, class To>
void cast_run(const Tensor& x, const Tensor& y) {
  const From* from = x.data<From>();
  To* to = y.data<To>();
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = convert<To>(from[i]);
  };
  if (std::is_same_v<From, Counted>) run(0, x.numel());
  else parallel_for(x.numel(), light, run);
}

void cast_ref(Ins in, Outs out, const CastAttr&) {
  dispatch_all("cast", in[0].dtype(), [&]<class From>() {
    dispatch_all("cast", out[0].dtype(), [&]<class To>() { cast_run<From, To>(in[0], out[0]); });
  });
}

const Op<CastAttr> op{{
    .name = "cast",
    .doc = "Conversion of the element type",
    .equation = "y = x as dtype",
    .shape =
        [](Ins in, const CastAttr& a) {
          rules::arity("cast", in, 1, 1);
          return Metas{{in[0].shape(), a.dtype}};
        },
    .cost = [](Ins, std::span<const Meta>, const CastAttr&) { return Cost{}; },
    .kernels = {{"ref", cast_ref}},
    .backward = [](const Saved<CastAttr>& s,
                   Ins gy) { return Tensors{cast(gy[0], s.in_meta(0).dtype)}; },
    .samples = {{{{{3, 5}}}, {DType::f64}},
                {{{{1}}}, {DType::f64}},
                {{{{2, 37}, -50, 50}}, {DType::i64}},
                {{{{2, 37}, -9, 9, SampleIn::integers}}, {DType::f64}},
                {{{{7}, 0, 1, SampleIn::booleans}}, {DType::u8}},
                {{{{9}, -2, 3, SampleIn::integers}}, {DType::boolean}},
                {{{{5}, 0, 90}}, {DType::i32}}},
}};

}  // namespace

Tensor cast(const Tensor& x, DType dtype) {
  return x.dtype() == dtype ? x : op.one({x}, {.dtype = dtype});
}

}  // namespace wattle
