// rms_norm: y = x / sqrt(mean(x^2) + eps) * weight, over the last dims (ops/norm_rows.h).
// Without eps it is the distance from 1 to the next number of the dtype, as in PyTorch.
#include <limits>

#include "ops/norm_rows.h"

namespace wattle {
namespace {

struct RmsAttr {
  Shape normalized_shape;
  std::optional<double> eps;
  template <class V>
  void visit(V&& v) {
    v("normalized_shape", normalized_shape), v("eps", eps);
  }
};
struct RmsGradAttr {
  Shape normalized_shape;
  std::optional<double> eps;
  bool params = true;  ///< also the gradient of weight
  template <class V>
  void visit(V&& v) {
    v("normalized_shape", normalized_shape), v("eps", eps), v("params", params);
  }
};

double eps_of(const std::optional<double>& eps, const Tensor& x) {
  if (eps) return *eps;
  return x.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                 : std::numeric_limits<double>::epsilon();
}

// ---- rms_norm_grad: gy, x, weight -> gx, and with params gw ----

void grad_ref(Ins in, Outs out, const RmsGradAttr& a) {
  const norm::Rows rows(in[1].shape(), a.normalized_shape);
  dispatch_floating("rms_norm_grad", in[0].dtype(), [&]<class T>() {
    norm::grad_ref<false, T>(in[0].data<T>(), in[1].data<T>(), norm::optional_data<T>(in, 2),
                             out[0].data<T>(), norm::optional_data<T>(out, 1), nullptr, rows,
                             eps_of(a.eps, in[1]));
  });
}

template <class Isa>
void grad_simd(Ins in, Outs out, const RmsGradAttr& a) {
  norm::grad_simd<false, Isa>(in[0].data<float>(), in[1].data<float>(),
                              norm::optional_data<float>(in, 2), out[0].data<float>(),
                              norm::optional_data<float>(out, 1), nullptr,
                              norm::Rows(in[1].shape(), a.normalized_shape), eps_of(a.eps, in[1]));
}

const Op<RmsGradAttr> grad_op{{
    .name = "rms_norm_grad",
    .doc = "Gradient of rms_norm",
    .equation = "gx = r (g - h mean(g h)), g = gy w; gw = sum gy h",
    .shape =
        [](Ins in, const RmsGradAttr& a) {
          rules::arity("rms_norm_grad", in, 2, 3);
          norm::check("rms_norm_grad", in, 1, 2, a.normalized_shape);
          if (in[0].shape() != in[1].shape())
            throw shape_error(str("rms_norm_grad: gradient ", in[0], " found for ", in[1]));
          const Meta tail{a.normalized_shape, in[1].dtype()};
          return a.params ? Metas{in[1].meta(), tail} : Metas{in[1].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const RmsGradAttr& a) {
          return norm::grad_cost(false, {in[1].shape(), a.normalized_shape}, in.size() > 2 && in[2],
                                 a.params);
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>),
                {"ref", grad_ref}},
    .samples = {{{{{3, 5}}, {{3, 5}}, {{5}}}, {{5}}},
                {{{{4, 1, 37}}, {{4, 1, 37}}}, {{37}, 0.1, false}},
                {{{{150, 2, 65}}, {{150, 2, 65}}, {{2, 65}}}, {{2, 65}, 1e-5}},
                {{{{3, 1}}, {{3, 1}}, {{1}}}, {{1}, 1}}},
}};

// ---- rms_norm ----

void forward_ref(Ins in, Outs out, const RmsAttr& a) {
  const norm::Rows rows(in[0].shape(), a.normalized_shape);
  dispatch_floating("rms_norm", in[0].dtype(), [&]<class T>() {
    norm::forward_ref<false, T>(in[0].data<T>(), norm::optional_data<T>(in, 1), nullptr,
                                out[0].data<T>(), rows, eps_of(a.eps, in[0]));
  });
}

template <class Isa>
void forward_simd(Ins in, Outs out, const RmsAttr& a) {
  norm::forward_simd<false, Isa>(
      in[0].data<float>(), norm::optional_data<float>(in, 1), nullptr, out[0].data<float>(),
      norm::Rows(in[0].shape(), a.normalized_shape), eps_of(a.eps, in[0]));
}

Tensors backward(const Saved<RmsAttr>& s, Ins gy) {
  const RmsAttr& a = s.attr();
  const Tensors g = grad_op({gy[0], s.in(0), s.has(1) ? s.in(1) : Tensor{}},
                            {a.normalized_shape, a.eps, s.needs(1)});
  return {g[0], s.needs(1) ? g[1] : Tensor{}};
}

const Op<RmsAttr> op{{
    .name = "rms_norm",
    .doc = "Divides the last dims by their root mean square, then scales",
    .equation = "y = x / sqrt(mean(x^2) + eps) * weight",
    .shape =
        [](Ins in, const RmsAttr& a) {
          rules::arity("rms_norm", in, 1, 2);
          norm::check("rms_norm", in, 0, 1, a.normalized_shape);
          return Metas{in[0].meta()};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const RmsAttr& a) {
          return norm::forward_cost(false, {in[0].shape(), a.normalized_shape},
                                    in.size() > 1 && in[1], false);
        },
    .kernels = {simd_kernel<simd::Avx512>(forward_simd<simd::Avx512>),
                simd_kernel<simd::Avx2>(forward_simd<simd::Avx2>),
                simd_kernel<simd::Portable>(forward_simd<simd::Portable>),
                {"ref", forward_ref}},
    .saves_in = {0, 1},
    .backward = backward,
    .samples = {{{{{3, 5}}, {{5}}}, {{5}}},
                {{{{4, 1, 37}}}, {{37}, 0.1}},
                {{{{2, 3, 6}}, {{3, 6}}}, {{3, 6}}},
                {{{{2, 150}}, {{150}}}, {{150}}},
                {{{{3, 1}}, {{1}}}, {{1}, 1}}},
}};

}  // namespace

Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight,
                std::optional<double> eps) {
  return op.one({x, weight}, {normalized_shape, eps});
}

}  // namespace wattle
