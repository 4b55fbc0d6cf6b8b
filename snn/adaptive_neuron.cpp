// adaptive_neuron: the steps of neurons with a second state or a gain (snn/ops.h has the equations,
// snn/adaptive_neuron_rule.h the step and its way back). h [T, ...] is kept for backward: states
// and spikes follow from it.
#include "ops/rules.h"
#include "snn/adaptive_neuron_kernels.h"

namespace wattle {
namespace snn {

AdaptiveRule adaptive_rule(const AdaptiveAttr& a) {
  const auto fail = [](const char* field, const std::string& found, const char* expected) {
    throw value_error(
        str("adaptive_neuron: attribute ", field, ": found '", found, "', expected ", expected));
  };
  AdaptiveRule r{};
  if (a.kind == "klif") r.kind = AdaptiveKind::klif;
  else if (a.kind == "alif") r.kind = AdaptiveKind::alif;
  else if (a.kind == "izhikevich") r.kind = AdaptiveKind::izhikevich;
  else fail("kind", a.kind, "klif, alif or izhikevich");
  const bool alif = r.kind == AdaptiveKind::alif;
  if (a.reset != "soft" && (alif || a.reset != "hard"))
    fail("reset", a.reset, alif ? "soft" : "hard or soft");
  if (!alif && !(a.tau > 1)) fail("tau", str(a.tau), "more than 1");
  if (!(a.tau_w >= 1)) fail("tau_w", str(a.tau_w), "at least 1");
  if (a.scale_reset && r.kind != AdaptiveKind::klif)
    fail("scale_reset", "true", "false but with klif");
  r.hard = a.reset == "hard";
  r.strict = a.strict, r.detach = a.detach_reset;
  r.decay_input = a.decay_input, r.scale_reset = a.scale_reset;
  r.v_th = a.v_th, r.v_reset = a.v_reset, r.tau = a.tau, r.tau_w = a.tau_w;
  r.decay = a.decay, r.rho = a.rho, r.beta = a.beta;
  r.a0 = a.a0, r.v_rest = a.v_rest, r.v_c = a.v_c, r.a = a.a, r.b = a.b;
  r.surrogate = surrogate("adaptive_neuron", a.surrogate, a.slope);
  return r;
}

}  // namespace snn

namespace {

using namespace snn;

bool has(Ins in, size_t i) { return in.size() > i && in[i].defined(); }

Shape state_of(const Tensor& x) { return Shape(x.shape().begin() + 1, x.rank() - 1); }
Shape w_shape(const AdaptiveRule& r, const Tensor& x) { return r.has_w() ? state_of(x) : Shape{0}; }

// The states and the gain, from operand `at` on.
void check_states(const char* op, const Tensor& x, Ins in, size_t at, const AdaptiveRule& r) {
  if (x.rank() < 1) throw shape_error(str(op, ": found ", x, ", expected [T, ...]"));
  if (has(in, at) && in[at].shape() != state_of(x))
    throw shape_error(str(op, ": v ", in[at], ", expected ", state_of(x)));
  if (has(in, at + 1) && in[at + 1].shape() != w_shape(r, x))
    throw shape_error(str(op, ": w ", in[at + 1], ", expected ", w_shape(r, x)));
  if (!has(in, at + 2)) return;
  if (r.kind != AdaptiveKind::klif)
    throw value_error(str(op, ": found a gain, expected one with kind klif alone"));
  if (in[at + 2].shape() != Shape{1})
    throw shape_error(str(op, ": gain ", in[at + 2], ", expected [1]"));
}

template <class T>
T gain_of(Ins in, size_t i) {
  return has(in, i) ? T(*in[i].data<T>()) : T(1);
}

// Steps and neurons of [T, ...].
std::pair<int64_t, int64_t> planes(const Tensor& x) {
  return {x.size(0), x.shape().numel(1, x.rank())};
}

// ---- adaptive_neuron: x [T, ...], v [...]?, w [...]?, gain [1]? ----

Metas shape(Ins in, const AdaptiveAttr& a) {
  const char* const op = "adaptive_neuron";
  rules::arity(op, in, 1, 4);
  rules::same_dtype(op, in);
  rules::floating(op, in, 0);
  const AdaptiveRule r = adaptive_rule(a);
  check_states(op, in[0], in, 1, r);
  const DType t = in[0].dtype();
  return {{in[0].shape(), t}, {state_of(in[0]), t}, {w_shape(r, in[0]), t}, {in[0].shape(), t}};
}

Cost reset_cost(const AdaptiveRule& r) {
  return {.add = r.hard ? 0 : 1, .cmp = 1, .special = r.scale_reset};
}

Cost cost(Ins in, std::span<const Meta>, const AdaptiveAttr& a) {
  const AdaptiveRule r = adaptive_rule(a);
  const auto [steps, n] = planes(in[0]);
  Cost step{.cmp = 1}, neuron{};  // the spike
  switch (r.kind) {
    case AdaptiveKind::klif:
      step += Cost{.add = 3, .mul = 1, .cmp = 1, .special = 1} + reset_cost(r);
      break;
    case AdaptiveKind::alif:
      step += {.add = 4, .mul = 3, .cmp = 2};
      neuron = {.add = 1, .mul = 1};
      break;
    case AdaptiveKind::izhikevich:
      step += Cost{.add = 9, .mul = 3, .cmp = 1, .special = 2} + reset_cost(r);
      break;
  }
  return step * (steps * n) + neuron * n + Cost{.special = r.scale_reset};
}

void ref(Ins in, Outs out, const AdaptiveAttr& a) {
  const AdaptiveRule r = adaptive_rule(a);
  const auto [steps, n] = planes(in[0]);
  dispatch_floating("adaptive_neuron", in[0].dtype(), [&]<class T>() {
    const AdaptiveStep<Scalar<T>, AdaptiveRule> step(r, gain_of<T>(in, 3));
    for (int64_t i = 0; i < n; ++i) {
      T v = has(in, 1) ? in[1].data<T>()[i] : T(r.start());
      T w = r.has_w() && has(in, 2) ? in[2].data<T>()[i] : T(0);
      T h = step.before(v, w);
      for (int64_t t = 0; t < steps; ++t) {
        h = step(in[0].data<T>()[t * n + i], h, v, w);
        out[0].data<T>()[t * n + i] = if_fires<Scalar<T>>(r, h, T(1), T(0));
        out[3].data<T>()[t * n + i] = h;
      }
      out[1].data<T>()[i] = v;
      if (r.has_w()) out[2].data<T>()[i] = w;
    }
  });
}

template <class Isa>
void simd_run(Ins in, Outs out, const AdaptiveAttr& a) {
  const AdaptiveRule r = adaptive_rule(a);
  const auto [steps, n] = planes(in[0]);
  const auto at = [&](size_t i) { return has(in, i) ? in[i].data<float>() : nullptr; };
  adaptive_forward<Isa>({r, gain_of<float>(in, 3), steps, n, at(0), at(1),
                         r.has_w() ? at(2) : nullptr, out[0].data<float>(), out[1].data<float>(),
                         r.has_w() ? out[2].data<float>() : nullptr, out[3].data<float>()});
}

Refusal not_empty(Ins in, const AdaptiveAttr&) {
  return in[0].numel() == 0 ? Refusal{"no neuron or no step"} : Refusal{};
}

// ---- adaptive_neuron_grad: h [T, ...], gradients of s [T, ...]?, v [...]?, w [...]?, h [T, ...]?;
//      then v [...]?, w [...]? (of alif alone), gain [1]? -> gx, gv0, gw0, ggain ----

enum { kH, kGs, kGv, kGw, kGh, kV, kW, kGain };

Metas grad_shape(Ins in, const AdaptiveAttr& a) {
  const char* const op = "adaptive_neuron_grad";
  rules::arity(op, in, 1, 8);
  rules::same_dtype(op, in);
  rules::floating(op, in, 0);
  const AdaptiveRule r = adaptive_rule(a);
  const Tensor& h = in[kH];
  check_states(op, h, in, kV, r);
  if (has(in, kW) && r.kind != AdaptiveKind::alif)
    throw value_error(str(op, ": found w, expected it with kind alif alone"));
  for (const size_t i : {kGs, kGh})
    if (has(in, i) && in[i].shape() != h.shape())
      throw shape_error(str(op, ": gradient ", in[i], ", expected ", h.shape()));
  if (has(in, kGv) && in[kGv].shape() != state_of(h))
    throw shape_error(str(op, ": gv ", in[kGv], ", expected ", state_of(h)));
  if (has(in, kGw) && in[kGw].shape() != w_shape(r, h))
    throw shape_error(str(op, ": gw ", in[kGw], ", expected ", w_shape(r, h)));
  const DType t = h.dtype();
  return {{h.shape(), t}, {state_of(h), t}, {w_shape(r, h), t}, {{1}, t}};
}

// dv/dh.
Cost stays_cost(const AdaptiveRule& r) {
  if (!r.hard) return r.detach ? Cost{} : Cost{.add = 1, .mul = 1};
  Cost c{.mul = r.scale_reset, .cmp = 1};
  if (!r.detach) c += {.add = 2, .mul = 1 + r.scale_reset};
  return c;
}

// One step of AdaptiveGrad.
Cost back_cost(const AdaptiveRule& r, bool learned) {
  if (r.kind == AdaptiveKind::alif) return {.add = 3 + !r.detach, .mul = 4 + !r.detach};
  if (r.kind == AdaptiveKind::izhikevich) return stays_cost(r) + Cost{.add = 7, .mul = 7};
  Cost c = stays_cost(r) + Cost{.add = 1, .mul = 3 + r.decay_input, .cmp = 1};
  if (learned) c += {.add = 1, .mul = 2};
  if (learned && r.scale_reset) c += {.add = 2 + !r.hard, .mul = 3, .cmp = 1};
  return c;
}

Cost grad_cost(Ins in, std::span<const Meta>, const AdaptiveAttr& a) {
  const AdaptiveRule r = adaptive_rule(a);
  const auto [steps, n] = planes(in[kH]);
  const bool learned = has(in, kGain);
  const Cost surrogate = surrogate_cost(r.surrogate.kind) + Cost{.add = 1};
  Cost step = surrogate + back_cost(r, learned);
  if (has(in, kGs)) step.mul += 1;
  if (has(in, kGs) && has(in, kGh)) step.add += 1;
  Cost neuron = step * steps;
  if (r.kind == AdaptiveKind::alif) {
    neuron += surrogate + back_cost(r, learned) + Cost{.add = 1, .mul = 1};
    if (steps > 0) {
      neuron.add -= back_cost(r, learned).add - 2;
      neuron.mul -= back_cost(r, learned).mul - 1;
    }
  }
  if (r.kind == AdaptiveKind::izhikevich && steps > 0) neuron += reset_cost(r) * (steps - 1);
  if (learned) neuron.add += 1;
  return neuron * n + Cost{.special = 1 + r.scale_reset};
}

void grad_ref(Ins in, Outs out, const AdaptiveAttr& a) {
  const AdaptiveRule r = adaptive_rule(a);
  const auto [steps, n] = planes(in[kH]);
  dispatch_floating("adaptive_neuron_grad", in[kH].dtype(), [&]<class T>() {
    const AdaptiveGrad<Scalar<T>, AdaptiveRule> g(r, gain_of<T>(in, kGain), has(in, kGain));
    const auto slope = [&](const T& h) { return surrogate_value<T>(r.surrogate, h - T(r.v_th)); };
    const auto at = [&](size_t i, int64_t j) { return has(in, i) ? in[i].data<T>()[j] : T(0); };
    T by_gain = T(0);
    for (int64_t i = 0; i < n; ++i) {
      const T v0 = has(in, kV) ? in[kV].data<T>()[i] : T(r.start());
      T gv = at(kGv, i), gw = r.has_w() ? at(kGw, i) : T(0), k = T(0);
      for (int64_t t = steps; t-- > 0;) {
        const int64_t j = t * n + i;
        const T h = in[kH].data<T>()[j], sg = slope(h);
        T up = has(in, kGs) ? in[kGs].data<T>()[j] * sg : at(kGh, j);
        if (has(in, kGs) && has(in, kGh)) up = up + in[kGh].data<T>()[j];
        const bool needs_v = r.kind == AdaptiveKind::izhikevich;
        const T v = needs_v && t > 0 ? g.step.after(in[kH].data<T>()[j - n]) : v0;
        out[0].data<T>()[j] = g(up, h, sg, v, t == steps - 1, gv, gw, k);
      }
      if (r.kind == AdaptiveKind::alif) {
        const T first = g.step.before(v0, at(kW, i));
        g(T(0), first, slope(first), v0, false, gv, gw, k);
      }
      out[1].data<T>()[i] = gv;
      if (r.has_w()) out[2].data<T>()[i] = gw;
      if (has(in, kGain)) by_gain = by_gain + k;
    }
    out[3].data<T>()[0] = by_gain;
  });
}

template <class Isa>
void grad_simd(Ins in, Outs out, const AdaptiveAttr& a) {
  const AdaptiveRule r = adaptive_rule(a);
  const auto [steps, n] = planes(in[kH]);
  const auto at = [&](size_t i) { return has(in, i) ? in[i].data<float>() : nullptr; };
  const auto w = [&](size_t i) { return r.has_w() ? at(i) : nullptr; };
  adaptive_backward<Isa>({r, gain_of<float>(in, kGain), has(in, kGain), steps, n, at(kGs), at(kGv),
                          w(kGw), at(kGh), at(kH), at(kV), w(kW), out[0].data<float>(),
                          out[1].data<float>(), r.has_w() ? out[2].data<float>() : nullptr,
                          out[3].data<float>()});
}

const SampleIn kAbsent{{1}, 0, 1, SampleIn::absent};
const AdaptiveAttr kIzhikevich{
    .kind = "izhikevich", .v_reset = 0.1, .reset = "hard", .a = 0.3, .b = 0.2};
const AdaptiveAttr kKlif{.kind = "klif", .tau = 1.7, .scale_reset = true};

const Op<AdaptiveAttr> grad_op{{
    .name = "adaptive_neuron_grad",
    .doc = "Gradients of adaptive_neuron's input, first states and gain",
    .equation = "gh[t] = gv[t] dv/dh + gw[t] dw/dh + gs[t] surrogate(h[t] - v_th)",
    .shape = grad_shape,
    .cost = grad_cost,
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>, not_empty),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>, not_empty),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>, not_empty),
                {"ref", grad_ref}},
    .samples = {{{{{3, 5}}, {{3, 5}}}, {}},
                {{{{1, 1}}, {{1, 1}}, {{1}}, {{1}}, {{1, 1}}, {{1}}, {{1}}}, {}},
                {{{{4, 2, 19}}, {{4, 2, 19}}, {{2, 19}}, {{2, 19}}, kAbsent, {{2, 19}}},
                 kIzhikevich},
                {{{{3, 37}}, kAbsent, {{37}}, {{0}}, {{3, 37}}, {{37}}, kAbsent, {{1}, 0.5, 1.5}},
                 kKlif},
                {{{{3, 7}}, {{3, 7}}, kAbsent, kAbsent, kAbsent, kAbsent, kAbsent, {{1}, 0.5, 1.5}},
                 {.kind = "klif", .reset = "hard", .scale_reset = true, .detach_reset = true}}},
}};

