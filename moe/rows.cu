// Device code of what moves rows to their experts and back, and of grouped products.
#include <vector>

#include "core/cuda/blas.h"
#include "core/cuda/each.cuh"

namespace wattle::device {

const char* product(const Launch& l, const Gemm& g);  // ops/gemm.cu

namespace {

// ---- rows to slots and back ----

template <class T>
struct Combine {
  const T *y, *weight;
  const int64_t* position;
  int64_t k, width;
  T* to;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t t = i / width, j = i - t * width;
    T sum = 0;
    for (int64_t c = 0; c < k; ++c) {
      const int64_t p = position[t * k + c];
      if (p >= 0) sum += weight ? weight[t * k + c] * y[p * width + j] : y[p * width + j];
    }
    to[i] = sum;
  }
};
template <class T>
struct DispatchRows {
  const T *x, *weight;
  const int64_t* order;
  int64_t k, width;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t p = i / width, j = i - p * width, r = order[p];
    const T v = r < 0 ? T(0) : x[r / k * width + j];
    y[i] = r >= 0 && weight ? weight[r] * v : v;
  }
};
template <class T>
struct RowDot {
  const T *a, *b;
  const int64_t* position;
  int64_t k, width;
  T* y;
  template <class L>
  WATTLE_HD void operator()(int64_t r, L w) const {
    const int64_t p = position[r];
    T sum = 0;
    for (int64_t j = w.first; p >= 0 && j < width; j += w.step)
      sum += a[r / k * width + j] * b[p * width + j];
    sum = w.sum(sum);
    if (w.first == 0) y[r] = sum;
  }
};

// ---- grouped products ----

// The group of a slot; -1 past the last one.
WATTLE_HD int64_t group_of(const int64_t* offsets, int64_t groups, int64_t p) {
  int64_t lo = 0, hi = groups;
  while (lo < hi) {
    const int64_t mid = (lo + hi) / 2;
    if (offsets[mid + 1] <= p) lo = mid + 1;
    else hi = mid;
  }
  return lo < groups && p >= offsets[lo] ? lo : -1;
}

template <class T>
struct GroupedGemm {
  const T *x, *w;
  const int64_t *offsets, *order;
  int64_t groups, choices, k, n;
  bool transposed, relu;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t p = i / n, j = i - p * n, e = group_of(offsets, groups, p);
    T sum = 0;
    if (e >= 0 && (!order || order[p] >= 0)) {
      const T* const from = x + (order ? order[p] / choices : p) * k;
      const T* const m = w + e * k * n;
      for (int64_t c = 0; c < k; ++c) sum += from[c] * m[transposed ? j * k + c : c * n + j];
      if (relu && sum < T(0)) sum = T(0);
    }
    y[i] = sum;
  }
};
template <class T>
struct GroupedGrad {
  const T *a, *b;
  const int64_t *offsets, *order;
  int64_t choices, k, n;
  bool gathers_b;
  T* dw;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t e = i / (k * n), r = i - e * k * n, row = r / n, col = r - row * n;
    T sum = 0;
    for (int64_t p = offsets[e]; p < offsets[e + 1]; ++p) {
      const int64_t at = order ? order[p] / choices : p;
      sum += a[(gathers_b ? p : at) * k + row] * b[(gathers_b ? at : p) * n + col];
    }
    dw[i] = sum;
  }
};
// Rows of x in the slots of their experts; 0 in slots without a row.
template <class T>
struct ToSlots {
  const T* x;
  const int64_t* order;
  int64_t choices, width;
  T* y;
  WATTLE_HD void operator()(int64_t i) const {
    const int64_t p = quotient(i, width), j = i - p * width, r = order[p];
    y[i] = r < 0 ? T(0) : x[quotient(r, choices) * width + j];
  }
};
template <class T>
struct ReluOver {
  T* y;
  WATTLE_HD void operator()(int64_t i) const { y[i] = y[i] < T(0) ? T(0) : y[i]; }
};
template <class T>
struct Zeros {
  T* y;
  WATTLE_HD void operator()(int64_t i) const { y[i] = T(0); }
};

// Where each group begins, on the host: what it takes to hand each group to cuBLASLt. It waits for
// the device, so a captured graph cannot have it and multiplies element by element.
const char* group_offsets(const Launch& l, std::vector<int64_t>* to) {
  to->resize(static_cast<size_t>(l.in[2].numel));
  return copy_out(to->data(), l.in[2].data, l.in[2].numel * 8);
}
bool by_blas(const Launch& l) {
  return !emulated() && !capturing() && l.in[0].dtype == f32 && l.in[0].size[1] >= 16;
}

// An operand in slots: itself, or gathered into `held`.
template <class T>
const char* in_slots(const T* x, const int64_t* order, int64_t choices, int64_t slots,
                     int64_t width, const Scratch& held, const T** out) {
  *out = x;
  if (!order) return nullptr;
  if (!held) return fail("out of memory for the rows of %lld slots", static_cast<long long>(slots));
  *out = held.as<T>();
  return each(slots * width, ToSlots<T>{x, order, choices, width, held.as<T>()});
}

