// conv2d: y[n,k,p,q] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, p*stride - pad + r*dil, q*... + s*dil]
// (cross-correlation, zeros outside the image). Three products of the same size, each linear in
// both operands, so each one's backward is made of the other two:
//   gx = conv2d_grad_input(gy, w),  gw = conv2d_grad_weight(gy, x),  gb = sum of gy over n, p, q
// Cost is the literature's dense count, taps in the padding included: the reference executes them.
#include <algorithm>

#include "ops/conv2d_kernels.h"
#include "ops/rules.h"

namespace wattle {
namespace {

using conv::Geometry;
using ConvAttr = ConvGeometryAttr;

// The gradient ops also carry the size that the product cannot tell: of the image or of the kernel.
struct ConvGradAttr : ConvAttr {
  Pair size = 1;
  std::optional<DType> out = {};
  template <class V>
  void visit(V&& v) {
    ConvAttr::visit(v);
    v("size", size), v("out", out);
  }
};

int64_t out_size(const char* op, int64_t in, int64_t kernel, int64_t stride, int64_t pad,
                 int64_t dil) {
  const int64_t reach = dil * (kernel - 1) + 1;
  if (in + 2 * pad < reach)
    throw shape_error(
        str(op, ": kernel reaches over ", reach, " pixels, the padded image has ", in + 2 * pad));
  return (in + 2 * pad - reach) / stride + 1;
}

// A missing batch dimension counts as a batch of one.
Geometry geometry(const char* op, const Shape& x, const Shape& w, const ConvAttr& a) {
  if (x.rank() != 4 && x.rank() != 3)
    throw shape_error(str(op, ": image ", x, ", expected [N,C,H,W] or [C,H,W]"));
  if (w.rank() != 4) throw shape_error(str(op, ": weight ", w, ", expected [K,C/groups,R,S]"));
  if (a.stride.h < 1 || a.stride.w < 1 || a.dilation.h < 1 || a.dilation.w < 1 || a.padding.h < 0 ||
      a.padding.w < 0)
    throw value_error(str(op, ": stride ", attr::text(a.stride), ", padding ",
                          attr::text(a.padding), ", dilation ", attr::text(a.dilation),
                          "; expected stride and dilation >= 1, padding >= 0"));
  const int b = x.rank() - 3;
  Geometry g{
      b ? x[0] : 1, x[b],       x[b + 1],    x[b + 2],    w[0],         w[2],         w[3],    0, 0,
      a.stride.h,   a.stride.w, a.padding.h, a.padding.w, a.dilation.h, a.dilation.w, a.groups};
  if (g.groups < 1 || g.c % g.groups || g.k % g.groups)
    throw value_error(
        str(op, ": groups ", g.groups, " must divide the channels ", g.c, " and ", g.k));
  if (w[1] * g.groups != g.c)
    throw shape_error(str(op, ": image ", x, " has ", g.c, " channels, weight ", w, " with groups ",
                          g.groups, " takes ", w[1] * g.groups));
  if (g.r < 1 || g.s < 1) throw shape_error(str(op, ": weight ", w, " has an empty kernel"));
  g.ho = out_size(op, g.h, g.r, g.stride_h, g.pad_h, g.dil_h);
  g.wo = out_size(op, g.w, g.s, g.stride_w, g.pad_w, g.dil_w);
  return g;
}

Shape image_shape(const Shape& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  return like.rank() == 3 ? Shape{c, h, w} : Shape{n, c, h, w};
}

int64_t dense_macs(const Geometry& g) {
  return g.n * g.k * g.ho * g.wo * (g.c / g.groups) * g.r * g.s;
}

// Rows (or columns) of the image that some tap reads.
int64_t touched(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad, int64_t dil) {
  std::vector<char> seen(static_cast<size_t>(in), 0);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t r = 0; r < kernel; ++r) {
      const int64_t i = o * stride - pad + r * dil;
      if (i >= 0 && i < in) seen[static_cast<size_t>(i)] = 1;
    }
  return std::count(seen.begin(), seen.end(), 1);
}

int64_t touched_image_bytes(const Geometry& g, DType dtype) {
  return storage_bytes({g.n * g.c * touched(g.h, g.ho, g.r, g.stride_h, g.pad_h, g.dil_h) *
                        touched(g.w, g.wo, g.s, g.stride_w, g.pad_w, g.dil_w)},
                       dtype);
}

// Calls fn(y index, x index or -1 in the padding, w index) for every tap of every output.
template <class F>
void for_each_tap(const Geometry& g, F&& fn) {
  const int64_t cg = g.c / g.groups, kg = g.k / g.groups;
  for (int64_t n = 0, y = 0; n < g.n; ++n)
    for (int64_t k = 0; k < g.k; ++k)
      for (int64_t p = 0; p < g.ho; ++p)
        for (int64_t q = 0; q < g.wo; ++q, ++y)
          for (int64_t c = 0; c < cg; ++c)
            for (int64_t r = 0; r < g.r; ++r)
              for (int64_t s = 0; s < g.s; ++s) {
                const int64_t i = p * g.stride_h - g.pad_h + r * g.dil_h;
                const int64_t j = q * g.stride_w - g.pad_w + s * g.dil_w;
                const bool inside = i >= 0 && i < g.h && j >= 0 && j < g.w;
                const int64_t channel = k / kg * cg + c;
                fn(y, inside ? ((n * g.c + channel) * g.h + i) * g.w + j : -1,
                   ((k * cg + c) * g.r + r) * g.s + s);
              }
}

bool has_bias(Ins in) { return in.size() > 2 && in[2].defined(); }

}  // namespace

