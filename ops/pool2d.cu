// Device code of the pooling ops: a thread an output, gradients gathered, so that no sum depends on
// an order of threads.
#include <limits>

#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

// Output o covers input o * stride - pad + k * dilation, k in [0, kernel).
struct Axis {
  int64_t in, out, kernel, stride, pad, dilation;
  WATTLE_HD int64_t start(int64_t o) const { return o * stride - pad; }
  WATTLE_HD bool inside(int64_t o, int64_t k) const {
    const int64_t i = start(o) + k * dilation;
    return i >= 0 && i < in;
  }
  // Taps of output o on the input, and the divisor of an average.
  WATTLE_HD int64_t covered(int64_t o) const {
    int64_t n = 0;
    for (int64_t k = 0; k < kernel; ++k) n += inside(o, k);
    return n;
  }
  WATTLE_HD int64_t divisor(int64_t o, bool with_pad) const {
    if (!with_pad) return covered(o);
    const int64_t end = start(o) + kernel, limit = in + pad;
    return (end < limit ? end : limit) - start(o);
  }
  // Outputs that may cover input i: [first, last].
  WATTLE_HD int64_t first_over(int64_t i) const {
    const int64_t reach = (kernel - 1) * dilation, low = i + pad - reach;
    return low <= 0 ? 0 : quotient(low + stride - 1, stride);
  }
  WATTLE_HD int64_t last_over(int64_t i) const {
    const int64_t o = quotient(i + pad, stride);
    return o < out ? o : out - 1;
  }
  // The tap of output o that reads input i, or -1.
  WATTLE_HD int64_t tap(int64_t o, int64_t i) const {
    const int64_t at = i - start(o);
    if (at < 0) return -1;
    const int64_t k = dilation == 1 ? at : quotient(at, dilation);
    return k < kernel && k * dilation == at ? k : -1;
  }
};

struct Windows {
  Axis h, w;
};

Axis axis(const Launch& l, int i, int64_t in, int64_t out) {
  const Field& stride = field(l, "stride");
  const Field& dilation = field(l, "dilation");
  const int64_t kernel = field(l, "kernel_size").list[i];
  return {in,
          out,
          kernel,
          stride.given && stride.count ? stride.list[i] : kernel,
          field(l, "padding").list[i],
          dilation.count ? dilation.list[i] : 1};
}
Windows windows(const Launch& l, const View& x, const View& y) {
  return {axis(l, 0, x.size[x.rank - 2], y.size[y.rank - 2]),
          axis(l, 1, x.size[x.rank - 1], y.size[y.rank - 1])};
}
struct Place {
  int64_t plane, h, w;
  WATTLE_HD Place(int64_t i, int64_t rows, int64_t cols) {
    const int64_t q = quotient(i, cols);
    w = i - q * cols;
    plane = quotient(q, rows);
    h = q - plane * rows;
  }
};

// What a window of padding alone gives.
template <class T>
WATTLE_HD T lowest() {
  return std::is_floating_point<T>::value ? T(-INFINITY) : std::numeric_limits<T>::lowest();
}

template <class T, class I>
struct Max {
  Windows g;
  const T* x;
  T* y;
  I* tap;
  WATTLE_HD void operator()(int64_t i) const {
    const Place at(i, g.h.out, g.w.out);
    const T* const plane = x + at.plane * g.h.in * g.w.in;
    bool any = false;
    T best = lowest<T>();
    int64_t won = 0;
    for (int64_t kh = 0; kh < g.h.kernel; ++kh) {
      if (!g.h.inside(at.h, kh)) continue;
      for (int64_t kw = 0; kw < g.w.kernel; ++kw) {
        if (!g.w.inside(at.w, kw)) continue;
        const T v = plane[(g.h.start(at.h) + kh * g.h.dilation) * g.w.in + g.w.start(at.w) +
                          kw * g.w.dilation];
        // The first of equals; not-a-number wins.
        if (!any || v > best || v != v) best = v, won = kh * g.w.kernel + kw;
        any = true;
      }
    }
    y[i] = best;
    tap[i] = static_cast<I>(won);
  }
};

template <class T, class I>
struct MaxGrad {
  Windows g;
  const T* gy;
  const I* tap;
  T* gx;
  WATTLE_HD void operator()(int64_t i) const {
    const Place at(i, g.h.in, g.w.in);
    const int64_t base = at.plane * g.h.out * g.w.out;
    T sum = 0;
    for (int64_t oh = g.h.first_over(at.h); oh <= g.h.last_over(at.h); ++oh) {
      const int64_t kh = g.h.tap(oh, at.h);
      if (kh < 0) continue;
      for (int64_t ow = g.w.first_over(at.w); ow <= g.w.last_over(at.w); ++ow) {
        const int64_t kw = g.w.tap(ow, at.w), o = base + oh * g.w.out + ow;
        if (kw >= 0 && static_cast<int64_t>(tap[o]) == kh * g.w.kernel + kw) sum += gy[o];
      }
    }
    gx[i] = sum;
  }
};

