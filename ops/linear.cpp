// linear: y = x W^T + b.   gx = gy W,  gW = gy^T x,  gb = sum of gy over rows.
#include "ops/gemm.h"
#include "ops/rules.h"

namespace wattle {
namespace {

// x [rows, k] (leading dims folded), w [n, k], b [n] -> y [rows, n]
struct Sizes {
  int64_t rows, k, n;
};

Sizes sizes_of(Ins in) {
  const Shape& x = in[0].shape();
  return {x.numel(0, x.rank() - 1), x.back(), in[1].size(0)};
}

Metas linear_shape(Ins in, const LinearAttr& a) {
  rules::arity("linear", in, 2, 3);
  rules::same_dtype("linear", in);
  rules::floating("linear", in, 0);
  rules::accumulate("linear", in, a.accumulate);
  rules::rank("linear", in, 1, 2);
  const Tensor &x = in[0], &w = in[1];
  if (x.rank() == 0 || x.size(-1) != w.size(1))
    throw shape_error(str("linear: input ", x.shape(), " and weight ", w.shape(),
                          " differ in the number of features (", x.rank() ? x.size(-1) : 0, " and ",
                          w.size(1), ")"));
  if (in.size() > 2 && in[2] && in[2].shape() != Shape{w.size(0)})
    throw shape_error(str("linear: bias ", in[2].shape(), ", expected ", Shape{w.size(0)}));
  Shape out = x.shape();
  out[out.rank() - 1] = w.size(0);
  return {{out, rules::numbers_dtype(in)}};
}

bool has_bias(Ins in) { return in.size() > 2 && in[2].defined(); }

void linear_ref(Ins in, Outs out, const LinearAttr&) {
  const Sizes s = sizes_of(in);
  dispatch_floating("linear", in[0].dtype(), [&]<class T>() {
    const T *x = in[0].data<T>(), *w = in[1].data<T>();
    const T* b = has_bias(in) ? in[2].data<T>() : nullptr;
    T* y = out[0].data<T>();
    for (int64_t i = 0; i < s.rows; ++i)
      for (int64_t j = 0; j < s.n; ++j) {
        T acc = T(0);
        for (int64_t k = 0; k < s.k; ++k) acc = num::mac(acc, x[i * s.k + k], w[j * s.k + k]);
        y[i * s.n + j] = b ? acc + b[j] : acc;
      }
  });
}

template <class Isa>
void linear_simd(Ins in, Outs out, const LinearAttr&) {
  const Sizes s = sizes_of(in);
  gemm::sgemm<Isa>(s.rows, s.n, s.k, {in[0].data<float>(), s.k, 1}, {in[1].data<float>(), 1, s.k},
                   out[0].data<float>(), s.n,
                   {.bias_n = has_bias(in) ? in[2].data<float>() : nullptr});
}

const Op<LinearAttr> op{{
    .name = "linear",
    .doc = "Fully connected layer",
    .equation = "y = x W^T + b",
    .shape = linear_shape,
    .cost =
        [](Ins in, std::span<const Meta>, const LinearAttr&) {
          const Sizes s = sizes_of(in);
          Cost c = rules::contraction(in, s.rows * s.n * s.k);
          c.add += has_bias(in) ? s.rows * s.n : 0;
          return c;
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const LinearAttr&) {
          return out[0].shape.numel() == 0 ? Bytes{} : default_bytes(in, out, {});
        },
    .kernels = {simd_kernel<simd::Avx512>(linear_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(linear_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(linear_simd<simd::Portable>),
                {"ref", linear_ref}},
    .saves_in = {0, 1},
    .spike_ins = {0},
    .backward =
        [](const Saved<LinearAttr>& s, Ins grad) {
          const Tensor x = s.in(0), w = s.in(1);
          const Tensor gy =
              reshape(grad[0], {s.shape(0).numel(0, s.shape(0).rank() - 1), w.size(0)});
          const std::string& mode = s.attr().accumulate;
          Tensor gx, gw, gb;
          if (s.needs(0)) gx = reshape(matmul(gy, w, MatmulAttr{.accumulate = mode}), x.shape());
          if (s.needs(1))
            gw = matmul(gy, reshape(x, {gy.size(0), x.size(-1)}),
                        MatmulAttr{true, false, mode, s.attr().weight_grad});
          if (s.needs(2)) gb = sum(gy, {0});
          return Tensors{gx, gw, gb};
        },
    .samples = {{{{{5, 7}}, {{9, 7}}, {{9}}}},
                {{{{1, 1}}, {{1, 1}}, {{1}}}},
                {{{{2, 3, 37}}, {{19, 37}}, {{19}}}},
                {{{{4, 6}}, {{3, 6}}}},
                {{{{6}}, {{3, 6}}, {{3}}}}},
}};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return op.one({x, weight, bias});
}
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const LinearAttr& attr) {
  return op.one({x, weight, bias}, attr);
}

}  // namespace wattle