conv::Geometry conv::forward_geometry(Ins in, const ConvGeometryAttr& a, const char* op) {
  return geometry(op, in[0].shape(), in[1].shape(), a);
}

namespace {

using conv::forward_geometry;

Metas conv_shape(Ins in, const Conv2dAttr& a) {
  rules::arity("conv2d", in, 2, 3);
  rules::same_dtype("conv2d", in);
  rules::floating("conv2d", in, 0);
  rules::accumulate("conv2d", in, a.accumulate);
  const Geometry g = forward_geometry(in, a);
  if (has_bias(in) && in[2].shape() != Shape{g.k})
    throw shape_error(str("conv2d: bias ", in[2].shape(), ", expected ", Shape{g.k}));
  return {{image_shape(in[0].shape(), g.n, g.k, g.ho, g.wo), rules::numbers_dtype(in)}};
}

void conv_ref(Ins in, Outs out, const Conv2dAttr& a) {
  const Geometry g = forward_geometry(in, a);
  dispatch_floating("conv2d", in[0].dtype(), [&]<class T>() {
    const T *x = in[0].data<T>(), *w = in[1].data<T>();
    T* y = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) y[i] = T(0);
    for_each_tap(g, [&](int64_t yi, int64_t xi, int64_t wi) {
      y[yi] = num::mac(y[yi], xi < 0 ? T(0) : x[xi], w[wi]);
    });
    if (!has_bias(in)) return;
    const T* b = in[2].data<T>();
    const int64_t plane = g.ho * g.wo;
    for (int64_t i = 0; i < out[0].numel(); ++i) y[i] += b[i / plane % g.k];
  });
}

template <class Isa>
void conv_simd(Ins in, Outs out, const Conv2dAttr& a) {
  conv::forward<Isa>(forward_geometry(in, a), in[0].data<float>(), in[1].data<float>(),
                     has_bias(in) ? in[2].data<float>() : nullptr, out[0].data<float>());
}

// What the kernel really loads, stores and multiplies, scratch and padding included.
Cost with_work(Cost c, const conv::Work& w) {
  c.mac = w.mac;
  c.read = w.read;
  c.written = w.written;
  return c;
}
template <class Isa>
Cost conv_executes(Ins in, const Cost& c, const Conv2dAttr& a) {
  return with_work(c, conv::forward_work<Isa>(forward_geometry(in, a), has_bias(in)));
}

// ---- conv2d_grad_input(gy, w): gx ----

Geometry input_geometry(Ins in, const ConvGradAttr& a) {
  const Shape &gy = in[0].shape(), &w = in[1].shape();
  if (gy.rank() < 3 || w.rank() != 4)
    throw shape_error(str("conv2d_grad_input: gradient ", gy, " and weight ", w));
  const Shape x = image_shape(gy, gy[0], w[1] * a.groups, a.size.h, a.size.w);
  return geometry("conv2d_grad_input", x, w, a);
}