int64_t choices(const Launch& l) { return has(l, 4) ? l.in[4].size[1] : 1; }

const char* grouped_by_blas(const Launch& l, bool relu) {
  const View &y = l.out[0], &w = l.in[1];
  const int64_t slots = y.size[0], n = y.size[1], k = l.in[0].size[1];
  const int64_t* const order = in<int64_t>(l, 3);
  std::vector<int64_t> offsets;
  if (const char* e = group_offsets(l, &offsets)) return e;
  const Scratch held(order ? slots * k * 4 : 0);
  const float* x = nullptr;
  if (const char* e = in_slots(in<float>(l, 0), order, choices(l), slots, k, held, &x)) return e;
  float* const to = out<float>(l, 0);
  const bool transposed = integer(l, "transpose_weight") != 0;
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    const int64_t first = offsets[g], count = offsets[g + 1] - first;
    if (count == 0) continue;
    Gemm p;
    p.m = count, p.n = n, p.k = k;
    p.a = {x + first * k, k, 1, 0};
    p.b = {in<float>(l, 1) + static_cast<int64_t>(g) * w.size[1] * w.size[2], transposed ? 1 : n,
           transposed ? k : 1, 0};
    p.c = to + first * n;
    p.math = l.math;
    if (const char* e = product(l, p)) return e;
  }
  const int64_t used = offsets.back();
  if (const char* e = each((slots - used) * n, Zeros<float>{to + used * n})) return e;
  return relu ? each(used * n, ReluOver<float>{to}) : nullptr;
}

const char* grad_by_blas(const Launch& l) {
  const View& dw = l.out[0];
  const int64_t k = dw.size[1], n = dw.size[2];
  const bool gathers_b = integer(l, "gathers_b") != 0;
  const int64_t* const order = in<int64_t>(l, 3);
  const int64_t slots = order ? l.in[3].numel : l.in[0].size[0];
  std::vector<int64_t> offsets;
  if (const char* e = group_offsets(l, &offsets)) return e;
  const Scratch held(order ? slots * (gathers_b ? n : k) * 4 : 0);
  const float *a = in<float>(l, 0), *b = in<float>(l, 1);
  const char* error = gathers_b ? in_slots(b, order, choices(l), slots, n, held, &b)
                                : in_slots(a, order, choices(l), slots, k, held, &a);
  for (size_t g = 0; !error && g + 1 < offsets.size(); ++g) {
    const int64_t first = offsets[g], count = offsets[g + 1] - first;
    float* const to = out<float>(l, 0) + static_cast<int64_t>(g) * k * n;
    if (count == 0) {
      error = each(k * n, Zeros<float>{to});
      continue;
    }
    Gemm p;
    p.m = k, p.n = n, p.k = count;
    p.a = {a + first * k, 1, k, 0};
    p.b = {b + first * n, n, 1, 0};
    p.c = to;
    p.math = l.math;
    error = product(l, p);
  }
  return error;
}

const char* grouped(const Launch& l, bool relu) {
  const View& y = l.out[0];
  if (by_blas(l) && y.numel > 0) return grouped_by_blas(l, relu);
  return floating(l, y.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(y.numel,
                GroupedGemm<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2), in<int64_t>(l, 3),
                               l.in[2].numel - 1, choices(l), l.in[0].size[1], y.size[1],
                               integer(l, "transpose_weight") != 0, relu, out<T>(l, 0)});
  });
}

}  // namespace

WATTLE_DEVICE_OP(combine) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, Combine<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2),
                                           l.in[2].size[1], l.in[0].size[1], out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(dispatch_rows) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(l.out[0].numel, DispatchRows<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2),
                                                l.in[3].size[1], l.in[0].size[1], out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(row_dot) {
  return floating(l, l.in[0].dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return rows(l.in[2].numel, l.in[0].size[1],
                RowDot<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2), l.in[2].size[1],
                          l.in[0].size[1], out<T>(l, 0)});
  });
}
WATTLE_DEVICE_OP(grouped_gemm) { return grouped(l, false); }
WATTLE_DEVICE_OP(grouped_gemm_relu) { return grouped(l, true); }
WATTLE_DEVICE_OP(grouped_gemm_grad) {
  const View& dw = l.out[0];
  if (by_blas(l) && dw.numel > 0) return grad_by_blas(l);
  return floating(l, dw.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    return each(dw.numel, GroupedGrad<T>{in<T>(l, 0), in<T>(l, 1), in<int64_t>(l, 2),
                                         in<int64_t>(l, 3), choices(l), dw.size[1], dw.size[2],
                                         integer(l, "gathers_b") != 0, out<T>(l, 0)});
  });
}
}  // namespace wattle::device