const Op<AdaptiveAttr> op{{
    .name = "adaptive_neuron",
    .doc = "Steps of spiking neurons with a threshold, a current or a gain that adapts",
    .equation = "h[t] = charge(v[t-1], w[t-1], x[t]),  s[t] = [h[t] >= v_th],  v[t] = reset(h[t], "
                "s[t]),  w[t] = adapt(w[t-1], h[t], s[t])",
    .shape = shape,
    .cost = cost,
    .kernels = {simd_kernel<simd::Avx512>(simd_run<simd::Avx512>, not_empty),
                simd_kernel<simd::Avx2>(simd_run<simd::Avx2>, not_empty),
                simd_kernel<simd::Portable>(simd_run<simd::Portable>, not_empty),
                {"ref", ref}},
    .saves_in = {1, 2, 3},
    .saves_out = {3},
    .estimated_gradient = true,
    .backward =
        [](const Saved<AdaptiveAttr>& s, Ins g) {
          const auto kept = [&](int i) { return s.has(i) ? s.in(i) : Tensor{}; };
          const Tensor w = s.attr().kind == "alif" ? kept(2) : Tensor{};
          return grad_op({s.out(3), g[0], g[1], g[2], g[3], kept(1), w, kept(3)}, s.attr());
        },
    .samples = {{{{{3, 5}, -1, 3}}, {}},
                {{{{4, 2, 19}, -1, 3}, {{2, 19}}, {{2, 19}}}, {.strict = true}},
                {{{{4, 2, 19}, -1, 2}, {{2, 19}}, {{2, 19}}}, kIzhikevich},
                {{{{3, 37}, -1, 3}, {{37}}, {{0}}, {{1}, 0.5, 1.5}}, kKlif},
                {{{{2, 7}, -1, 3}}, {.kind = "klif", .reset = "hard", .decay_input = false}}},
}};

}  // namespace

Tensors adaptive_neuron(const Tensor& x, const Tensor& v, const Tensor& w, const Tensor& gain,
                        const AdaptiveAttr& attr) {
  return op({x, v, w, gain}, attr);
}

}  // namespace wattle
