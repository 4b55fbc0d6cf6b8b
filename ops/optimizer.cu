// Device code of the optimiser steps. Steps of one kind that follow each other are launched as one
// kernel: a net has a dozen parameters, most of them smaller than a launch is worth. In a captured
// graph learning rate and step number come from device memory, as they change from replay to
// replay.
#include "core/cuda/each.cuh"

namespace wattle::device {
namespace {

enum Kind : int32_t { adam_kind, adamw_kind, sgd_kind };

// The attributes of a step; steps with the same ones can go together.
struct Settings {
  int32_t kind, dtype;
  double lr, a, b, eps, weight_decay;  // a, b: beta1, beta2, or momentum, dampening
  int64_t step;
  int32_t nesterov;
  const Live* live;
  bool same(const Settings& o) const {
    return kind == o.kind && dtype == o.dtype && lr == o.lr && a == o.a && b == o.b &&
           eps == o.eps && weight_decay == o.weight_decay && step == o.step &&
           nesterov == o.nesterov && live == o.live;
  }
};

// What is the same for all elements (ops/adam_kernels.h, ops/sgd_step.cpp).
struct Coefficients {
  double lr, root, size, keep;
  bool first;
  WATTLE_HD static Coefficients of(const Settings& s) {
    Coefficients c{};
    c.lr = s.live ? s.live->lr : s.lr;
    const int64_t step = s.live ? s.live->step : s.step;
    c.first = step == 1;
    if (s.kind == sgd_kind) return c;
    c.root = 1 / ::sqrt(1 - ::pow(s.b, static_cast<double>(step)));
    c.size = c.lr / (1 - ::pow(s.a, static_cast<double>(step)));
    c.keep = 1 - c.lr * s.weight_decay;
    return c;
  }
};

struct Tensors {
  void *p, *g, *m, *v;
  int64_t n;
};

template <class T>
WATTLE_HD void update(const Settings& s, const Coefficients& c, const Tensors& t, int64_t i) {
  T* const p = static_cast<T*>(t.p);
  T *const m = static_cast<T*>(t.m), *const v = static_cast<T*>(t.v);
  T param = p[i], grad = static_cast<const T*>(t.g)[i];
  if (s.kind == sgd_kind) {
    if (s.weight_decay != 0) grad = grad + param * T(s.weight_decay);
    if (s.a != 0) {
      const T next = c.first ? grad : m[i] * T(s.a) + grad * T(1 - s.b);
      m[i] = next;
      grad = s.nesterov ? grad + next * T(s.a) : next;
    }
    p[i] = param - grad * T(c.lr);
    return;
  }
  if (s.weight_decay != 0) {
    if (s.kind == adamw_kind) param = param * T(c.keep);
    else grad = grad + param * T(s.weight_decay);
  }
  const T first = m[i] + (grad - m[i]) * T(1 - s.a);
  const T second = v[i] * T(s.b) + grad * grad * T(1 - s.b);
  m[i] = first;
  v[i] = second;
  p[i] = param - first / (::sqrt(second) * T(c.root) + T(s.eps)) * T(c.size);
}

constexpr int most = 48, chunk = 1024;  // tensors of a launch, elements of a block

struct Table {
  Settings s;
  int32_t count;
  int32_t first_block[most + 1];
  Tensors t[most];
};

template <class T>
__global__ void __launch_bounds__(256) update_kernel(Table table) {
  __shared__ Coefficients c;
  if (threadIdx.x == 0) c = Coefficients::of(table.s);
  __syncthreads();
  int which = 0;
  while (static_cast<int32_t>(blockIdx.x) >= table.first_block[which + 1]) ++which;
  const Tensors t = table.t[which];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.first_block[which]) * chunk;
  const int64_t end = begin + chunk < t.n ? begin + chunk : t.n;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) update<T>(table.s, c, t, i);
}

Table& pending() {
  static Table t{};
  return t;
}

const char* flush() {
  Table& t = pending();
  if (t.count == 0) return nullptr;
  const int32_t count = t.count;
  t.count = 0;
  if (emulated()) {
    const Coefficients c = Coefficients::of(t.s);
    for (int k = 0; k < count; ++k)
      for (int64_t i = 0; i < t.t[k].n; ++i)
        t.s.dtype == f32 ? update<float>(t.s, c, t.t[k], i) : update<double>(t.s, c, t.t[k], i);
    return nullptr;
  }
  int32_t blocks = 0;
  for (int k = 0; k < count; ++k) {
    t.first_block[k] = blocks;
    blocks += static_cast<int32_t>((t.t[k].n + chunk - 1) / chunk);
  }
  t.first_block[count] = blocks;
  if (t.s.dtype == f32)
    update_kernel<float><<<static_cast<unsigned>(blocks), 256, 0, stream()>>>(t);
  else update_kernel<double><<<static_cast<unsigned>(blocks), 256, 0, stream()>>>(t);
  return launched();
}

const char* add(const Settings& s, const Tensors& t) {
  if (s.dtype != f32 && s.dtype != f64)
    return fail("dtype number %d found, device code takes f32 and f64", s.dtype);
  set_flush(flush);
  Table& table = pending();
  if (table.count == most || (table.count > 0 && !table.s.same(s)))
    if (const char* e = flush()) return e;
  if (t.n == 0) return nullptr;
  table.s = s;
  table.t[table.count++] = t;
  return nullptr;
}

const char* adam(const Launch& l, Kind kind) {
  return add({kind, l.in[0].dtype, number(l, "lr"), number(l, "beta1"), number(l, "beta2"),
              number(l, "eps"), number(l, "weight_decay"), integer(l, "step"), 0, l.live},
             {l.in[0].data, l.in[1].data, l.in[2].data, l.in[3].data, l.in[0].numel});
}

}  // namespace

WATTLE_DEVICE_OP_AS(adam_step, adam_step_on_device) { return adam(l, adam_kind); }
WATTLE_DEVICE_OP_AS(adamw_step, adamw_step_on_device) { return adam(l, adamw_kind); }
WATTLE_DEVICE_OP_AS(sgd_step, sgd_step_on_device) {
  return add(
      {sgd_kind, l.in[0].dtype, number(l, "lr"), number(l, "momentum"), number(l, "dampening"), 0,
       number(l, "weight_decay"), integer(l, "step"), static_cast<int32_t>(integer(l, "nesterov")),
       l.live},
      {l.in[0].data, l.in[1].data, has(l, 2) ? l.in[2].data : nullptr, nullptr, l.in[0].numel});
}

}  // namespace wattle::device