void check_gradient(const char* op, const Shape& gy, const Geometry& g) {
  const Shape want = image_shape(gy, g.n, g.k, g.ho, g.wo);
  if (gy != want) throw shape_error(str(op, ": gradient ", gy, ", expected ", want));
}

void grad_input_ref(Ins in, Outs out, const ConvGradAttr& a) {
  const Geometry g = input_geometry(in, a);
  dispatch_floating("conv2d_grad_input", in[0].dtype(), [&]<class T>() {
    const T *gy = in[0].data<T>(), *w = in[1].data<T>();
    T* gx = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gx[i] = T(0);
    T padding = T(0);  // taps outside the image are executed too
    for_each_tap(g, [&](int64_t yi, int64_t xi, int64_t wi) {
      T& target = xi < 0 ? padding : gx[xi];
      target = num::mac(target, gy[yi], w[wi]);
    });
  });
}

template <class Isa>
void grad_input_simd(Ins in, Outs out, const ConvGradAttr& a) {
  conv::grad_input<Isa>(input_geometry(in, a), in[0].data<float>(), in[1].data<float>(),
                        out[0].data<float>());
}
template <class Isa>
Cost grad_input_executes(Ins in, const Cost& c, const ConvGradAttr& a) {
  return with_work(c, conv::grad_input_work<Isa>(input_geometry(in, a)));
}

// ---- conv2d_grad_weight(gy, x): gw ----

Geometry weight_geometry(Ins in, const ConvGradAttr& a) {
  const Shape &gy = in[0].shape(), &x = in[1].shape();
  if (gy.rank() != x.rank() || gy.rank() < 3)
    throw shape_error(str("conv2d_grad_weight: gradient ", gy, " and image ", x));
  const int64_t c = x[x.rank() - 3], k = gy[gy.rank() - 3];
  if (a.groups < 1 || c % a.groups)
    throw value_error(
        str("conv2d_grad_weight: groups ", a.groups, " must divide ", c, " channels"));
  return geometry("conv2d_grad_weight", x, {k, c / a.groups, a.size.h, a.size.w}, a);
}

void grad_weight_ref(Ins in, Outs out, const ConvGradAttr& a) {
  const Geometry g = weight_geometry(in, a);
  dispatch_floating("conv2d_grad_weight", in[0].dtype(), [&]<class T>() {
    const T *gy = in[0].data<T>(), *x = in[1].data<T>();
    T* gw = out[0].data<T>();
    for (int64_t i = 0; i < out[0].numel(); ++i) gw[i] = T(0);
    for_each_tap(g, [&](int64_t yi, int64_t xi, int64_t wi) {
      gw[wi] = num::mac(gw[wi], gy[yi], xi < 0 ? T(0) : x[xi]);
    });
  });
}

template <class Isa>
void grad_weight_simd(Ins in, Outs out, const ConvGradAttr& a) {
  conv::grad_weight<Isa>(weight_geometry(in, a), in[0].data<float>(), in[1].data<float>(),
                         out[0].data<float>());
}
template <class Isa>
Cost grad_weight_executes(Ins in, const Cost& c, const ConvGradAttr& a) {
  return with_work(c, conv::grad_weight_work<Isa>(weight_geometry(in, a)));
}

// ---- the three ops ----

extern const Op<ConvGradAttr> grad_input_op, grad_weight_op;
extern const Op<Conv2dAttr> conv_op;

ConvGradAttr grad_attr(const ConvAttr& a, int64_t h, int64_t w) {
  ConvGradAttr g;
  static_cast<ConvAttr&>(g) = a;
  g.size = Pair(h, w);
  return g;
}
Pair image_size(const Shape& x) { return {x[x.rank() - 2], x[x.rank() - 1]}; }

