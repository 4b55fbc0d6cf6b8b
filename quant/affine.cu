// Device code of affine quantisation and of products in 8-bit integers.
#include "core/cuda/blas.h"
#include "core/cuda/dnn.h"
#include "core/cuda/each.cuh"

namespace wattle::device {

const char* product(const Launch& l, const Gemm& g);  // ops/gemm.cu

namespace {

WATTLE_HD float to_even(float x) { return rintf(x); }
WATTLE_HD double to_even(double x) { return ::rint(x); }

// x seen as [outer, count, inner], one scale and zero point for each of `count`.
struct Channels {
  int64_t outer = 1, count = 1, inner = 1;
  Channels(const Launch& l, const View& x) {
    const int64_t axis = integer(l, "axis");
    if (axis < 0) {
      inner = x.numel;
      return;
    }
    const Along a = along(x, axis);
    outer = a.outer, count = a.n, inner = a.inner;
  }
  WATTLE_HD int64_t of(int64_t i) const { return i / inner % count; }
};

template <class T, class Q, bool Shift>
struct Dequantize {
  Channels c;
  const Q* q;
  const T *scale, *zero;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t k = c.of(i);
    const T v = T(static_cast<double>(q[i]));
    y[i] = Shift ? v * scale[k] + zero[k] : (v - zero[k]) * scale[k];
  }
};
template <bool Shift>
const char* dequantize(const Launch& l) {
  const Channels c(l, l.in[0]);
  return floating(l, l.out[0].dtype, [&](auto t) {
    return numeric(l, l.in[0].dtype, [&](auto q) {
      using T = typename decltype(t)::type;
      using Q = typename decltype(q)::type;
      return each(l.out[0].numel,
                  Dequantize<T, Q, Shift>{c, in<Q>(l, 0), in<T>(l, 1), in<T>(l, 2), out<T>(l, 0)});
    });
  });
}

template <class T>
struct Quantize {
  Channels c;
  const T *x, *scale, *zero;
  uint8_t* y;
  int64_t qmin, qmax;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t k = c.of(i);
    const T lo = T(qmin) - zero[k], hi = T(qmax) - zero[k];
    T v = x[i] / scale[k];
    v = v != v ? T(0) : v;  // not-a-number has no integer: it becomes the zero point
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    y[i] = static_cast<uint8_t>(static_cast<int32_t>(to_even(v) + zero[k]));
  }
};

template <class T>
struct Fake {
  Channels c;
  const T *x, *scale, *zero;
  T* y;
  int64_t qmin, qmax;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t k = c.of(i);
    const T lo = T(qmin) - zero[k], hi = T(qmax) - zero[k];
    T v = x[i] / scale[k];
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    y[i] = to_even(v) * scale[k];
  }
};
// gx element by element; the scale's gradient as a fold over each channel.
template <class T>
struct FakeGrad {
  Channels c;
  const T *gy, *x, *scale, *zero;
  T *gx, *gscale;
  int64_t qmin, qmax;
  T factor;
  struct Acc {
    T v;
  };
  WATTLE_HD Acc start() const { return {T(0)}; }
  WATTLE_HD void take(Acc& a, int64_t k, int64_t i) const {
    const int64_t o = i / c.inner, at = (o * c.count + k) * c.inner + (i - o * c.inner);
    const T lo = T(qmin) - zero[k], hi = T(qmax) - zero[k], v = x[at] / scale[k], g = gy[at];
    const bool below = v<lo, above = v> hi;
    gx[at] = below || above ? T(0) : g;
    a.v += g * (below ? lo : above ? hi : to_even(v) - v);
  }
  WATTLE_HD void merge(Acc& a, const Acc& b) const { a.v += b.v; }
  WATTLE_HD void store(int64_t k, const Acc& a) const { gscale[k] = a.v * factor; }
};

template <class A>
struct IntProduct {
  const A* a;
  const int8_t* b;
  int32_t* c;
  int64_t n, k, b_row, b_col;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t row = i / n, col = i - row * n;
    int32_t sum = 0;
    for (int64_t p = 0; p < k; ++p)
      sum +=
          static_cast<int32_t>(a[row * k + p]) * static_cast<int32_t>(b[p * b_row + col * b_col]);
    c[i] = sum;
  }
};

