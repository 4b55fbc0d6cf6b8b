// Device code of conv2d and its gradients: cuDNN, or a thread an element in f64.
#include "core/cuda/dnn.h"
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

Conv geometry(const Launch& l, const View& x, const View& w, const View& y, ConvPass pass) {
  const int b = x.rank - 3;
  const Field& stride = field(l, "stride");
  const Field& padding = field(l, "padding");
  const Field& dilation = field(l, "dilation");
  Conv c{b ? x.size[0] : 1,
         x.size[b],
         x.size[b + 1],
         x.size[b + 2],
         w.size[0],
         w.size[2],
         w.size[3],
         y.size[b + 1],
         y.size[b + 2],
         {stride.list[0], stride.list[1]},
         {padding.list[0], padding.list[1]},
         {dilation.list[0], dilation.list[1]},
         integer(l, "groups"),
         pass,
         l.math,
         l.deterministic};
  return c;
}

// Positions of a tap on the image; false in the padding.
struct Taps {
  Conv c;
  WATTLE_HD bool at(int64_t p, int64_t q, int64_t r, int64_t s, int64_t* i, int64_t* j) const {
    *i = p * c.stride[0] - c.padding[0] + r * c.dilation[0];
    *j = q * c.stride[1] - c.padding[1] + s * c.dilation[1];
    return *i >= 0 && *i < c.h && *j >= 0 && *j < c.w;
  }
};

template <class T>
struct Forward : Taps {
  const T *x, *w, *bias;
  T* y;
  WATTLE_HD void operator()(int64_t o) const {
    const int64_t q = o % c.wo, p = o / c.wo % c.ho, k = o / (c.wo * c.ho) % c.k;
    const int64_t n = o / (c.wo * c.ho * c.k), cg = c.c / c.groups,
                  first = k / (c.k / c.groups) * cg;
    T sum = bias ? bias[k] : T(0);
    for (int64_t ch = 0; ch < cg; ++ch)
      for (int64_t r = 0; r < c.r; ++r)
        for (int64_t s = 0; s < c.s; ++s) {
          int64_t i, j;
          if (at(p, q, r, s, &i, &j))
            sum += w[((k * cg + ch) * c.r + r) * c.s + s] *
                   x[((n * c.c + first + ch) * c.h + i) * c.w + j];
        }
    y[o] = sum;
  }
};

template <class T>
struct InputGrad : Taps {
  const T *gy, *w;
  T* gx;
  WATTLE_HD void operator()(int64_t o) const {
    const int64_t j = o % c.w, i = o / c.w % c.h, ch = o / (c.w * c.h) % c.c;
    const int64_t n = o / (c.w * c.h * c.c), cg = c.c / c.groups, kg = c.k / c.groups;
    const int64_t group = ch / cg;
    T sum = 0;
    for (int64_t r = 0; r < c.r; ++r) {
      const int64_t up = i + c.padding[0] - r * c.dilation[0], p = up / c.stride[0];
      if (up < 0 || up % c.stride[0] || p >= c.ho) continue;
      for (int64_t s = 0; s < c.s; ++s) {
        const int64_t left = j + c.padding[1] - s * c.dilation[1], q = left / c.stride[1];
        if (left < 0 || left % c.stride[1] || q >= c.wo) continue;
        for (int64_t k = group * kg; k < group * kg + kg; ++k)
          sum += gy[((n * c.k + k) * c.ho + p) * c.wo + q] *
                 w[((k * cg + ch % cg) * c.r + r) * c.s + s];
      }
    }
    gx[o] = sum;
  }
};

template <class T>
struct WeightGrad : Taps {
  const T *gy, *x;
  T* gw;
  WATTLE_HD void operator()(int64_t o) const {
    const int64_t cg = c.c / c.groups, s = o % c.s, r = o / c.s % c.r, ch = o / (c.s * c.r) % cg;
    const int64_t k = o / (c.s * c.r * cg), from = k / (c.k / c.groups) * cg + ch;
    T sum = 0;
    for (int64_t n = 0; n < c.n; ++n)
      for (int64_t p = 0; p < c.ho; ++p)
        for (int64_t q = 0; q < c.wo; ++q) {
          int64_t i, j;
          if (at(p, q, r, s, &i, &j))
            sum += gy[((n * c.k + k) * c.ho + p) * c.wo + q] *
                   x[((n * c.c + from) * c.h + i) * c.w + j];
        }
    gw[o] = sum;
  }
};

