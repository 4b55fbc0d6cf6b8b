// where(c, a, b) = a where c, else b.   da = gy where c, else 0;   db = gy where not c, else 0.
#include "ops/elementwise.h"

namespace wattle {
namespace {

using namespace elementwise;

struct Fn {
  static constexpr const char* name = "where";
  static constexpr Dtypes dtypes = Dtypes::all;
  static constexpr int64_t grain = light;
  template <class T>
  using In = Pack<bool, T, T>;
  template <class T>
  T operator()(bool c, const T& a, const T& b) const {
    const T yes = a, no = b;  // both are read, as every kernel does
    return c ? yes : no;
  }
  template <int N>
  WATTLE_FORCE_INLINE simd::f32<N> lanes(simd::i32<N> c, simd::f32<N> a, simd::f32<N> b) const {
    return c ? a : b;
  }
};

Metas where_shape(Ins in, const NoAttr&) {
  rules::arity("where", in, 3, 3);
  if (in[0].dtype() != DType::boolean)
    throw dtype_error(str("where: condition is ", in[0], ", expected bool"));
  rules::same_dtype("where", in.subspan(1));
  return {Meta{broadcast_all("where", in), in[1].dtype()}};
}

Tensors where_backward(const Saved<NoAttr>& s, Ins gy) {
  Tensors g(3);
  const Tensor c = s.in(0), zero = Tensor::full({}, 0, gy[0].dtype(), gy[0].device());
  if (s.needs(1)) g[1] = sum_to(where(c, gy[0], zero), s.shape(1));
  if (s.needs(2)) g[2] = sum_to(where(c, zero, gy[0]), s.shape(2));
  return g;
}

const Op<> op{{
    .name = "where",
    .doc = "Chooses between two tensors",
    .equation = "y = a where condition, else b",
    .shape = where_shape,
    .cost = [](Ins, std::span<const Meta>, const NoAttr&) { return Cost{}; },
    .kernels = kernels<Fn>(),
    .layout = Layout::strided,
    .saves_in = {0},
    .backward = where_backward,
    .samples = {{{{{3, 5}, 0, 1, SampleIn::booleans}, {{3, 5}}, {{3, 5}}}},
                {{{{1}, 0, 1, SampleIn::booleans}, {{1}}, {{1}}}},
                {{{{2, 37}, 0, 1, SampleIn::booleans}, {{37}}, {{2, 1}}}},
                {{{{4, 1}, 0, 1, SampleIn::booleans}, {{}}, {{3}}}}},
}};

}  // namespace

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return op.one({condition, a, b});
}

}  // namespace wattle