const Op<Conv2dAttr> conv_op{{
    .name = "conv2d",
    .doc = "2-D convolution",
    .equation =
        "y[n,k,p,q] = b[k] + sum_crs w[k,c,r,s] x[n,c,p*stride-pad+r*dil,q*stride-pad+s*dil]",
    .shape = conv_shape,
    .cost =
        [](Ins in, std::span<const Meta> out, const Conv2dAttr& a) {
          const Cost c = rules::contraction(in, dense_macs(forward_geometry(in, a)));
          return c + Cost{.add = has_bias(in) ? out[0].shape.numel() : 0};
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const Conv2dAttr& a) {
          Bytes b = default_bytes(in.subspan(1), out, {});
          b.read += touched_image_bytes(forward_geometry(in, a), in[0].dtype());
          return b;
        },
    .kernels = {simd_kernel<simd::Avx512>(conv_simd<simd::Avx512>, nullptr,
                                          conv_executes<simd::Avx512>),
                simd_kernel<simd::Avx2>(conv_simd<simd::Avx2>, nullptr, conv_executes<simd::Avx2>),
                simd_kernel<simd::Portable>(conv_simd<simd::Portable>, nullptr,
                                            conv_executes<simd::Portable>),
                {"ref", conv_ref}},
    .saves_in = {0, 1},
    .spike_ins = {0},
    .backward =
        [](const Saved<Conv2dAttr>& s, Ins gy) {
          const Shape x = s.shape(0), w = s.shape(1);
          const Pair size = image_size(x);
          Tensor gx, gw, gb;
          if (s.needs(0))
            gx = grad_input_op.one({gy[0], s.in(1)}, grad_attr(s.attr(), size.h, size.w));
          if (s.needs(1)) {
            ConvGradAttr a = grad_attr(s.attr(), w[2], w[3]);
            a.out = s.attr().weight_grad;
            gw = grad_weight_op.one({gy[0], s.in(0)}, a);
          }
          if (s.needs(2)) gb = sum(gy[0], x.rank() == 3 ? Shape{1, 2} : Shape{0, 2, 3});
          return Tensors{gx, gw, gb};
        },
    .samples = {{{{{2, 3, 5, 7}}, {{4, 3, 3, 3}}, {{4}}}, {1, 1, 1, 1}},
                {{{{1, 1, 1, 1}}, {{1, 1, 1, 1}}, {{1}}}},
                {{{{2, 4, 9, 8}}, {{6, 2, 3, 2}}}, {Pair(2, 1), Pair(1, 2), Pair(2, 1), 2}},
                {{{{1, 2, 6, 6}}, {{3, 2, 1, 1}}, {{3}}}, {2, 0, 1, 1}},
                {{{{3, 5, 5}}, {{2, 3, 2, 2}}, {{2}}}},
                {{{{2, 3, 6, 6}}, {{3, 1, 3, 3}}}, {1, 1, 1, 3}},
                {{{{3, 1, 14, 14}}, {{3, 1, 3, 3}}, {{3}}}, {1, 1, 1, 1}}},
}};

const Op<ConvGradAttr> grad_input_op{{
    .name = "conv2d_grad_input",
    .doc = "Gradient of conv2d with respect to its image",
    .equation = "gx[n,c,i,j] = sum over taps that read x[n,c,i,j] of gy[n,k,p,q] w[k,c,r,s]",
    .shape =
        [](Ins in, const ConvGradAttr& a) {
          rules::arity("conv2d_grad_input", in, 2, 2);
          rules::same_dtype("conv2d_grad_input", in);
          const Geometry g = input_geometry(in, a);
          check_gradient("conv2d_grad_input", in[0].shape(), g);
          return Metas{{image_shape(in[0].shape(), g.n, g.c, g.h, g.w),
                        rules::result_dtype("conv2d_grad_input", in, a.out)}};
        },
    .cost = [](Ins in, std::span<const Meta>,
               const ConvGradAttr& a) { return Cost{.mac = dense_macs(input_geometry(in, a))}; },
    .kernels = {simd_kernel<simd::Avx512>(grad_input_simd<simd::Avx512>, nullptr,
                                          grad_input_executes<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_input_simd<simd::Avx2>, nullptr,
                                        grad_input_executes<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_input_simd<simd::Portable>, nullptr,
                                            grad_input_executes<simd::Portable>),
                {"ref", grad_input_ref}},
    .saves_in = {0, 1},
    .backward =
        [](const Saved<ConvGradAttr>& s, Ins ggx) {
          const Shape w = s.shape(1);
          Tensor ggy, gw;
          if (s.needs(0)) ggy = conv_op.one({ggx[0], s.in(1), {}}, {s.attr()});
          if (s.needs(1))
            gw = grad_weight_op.one({s.in(0), ggx[0]}, grad_attr(s.attr(), w[2], w[3]));
          return Tensors{ggy, gw};
        },
    .samples = {{{{{2, 4, 5, 7}}, {{4, 3, 3, 3}}}, {{1, 1, 1, 1}, {5, 7}}},
                {{{{1, 1, 1, 1}}, {{1, 1, 1, 1}}}, {{}, {1, 1}}},
                {{{{2, 6, 4, 11}}, {{6, 2, 3, 2}}},
                 {{Pair(2, 1), Pair(1, 2), Pair(2, 1), 2}, {9, 8}}},
                {{{{1, 3, 3, 3}}, {{3, 2, 1, 1}}}, {{2, 0, 1, 1}, {6, 6}}},
                {{{{3, 3, 14, 14}}, {{3, 1, 3, 3}}}, {{1, 1, 1, 1}, {14, 14}}}},
}};