struct IntConv {
  int64_t c, h, w, k, r, s, ho, wo, groups, pad_value;
  int64_t stride[2], padding[2], dilation[2];
  const int8_t *x, *weight;
  int32_t* y;
  WATTLE_HD void operator()(int64_t o) const {
    const int64_t q = o % wo, p = o / wo % ho, ch = o / (wo * ho) % k, n = o / (wo * ho * k);
    const int64_t cg = c / groups, first = ch / (k / groups) * cg;
    int32_t sum = 0;
    for (int64_t i = 0; i < cg; ++i)
      for (int64_t a = 0; a < r; ++a)
        for (int64_t b = 0; b < s; ++b) {
          const int64_t row = p * stride[0] - padding[0] + a * dilation[0];
          const int64_t col = q * stride[1] - padding[1] + b * dilation[1];
          const bool inside = row >= 0 && row < h && col >= 0 && col < w;
          const int32_t v = inside ? x[((n * c + first + i) * h + row) * w + col]
                                   : static_cast<int32_t>(pad_value);
          sum += v * weight[((ch * cg + i) * r + a) * s + b];
        }
    y[o] = sum;
  }
};

}  // namespace

WATTLE_DEVICE_OP(dequantize_affine) { return dequantize<false>(l); }
WATTLE_DEVICE_OP(rescale) { return dequantize<true>(l); }
WATTLE_DEVICE_OP(quantize_affine) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[0].numel,
                Quantize<T>{Channels(l, l.in[0]), in<T>(l, 0), in<T>(l, 1), in<T>(l, 2),
                            out<uint8_t>(l, 0), integer(l, "qmin"), integer(l, "qmax")});
  });
}
WATTLE_DEVICE_OP(fake_quantize_affine) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.in[0].numel, Fake<T>{Channels(l, l.in[0]), in<T>(l, 0), in<T>(l, 1), in<T>(l, 2),
                                       out<T>(l, 0), integer(l, "qmin"), integer(l, "qmax")});
  });
}
WATTLE_DEVICE_OP(fake_quantize_affine_grad) {
  const Channels c(l, l.in[1]);
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return fold(c.count, c.outer * c.inner,
                FakeGrad<T>{c, in<T>(l, 0), in<T>(l, 1), in<T>(l, 2), in<T>(l, 3), out<T>(l, 0),
                            out<T>(l, 1), integer(l, "qmin"), integer(l, "qmax"),
                            T(number(l, "grad_scale"))});
  });
}
WATTLE_DEVICE_OP(int_matmul) {
  const View &a = l.in[0], &b = l.in[1];
  const bool transposed = integer(l, "transpose_b") != 0;
  const int64_t m = a.size[0], k = a.size[1], n = b.size[transposed ? 0 : 1];
  const int64_t b_row = transposed ? 1 : n, b_col = transposed ? k : 1;
  if (a.dtype == i8) {
    Gemm g;
    g.m = m, g.n = n, g.k = k;
    g.a = {a.data, k, 1, 0};
    g.b = {b.data, b_row, b_col, 0};
    g.c = l.out[0].data;
    g.dtype = i8;
    if (!blas_refusal(g)) return product(l, g);
  }
  int32_t* const y = out<int32_t>(l, 0);
  if (a.dtype == i8)
    return each(m * n,
                IntProduct<int8_t>{in<int8_t>(l, 0), in<int8_t>(l, 1), y, n, k, b_row, b_col});
  return each(m * n,
              IntProduct<uint8_t>{in<uint8_t>(l, 0), in<int8_t>(l, 1), y, n, k, b_row, b_col});
}
WATTLE_DEVICE_OP(int_conv2d) {
  const View &x = l.in[0], &w = l.in[1], &y = l.out[0];
  IntConv f{x.size[1],
            x.size[2],
            x.size[3],
            w.size[0],
            w.size[2],
            w.size[3],
            y.size[2],
            y.size[3],
            integer(l, "groups"),
            integer(l, "pad_value"),
            {},
            {},
            {},
            in<int8_t>(l, 0),
            in<int8_t>(l, 1),
            out<int32_t>(l, 0)};
  for (int i = 0; i < 2; ++i) {
    f.stride[i] = field(l, "stride").list[i];
    f.padding[i] = field(l, "padding").list[i];
    f.dilation[i] = field(l, "dilation").list[i];
  }
  return each(y.numel, f);
}

}  // namespace wattle::device