// The taps of every output of one image and group, [ho wo, cg r s]; code 0, which is the number 0,
// in the padding.
template <class Code>
struct Patches : Taps {
  const Code* image;  // of the group's first channel
  Code* to;
  WATTLE_HD void operator()(int64_t at_tap) const {
    const int64_t s = at_tap % c.s, r = at_tap / c.s % c.r, taps = c.c / c.groups * c.r * c.s;
    const int64_t ch = at_tap % taps / (c.s * c.r), o = at_tap / taps, q = o % c.wo, p = o / c.wo;
    int64_t i, j;
    to[at_tap] = at(p, q, r, s, &i, &j) ? image[(ch * c.h + i) * c.w + j] : Code(0);
  }
};
// Sums that are no floats': a product of codes for every image and group.
const char* exact(const Launch& l, const Conv& c) {
  const int64_t plane = c.ho * c.wo, kg = c.k / c.groups, cg = c.c / c.groups;
  const int64_t taps = cg * c.r * c.s, bytes = element_bytes(l.in[0].dtype);
  const Scratch rows(plane * taps * bytes);
  if (!rows) return fail("out of memory for %lld taps", static_cast<long long>(plane * taps));
  const auto at = [&](const void* p, int64_t element) {
    return static_cast<char*>(const_cast<void*>(p)) + element * bytes;
  };
  for (int64_t n = 0; n < c.n; ++n)
    for (int64_t g = 0; g < c.groups; ++g) {
      const char* error = by_size(l, l.in[0].dtype, [&](auto t) {
        using Code = typename decltype(t)::type;
        Patches<Code> f;
        f.c = c;
        f.image = in<Code>(l, 0) + (n * c.c + g * cg) * c.h * c.w;
        f.to = rows.as<Code>();
        return each(plane * taps, f);
      });
      if (error) return error;
      error = exact_product(
          l, {plane, kg, taps, rows.as<void>(), taps, 1, at(l.in[1].data, g * kg * taps), 1, taps,
              has(l, 2) ? at(l.in[2].data, g * kg) : nullptr,
              at(l.out[0].data, (n * c.k + g * kg) * plane), 1, plane});
      if (error) return error;
    }
  return nullptr;
}

template <class T>
struct AddBias {
  const T* bias;
  T* y;
  int64_t plane, channels;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t q = quotient(i, plane);
    y[i] += bias[q - quotient(q, channels) * channels];
  }
};

// By cuDNN if it is a call for it; `*done` says whether it was.
const char* by_dnn(const Launch& l, const Conv& c, int32_t dtype, const void* x, const void* w,
                   const void* y, bool* done) {
  *done = false;
  if (dtype != f32 || c.n == 0) return nullptr;
  if (emulated()) return dnn_describe(c);
  *done = true;
  l.kernel = "cudnn";
  return dnn_run(c, x, w, y);
}

}  // namespace

WATTLE_DEVICE_OP(conv2d) {
  const View &x = l.in[0], &w = l.in[1], &y = l.out[0];
  const Conv c = geometry(l, x, w, y, ConvPass::forward);
  if (!float_sums(l)) return exact(l, c);
  bool done = false;
  if (const char* e = by_dnn(l, c, x.dtype, x.data, w.data, y.data, &done)) return e;
  return floating(l, x.dtype, [&](auto t) -> const char* {
    using T = typename decltype(t)::type;
    if (!done) {
      Forward<T> f;
      f.c = c;
      f.x = in<T>(l, 0), f.w = in<T>(l, 1), f.bias = in<T>(l, 2), f.y = out<T>(l, 0);
      return each(y.numel, f);
    }
    return has(l, 2) ? each(y.numel, AddBias<T>{in<T>(l, 2), out<T>(l, 0), c.ho * c.wo, c.k})
                     : nullptr;
  });
}

WATTLE_DEVICE_OP(conv2d_grad_input) {
  const View &gy = l.in[0], &w = l.in[1], &gx = l.out[0];
  const Conv c = geometry(l, gx, w, gy, ConvPass::input_gradient);
  bool done = false;
  if (const char* e = by_dnn(l, c, gy.dtype, gx.data, w.data, gy.data, &done)) return e;
  if (done) return nullptr;
  return floating(l, gy.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    InputGrad<T> f;
    f.c = c;
    f.gy = in<T>(l, 0), f.w = in<T>(l, 1), f.gx = out<T>(l, 0);
    return each(gx.numel, f);
  });
}

WATTLE_DEVICE_OP(conv2d_grad_weight) {
  const View &gy = l.in[0], &x = l.in[1], &gw = l.out[0];
  const Conv c = geometry(l, x, gw, gy, ConvPass::weight_gradient);
  bool done = false;
  if (const char* e = by_dnn(l, c, gy.dtype, x.data, gw.data, gy.data, &done)) return e;
  if (done) return nullptr;
  return floating(l, gy.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    WeightGrad<T> f;
    f.c = c;
    f.gy = in<T>(l, 0), f.x = in<T>(l, 1), f.gw = out<T>(l, 0);
    return each(gw.numel, f);
  });
}

}  // namespace wattle::device