const Op<ConvGradAttr> grad_weight_op{{
    .name = "conv2d_grad_weight",
    .doc = "Gradient of conv2d with respect to its weight",
    .equation = "gw[k,c,r,s] = sum_npq gy[n,k,p,q] x[n,c,p*stride-pad+r*dil,q*stride-pad+s*dil]",
    .shape =
        [](Ins in, const ConvGradAttr& a) {
          rules::arity("conv2d_grad_weight", in, 2, 2);
          rules::same_dtype("conv2d_grad_weight", in);
          const Geometry g = weight_geometry(in, a);
          check_gradient("conv2d_grad_weight", in[0].shape(), g);
          return Metas{{{g.k, g.c / g.groups, g.r, g.s},
                        rules::result_dtype("conv2d_grad_weight", in, a.out)}};
        },
    .cost =
        [](Ins in, std::span<const Meta>, const ConvGradAttr& a) {
          return rules::contraction(in, dense_macs(weight_geometry(in, a)));
        },
    .bytes =
        [](Ins in, std::span<const Meta> out, const ConvGradAttr& a) {
          Bytes b = default_bytes(in.subspan(0, 1), out, {});
          b.read += touched_image_bytes(weight_geometry(in, a), in[1].dtype());
          return b;
        },
    .kernels = {simd_kernel<simd::Avx512>(grad_weight_simd<simd::Avx512>, nullptr,
                                          grad_weight_executes<simd::Avx512>),
                simd_kernel<simd::Avx2>(grad_weight_simd<simd::Avx2>, nullptr,
                                        grad_weight_executes<simd::Avx2>),
                simd_kernel<simd::Portable>(grad_weight_simd<simd::Portable>, nullptr,
                                            grad_weight_executes<simd::Portable>),
                {"ref", grad_weight_ref}},
    .saves_in = {0, 1},
    .spike_ins = {1},
    .backward =
        [](const Saved<ConvGradAttr>& s, Ins ggw) {
          const Pair size = image_size(s.shape(1));
          Tensor ggy, gx;
          if (s.needs(0)) ggy = conv_op.one({s.in(1), ggw[0], {}}, {s.attr()});
          if (s.needs(1))
            gx = grad_input_op.one({s.in(0), ggw[0]}, grad_attr(s.attr(), size.h, size.w));
          return Tensors{ggy, gx};
        },
    .samples = {{{{{2, 4, 5, 7}}, {{2, 3, 5, 7}}}, {{1, 1, 1, 1}, {3, 3}}},
                {{{{1, 1, 1, 1}}, {{1, 1, 1, 1}}}, {{}, {1, 1}}},
                {{{{2, 6, 4, 11}}, {{2, 4, 9, 8}}},
                 {{Pair(2, 1), Pair(1, 2), Pair(2, 1), 2}, {3, 2}}},
                {{{{1, 3, 3, 3}}, {{1, 2, 6, 6}}}, {{2, 0, 1, 1}, {1, 1}}},
                {{{{3, 3, 14, 14}}, {{3, 1, 14, 14}}}, {{1, 1, 1, 1}, {3, 3}}}},
}};

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, Pair stride, Pair padding,
              Pair dilation, int64_t groups) {
  return conv_op.one({x, weight, bias}, {stride, padding, dilation, groups});
}
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dAttr& attr) {
  return conv_op.one({x, weight, bias}, attr);
}

}  // namespace wattle
