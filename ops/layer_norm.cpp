// layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias, over the last dims
// (ops/norm_rows.h).
#include "ops/norm_rows.h"

namespace wattle {
namespace {

struct NormAttr {
  Shape normalized_shape;
  double eps = 1e-5;
  template <class V>
  void visit(V&& v) {
    v("normalized_shape", normalized_shape), v("eps", eps);
  }
};
struct NormGradAttr {
  Shape normalized_shape;
  double eps = 1e-5;
  bool params = true;  ///< also the gradients of weight and bias
  template <class V>
  void visit(V&& v) {
    v("normalized_shape", normalized_shape), v("eps", eps), v("params", params);
  }
};

// ---- layer_norm_grad: gy, x, weight -> gx, and with params gw, gb ----

void grad_ref(Ins in, Outs out, const NormGradAttr& a) {
  const norm::Rows rows(in[1].shape(), a.normalized_shape);
  dispatch_floating("layer_norm_grad", in[0].dtype(), [&]<class T>() {
    norm::grad_ref<true>(in[0].data<T>(), in[1].data<T>(), norm::optional_data<T>(in, 2),
                         out[0].data<T>(), norm::optional_data<T>(out, 1),
                         norm::optional_data<T>(out, 2), rows, a.eps);
  });
}

template <class Isa>
void grad_simd(Ins in, Outs out, const NormGradAttr& a) {
  norm::grad_simd<true, Isa>(in[0].data<float>(), in[1].data<float>(),
                             norm::optional_data<float>(in, 2), out[0].data<float>(),
                             norm::optional_data<float>(out, 1), norm::optional_data<float>(out, 2),
                             norm::Rows(in[1].shape(), a.normalized_shape), a.eps);
}

const Op<NormGradAttr> grad_op{{
    .name = "layer_norm_grad",
    .doc = "Gradient of layer_norm",
    .equation = "gx = r (g - h mean(g h) - mean(g)), g = gy w; gw = sum gy h; gb = sum gy",
    .shape =
        [](Ins in, const NormGradAttr& a) {
          rules::arity("layer_norm_grad", in, 2, 3);
          norm::check("layer_norm_grad", in, 1, 2, a.normalized_shape);
          if (in[0].shape() != in[1].shape())
            throw shape_error(str("layer_norm_grad: gradient ", in[0], " found for ", in[1]));
          const Meta tail{a.normalized_shape, in[1].dtype()};
          return a.params ? Metas{in[1].meta(), tail, tail} : Metas{in[1].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NormGradAttr& a) {
          return norm::grad_cost(true, {in[1].shape(), a.normalized_shape}, in.size() > 2 && in[2],
                                 a.params);
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref", grad_ref}},
    .samples = {{{{{3, 5}}, {{3, 5}}, {{5}}}, {{5}}},
                {{{{4, 1, 37}}, {{4, 1, 37}}}, {{37}, 0.1, false}},
                {{{{150, 2, 65}}, {{150, 2, 65}}, {{2, 65}}}, {{2, 65}}},
                {{{{3, 1}}, {{3, 1}}, {{1}}}, {{1}, 1}}},
}};

// ---- layer_norm ----

void forward_ref(Ins in, Outs out, const NormAttr& a) {
  const norm::Rows rows(in[0].shape(), a.normalized_shape);
  dispatch_floating("layer_norm", in[0].dtype(), [&]<class T>() {
    norm::forward_ref<true>(in[0].data<T>(), norm::optional_data<T>(in, 1),
                            norm::optional_data<T>(in, 2), out[0].data<T>(), rows, a.eps);
  });
}

template <class Isa>
void forward_simd(Ins in, Outs out, const NormAttr& a) {
  norm::forward_simd<true, Isa>(in[0].data<float>(), norm::optional_data<float>(in, 1),
                                norm::optional_data<float>(in, 2), out[0].data<float>(),
                                norm::Rows(in[0].shape(), a.normalized_shape), a.eps);
}

Tensors backward(const Saved<NormAttr>& s, Ins gy) {
  const NormAttr& a = s.attr();
  const bool params = s.needs(1) || s.needs(2);
  const Tensors g =
      grad_op({gy[0], s.in(0), s.has(1) ? s.in(1) : Tensor{}}, {a.normalized_shape, a.eps, params});
  return {g[0], s.needs(1) ? g[1] : Tensor{}, s.needs(2) ? g[2] : Tensor{}};
}

const Op<NormAttr> op{{
    .name = "layer_norm",
    .doc = "Normalises the last dims to mean 0 and variance 1, then scales and shifts",
    .equation = "y = (x - mean) / sqrt(var + eps) * weight + bias",
    .shape =
        [](Ins in, const NormAttr& a) {
          rules::arity("layer_norm", in, 1, 3);
          norm::check("layer_norm", in, 0, 1, a.normalized_shape);
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const NormAttr& a) {
          return norm::forward_cost(true, {in[0].shape(), a.normalized_shape},
                                    in.size() > 1 && in[1], in.size() > 2 && in[2]);
        },
    .kernels = {simd_kernel<simd::Avx512>(forward_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(forward_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(forward_simd<simd::Portable>),
                {"ref", forward_ref}},
    .saves_in = {0, 1},
    .backward = backward,
    .samples = {{{{{3, 5}}, {{5}}, {{5}}}, {{5}}},
                {{{{4, 1, 37}}}, {{37}, 0.1}},
                {{{{2, 3, 6}}, {{3, 6}}}, {{3, 6}}},
                {{{{7, 20}}, {{}, 0, 0, SampleIn::absent}, {{20}}}, {{20}}},
                {{{{2, 150}}, {{150}}, {{150}}}, {{150}}},
                {{{{3, 1}}, {{1}}, {{1}}}, {{1}, 1}}},
}};

}  // namespace

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                  const Tensor& bias, double eps) {
  return op.one({x, weight, bias}, {normalized_shape, eps});
}

}  // namespace wattle