template <class T, class I>
struct MaxGather {
  Windows g;
  const T* x;
  const I* tap;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const Place at(i, g.h.out, g.w.out);
    const int64_t kh = tap[i] / g.w.kernel, kw = tap[i] % g.w.kernel;
    y[i] = g.h.inside(at.h, kh) && g.w.inside(at.w, kw) && kh < g.h.kernel
               ? x[(at.plane * g.h.in + g.h.start(at.h) + kh * g.h.dilation) * g.w.in +
                   g.w.start(at.w) + kw * g.w.dilation]
               : T(0);
  }
};

template <class T>
struct Average {
  Windows g;
  const T* x;
  T* y;
  bool with_pad;
  WATTLE_HD void operator()(int64_t i) const {
    const Place at(i, g.h.out, g.w.out);
    T sum = 0;
    for (int64_t kh = 0; kh < g.h.kernel; ++kh)
      for (int64_t kw = 0; kw < g.w.kernel; ++kw)
        if (g.h.inside(at.h, kh) && g.w.inside(at.w, kw))
          sum += x[(at.plane * g.h.in + g.h.start(at.h) + kh) * g.w.in + g.w.start(at.w) + kw];
    y[i] = sum / T(g.h.divisor(at.h, with_pad) * g.w.divisor(at.w, with_pad));
  }
};

template <class T>
struct AverageGrad {
  Windows g;
  const T* gy;
  T* gx;
  bool with_pad;
  WATTLE_HD void operator()(int64_t i) const {
    const Place at(i, g.h.in, g.w.in);
    T sum = 0;
    for (int64_t oh = g.h.first_over(at.h); oh <= g.h.last_over(at.h); ++oh)
      for (int64_t ow = g.w.first_over(at.w); ow <= g.w.last_over(at.w); ++ow)
        if (g.h.tap(oh, at.h) >= 0 && g.w.tap(ow, at.w) >= 0)
          sum += gy[(at.plane * g.h.out + oh) * g.w.out + ow] /
                 T(g.h.divisor(oh, with_pad) * g.w.divisor(ow, with_pad));
    gx[i] = sum;
  }
};

// By the type of the numbers and of the taps.
template <class G>
const char* with_taps(const Launch& l, const View& taps, G g) {
  if (taps.dtype == u8) return g(Tag<uint8_t>{});
  return g(Tag<int32_t>{});
}

}  // namespace

WATTLE_DEVICE_OP(max_pool2d) {
  const Windows g = windows(l, l.in[0], l.out[0]);
  return numeric(l, l.in[0].dtype, [&](auto t) {
    return with_taps(l, l.out[1], [&](auto i) {
      using T = typename decltype(t)::type;
      using I = typename decltype(i)::type;
      return each(l.out[0].numel, Max<T, I>{g, in<T>(l, 0), out<T>(l, 0), out<I>(l, 1)});
    });
  });
}
WATTLE_DEVICE_OP(max_pool2d_grad) {
  const Windows g = windows(l, l.out[0], l.in[0]);
  return floating(l, l.in[0].dtype, [&](auto t) {
    return with_taps(l, l.in[1], [&](auto i) {
      using T = typename decltype(t)::type;
      using I = typename decltype(i)::type;
      return each(l.out[0].numel, MaxGrad<T, I>{g, in<T>(l, 0), in<I>(l, 1), out<T>(l, 0)});
    });
  });
}
WATTLE_DEVICE_OP(max_pool2d_gather) {
  const Windows g = windows(l, l.in[0], l.out[0]);
  return floating(l, l.in[0].dtype, [&](auto t) {
    return with_taps(l, l.in[1], [&](auto i) {
      using T = typename decltype(t)::type;
      using I = typename decltype(i)::type;
      return each(l.out[0].numel, MaxGather<T, I>{g, in<T>(l, 0), in<I>(l, 1), out<T>(l, 0)});
    });
  });
}
WATTLE_DEVICE_OP(avg_pool2d) {
  const Windows g = windows(l, l.in[0], l.out[0]);
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel,
                Average<T>{g, in<T>(l, 0), out<T>(l, 0), integer(l, "count_include_pad") != 0});
  });
}
WATTLE_DEVICE_OP(avg_pool2d_grad) {
  const Windows g = windows(l, l.out[0], l.in[0]);
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel,
                AverageGrad<T>{g, in<T>(l, 0), out<T>(l, 0), integer(l, "count_include_pad") != 0});
  });
}

}  // namespace wattle::device
