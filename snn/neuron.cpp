// neuron: the steps of a layer of neurons with one state, all in one call (snn/ops.h has the
// equations). h [T, ...] is kept for backward; spikes and states follow from it. With k = dh/dv,
// q = dh/dx, sg the surrogate at h - v_th and s the spike, going back in time:
//   dv/dh = hard: (1 - s) + (v_reset - h) sg;  soft: 1 - v_th sg;  none: 1   (no sg when detached)
//   clear: 1 - s of the step before, for k, q and the decay alike
//   gh[t] = gh[t+1] k dv/dh + gs[t] sg + what reaches h itself,   gx[t] = q gh[t]
// and with a delayed reset the soft one is gh[t] = gh[t+1] (k - v_th sg) + gs[t] sg.
#include "ops/rules.h"
#include "snn/neuron_grad.h"
#include "snn/neuron_kernels.h"
#include "snn/spike.h"

namespace wattle {
namespace {

using namespace snn;

bool has(Ins in, size_t i) { return in.size() > i && in[i].defined(); }

// x [T, ...] as T planes of n neurons.
struct Planes {
  int64_t steps, n;
};
Planes planes(const Tensor& x, const NeuronAttr& a) {
  return {a.steps > 0 ? a.steps : x.size(0), x.shape().numel(1, x.rank())};
}

bool is_lif(const NeuronRule& r) {
  return r.charge != Charge::integrate && r.charge != Charge::leaky;
}

// d and 1 - d as numbers of type T.
template <class T>
std::pair<T, T> decay_of(const NeuronRule& r, Ins in, size_t i) {
  if (!r.learned) return {T(r.d), T(1 - r.d)};
  const T d = *in[i].data<T>();
  return {d, is_lif(r) ? T(1) - d : T(0)};
}

void check_state(const char* op, const Tensor& x, Ins in, size_t v, size_t decay) {
  if (x.rank() < 1) throw shape_error(str(op, ": found ", x, ", expected [T, ...]"));
  const Shape state(x.shape().begin() + 1, x.rank() - 1);
  if (has(in, v) && in[v].shape() != state)
    throw shape_error(str(op, ": v ", in[v], ", expected ", state));
  if (has(in, decay) && in[decay].shape() != Shape{1})
    throw shape_error(str(op, ": decay ", in[decay], ", expected [1]"));
}

// ---- neuron ----

Metas shape(Ins in, const NeuronAttr& a) {
  rules::arity("neuron", in, 1, 3);
  rules::same_dtype("neuron", in);
  rules::floating("neuron", in, 0);
  neuron_rule(a, has(in, 2));
  check_state("neuron", in[0], in, 1, 2);
  if (a.steps < 0 || (a.steps > 0 && in[0].size(0) != 1))
    throw shape_error(str("neuron: attribute steps: found ", a.steps, " with ", in[0],
                          ", expected 0, or more with [1, ...]"));
  Shape x = in[0].shape();
  if (a.steps > 0) x[0] = a.steps;
  const DType t = in[0].dtype();
  if (a.out == DType::spike && x.rank() < 2)
    throw shape_error(str("neuron: found ", in[0], ", expected [T, ..., neurons] for spikes"));
  if (a.out != DType::spike && a.out != DType::f32 && a.out != t)
    throw dtype_error(
        str("neuron: attribute out: found ", name(a.out), ", expected spike or ", name(t)));
  return {{x, a.out == DType::spike ? DType::spike : t},
          {Shape(x.begin() + 1, x.rank() - 1), t},
          {x, t}};
}

// h of one neuron and step, the spike, the reset.
Cost step_cost(const NeuronRule& r) {
  Cost c{.cmp = 1};
  const int64_t divides = r.product ? 0 : 1;
  switch (r.charge) {
    case Charge::integrate: c += {.add = 1}; break;
    case Charge::lif:
    case Charge::lif_rest: c += {.add = 3, .mul = 1 - divides, .special = divides}; break;
    case Charge::lif_plain:
    case Charge::leaky: c += {.add = 1, .mul = 1}; break;
  }
  if (r.reset == ResetTo::none) return c;
  return c + Cost{.add = r.reset == ResetTo::soft ? 1 : 0, .cmp = 1};
}

Cost cost(Ins in, std::span<const Meta>, const NeuronAttr& a) {
  const NeuronRule r = neuron_rule(a, has(in, 2));
  const Planes p = planes(in[0], a);
  Cost c = step_cost(r) * (p.steps * p.n);
  if (r.learned && is_lif(r)) c.add += 1;
  return c;
}

void ref(Ins in, Outs out, const NeuronAttr& a) {
  const NeuronRule r = neuron_rule(a, has(in, 2));
  const Planes p = planes(in[0], a);
  const int64_t x_step = a.steps > 0 ? 0 : p.n;
  dispatch_floating("neuron", in[0].dtype(), [&]<class T>() {
    const auto [d, keep] = decay_of<T>(r, in, 2);
    const T* const x = in[0].data<T>();
    for (int64_t i = 0; i < p.n; ++i) {
      T v = has(in, 1) ? in[1].data<T>()[i] : T(r.start());
      for (int64_t t = 0; t < p.steps; ++t) {
        const T h = potential<Scalar<T>>(r, v, x[t * x_step + i], d, keep);
        out[0].data<T>()[t * p.n + i] = if_fires<Scalar<T>>(r, h, T(1), T(0));
        out[2].data<T>()[t * p.n + i] = h;
        v = state<Scalar<T>>(r, h);
      }
      out[1].data<T>()[i] = v;
    }
  });
}

template <class Isa>
void simd_run(Ins in, Outs out, const NeuronAttr& a) {
  const NeuronRule r = neuron_rule(a, has(in, 2));
  const Planes p = planes(in[0], a);
  const auto [d, keep] = decay_of<float>(r, in, 2);
  const bool bits = out[0].dtype() == DType::spike;
  // Neurons side by side; rows matter only where one does not end with a byte.
  const int64_t last = in[0].rank() > 1 ? in[0].size(-1) : 1;
  const int64_t row = bits && last % 8 != 0 ? last : p.n;
  neuron_forward<Isa>({r, d, keep, p.steps, p.n, row, a.steps > 0 ? 0 : p.n, in[0].data<float>(),
                       has(in, 1) ? in[1].data<float>() : nullptr,
                       bits ? nullptr : out[0].data<float>(),
                       bits ? static_cast<uint8_t*>(out[0].raw()) : nullptr, out[1].data<float>(),
                       out[2].data<float>()});
}

// Writes spikes itself, but reads no codes.
Refusal plain(Ins in, const NeuronAttr&) {
  for (const Tensor& t : in)
    if (t && t.dtype() != DType::f32) return {str("takes f32, found ", name(t.dtype()))};
  if (in[0].rank() > 0 && in[0].numel() == 0) return {"no neuron or no step"};
  return {};
}

template <class Isa>
Kernel<NeuronAttr> fast() {
  Kernel<NeuronAttr> k = simd_kernel<Isa>(simd_run<Isa>, plain);
  k.codes = true;
  return k;
}

// ---- neuron_grad: gradients of s [T,...]?, v [...]?, h [T,...]?; then h [T,...], v [...]?,
//      decay [1]? -> gx, gv0, gdecay ----

Metas grad_shape(Ins in, const NeuronAttr& a) {
  const char* const op = "neuron_grad";
  if (in.size() < 4 || in.size() > 6)
    throw shape_error(
        str(op, ": ", static_cast<int64_t>(in.size()), " operands found, expected 4 to 6"));
  if (!in[3]) throw shape_error(str(op, ": operand 3 is not given"));
  rules::same_dtype(op, in.subspan(3));
  rules::floating(op, in, 3);
  neuron_rule(a, has(in, 5));
  const Tensor& h = in[3];
  check_state(op, h, in, 4, 5);
  for (const size_t i : {0, 2})
    if (in[i] && (in[i].shape() != h.shape() || in[i].dtype() != h.dtype()))
      throw shape_error(str(op, ": gradient ", in[i], ", expected ", h.meta()));
  const Shape state(h.shape().begin() + 1, h.rank() - 1);
  if (in[1] && (in[1].shape() != state || in[1].dtype() != h.dtype()))
    throw shape_error(str(op, ": gv ", in[1], ", expected ", state));
  Shape x = h.shape();
  if (a.steps > 0) x[0] = 1;
  return {{x, h.dtype()}, {state, h.dtype()}, {{1}, h.dtype()}};
}

// Of the methods of NeuronGrad, by name.
struct GradCosts {
  Cost charge, reset, back, last, to_x, decay, state, surrogate;
  explicit GradCosts(const NeuronRule& r) {
    const bool hard = r.to_rest(), soft = r.reset == ResetTo::soft;
    const bool clear = r.reset == ResetTo::clear;
    charge.mul = r.charge == Charge::integrate ? 0 : 1;
    if (hard) reset = r.detach ? Cost{.mul = 1, .cmp = 1} : Cost{.add = 2, .mul = 2, .cmp = 1};
    if (soft && !r.detach) reset = {.add = 1, .mul = 2};
    back = r.delayed && soft && !r.detach ? reset : charge + reset;
    if (!r.delayed) last = reset;
    to_x.mul = r.charge == Charge::lif, to_x.cmp = clear;
    if (r.delayed && hard) decay.cmp = 1;
    if (r.charge != Charge::leaky) decay.add = 1;
    if (r.charge == Charge::lif) decay.special = 1;
    if (r.charge == Charge::lif && r.delayed && soft) decay += {.add = 1, .cmp = 1};
    decay += {.add = 1, .mul = 1};
    if (!r.delayed && r.reset != ResetTo::none) state = {.add = soft, .cmp = 1};
    surrogate = surrogate_cost(r.surrogate.kind) + Cost{.add = 1};
  }
};

Cost grad_cost(Ins in, std::span<const Meta>, const NeuronAttr& a) {
  const NeuronRule r = neuron_rule(a, has(in, 5));
  const Planes p = planes(in[3], {});
  if (p.steps == 0) return {};
  const GradCosts g(r);
  Cost step = g.surrogate + g.to_x;
  if (has(in, 0)) step += {.add = 1, .mul = 1};
  if (has(in, 2)) step += {.add = 1};
  if (r.learned) step += g.decay;
  Cost neuron = step * p.steps + g.back * (p.steps - 1) + g.last;
  if (r.learned) neuron += g.state * (p.steps - 1);
  neuron += r.delayed ? g.back : g.charge;
  if (a.steps > 0) neuron.add += p.steps - 1;
  if (r.delayed && r.reset != ResetTo::none) neuron += g.surrogate;
  return neuron * p.n + Cost{.add = r.learned && is_lif(r) ? 1 : 0};
}

void grad_ref(Ins in, Outs out, const NeuronAttr& a) {
  const NeuronRule r = neuron_rule(a, has(in, 5));
  const Planes p = planes(in[3], {});
  dispatch_floating("neuron_grad", in[3].dtype(), [&]<class T>() {
    const auto [d, keep] = decay_of<T>(r, in, 5);
    const NeuronGrad<Scalar<T>, NeuronRule> g(r, d, keep);
    const auto slope = [&](const T& h) { return surrogate_value<T>(r.surrogate, h - T(r.v_th)); };
    T sum = T(0);
    for (int64_t i = 0; i < p.n; ++i) {
      const T v0 = has(in, 4) ? in[4].data<T>()[i] : T(r.start());
      T gh = has(in, 1) ? in[1].data<T>()[i] : T(0), gx = T(0);
      for (int64_t t = p.steps; t-- > 0;) {
        const int64_t at = t * p.n + i;
        const T h = in[3].data<T>()[at], sg = slope(h);
        gh = t == p.steps - 1 ? g.last(gh, h, sg) : g.back(gh, h, sg);
        if (has(in, 0)) gh = gh + in[0].data<T>()[at] * sg;
        if (has(in, 2)) gh = gh + in[2].data<T>()[at];
        const bool needs_v = r.learned || r.reset == ResetTo::clear;
        const T v = !needs_v ? T(0) : t > 0 ? state<Scalar<T>>(r, in[3].data<T>()[at - p.n]) : v0;
        if (a.steps == 0) out[0].data<T>()[at] = g.to_x(gh, v);
        else gx = t < p.steps - 1 ? gx + g.to_x(gh, v) : g.to_x(gh, v);
        if (!r.learned) continue;
        sum = sum + gh * g.by_decay(h, v);
      }
      if (a.steps > 0) out[0].data<T>()[i] = gx;
      if (p.steps > 0) gh = g.to_start(gh, v0, g.start_fires() ? slope(v0) : T(0));
      out[1].data<T>()[i] = gh;
    }
    out[2].data<T>()[0] = sum;
  });
}

template <class Isa>
void grad_simd(Ins in, Outs out, const NeuronAttr& a) {
  const NeuronRule r = neuron_rule(a, has(in, 5));
  const Planes p = planes(in[3], {});
  const auto [d, keep] = decay_of<float>(r, in, 5);
  const auto at = [&](size_t i) { return has(in, i) ? in[i].data<float>() : nullptr; };
  neuron_backward<Isa>({r, d, keep, p.steps, p.n, a.steps > 0, at(0), at(1), at(2), at(3), at(4),
                        out[0].data<float>(), out[1].data<float>(), out[2].data<float>()});
}

Refusal not_empty(Ins in, const NeuronAttr&) {
  return in[3].numel() == 0 ? Refusal{"no neuron or no step"} : Refusal{};
}

using S = SampleIn;
const SampleIn kAbsent{{1}, 0, 1, S::absent};

const Op<NeuronAttr> grad_op{{
    .name = "neuron_grad",
    .doc = "Gradients of neuron's input, first state and decay",
    .equation = "gh[t] = gh[t+1] k dv/dh + gs[t] surrogate(h[t] - v_th);  gx = q gh",
    .shape = grad_shape,
    .cost = grad_cost,
    .kernels = {simd_kernel<simd::Avx512>(grad_simd<simd::Avx512>, not_empty),
                simd_kernel<simd::Avx2>(grad_simd<simd::Avx2>, not_empty),
                simd_kernel<simd::Portable>(grad_simd<simd::Portable>, not_empty),
                {"ref", grad_ref}},
    .samples = {{{{{3, 5}}, kAbsent, kAbsent, {{3, 5}}}, {}},
                {{{{1, 1}}, {{1}}, {{1, 1}}, {{1, 1}}, {{1}}, {{1}, 0.4, 0.6}}, {}},
                {{{{4, 2, 19}}, {{2, 19}}, {{4, 2, 19}}, {{4, 2, 19}}, {{2, 19}}, {{1}, 0.4, 0.6}},
                 {.charge = "leaky", .reset = "soft", .strict = true, .delayed = true}},
                {{{{3, 37}}, kAbsent, {{3, 37}}, {{3, 37}, 0, 2}, {{37}, 0, 2}, {{1}, 0.4, 0.6}},
                 {.charge = "leaky", .reset = "clear", .delayed = true, .detach_reset = true}},
                {{kAbsent, {{37}}, kAbsent, {{3, 37}}, {{37}}},
                 {.charge = "integrate", .reset = "soft", .surrogate = "sigmoid"}},
                {{{{3, 37}}, kAbsent, {{3, 37}}, {{3, 37}}, {{37}}, {{1}, 0.4, 0.6}},
                 {.charge = "lif",
                  .v_reset = 0.1,
                  .reset = "hard",
                  .decay_input = false,
                  .delayed = true,
                  .surrogate = "fast_sigmoid"}},
                {{{{3, 37}}, kAbsent, kAbsent, {{3, 37}}, {{37}}}, {.steps = 3}}},
}};

const Op<NeuronAttr> op{{
    .name = "neuron",
    .doc = "Steps of spiking neurons with one state: integrate-and-fire and leaky ones",
    .equation = "h[t] = charge(v[t-1], x[t]),  s[t] = [h[t] >= v_th],  v[t] = reset(h[t], s[t])",
    .shape = shape,
    .cost = cost,
    .kernels = {fast<simd::Avx512>(), fast<simd::Avx2>(), fast<simd::Portable>(), {"ref", ref}},
    .saves_in = {1, 2},
    .saves_out = {2},
    .estimated_gradient = true,
    .backward =
        [](const Saved<NeuronAttr>& s, Ins g) {
          const Tensor v = s.has(1) ? s.in(1) : Tensor{}, d = s.has(2) ? s.in(2) : Tensor{};
          const Tensors out = grad_op({g[0], g[1], g[2], s.out(2), v, d}, s.attr());
          return Tensors{out[0], out[1], out[2]};
        },
    .samples = {{{{{3, 5}, -1, 3}}, {}},
                {{{{1, 1}, 2, 3}, {{1}}}, {.charge = "integrate"}},
                {{{{4, 2, 19}, -1, 3}, {{2, 19}}, {{1}, 0.4, 0.6}},
                 {.charge = "leaky", .reset = "soft", .strict = true, .delayed = true}},
                {{{{3, 37}, -1, 3}, {{37}}, {{1}, 0.4, 0.6}},
                 {.v_reset = 0.1, .decay_input = false}},
                {{{{5, 37}, -1, 3}, {{37}}}, {.reset = "none", .decay_input = false}},
                {{{{5, 37}, -1, 3}, {{37}, 0, 2}},
                 {.v_reset = 0.1, .reset = "clear", .delayed = true, .detach_reset = true}},
                {{{{1, 37}, -1, 3}, {{37}}}, {.steps = 4}}},
}};

}  // namespace

Tensors neuron(const Tensor& x, const Tensor& v, const Tensor& decay, const NeuronAttr& attr) {
  return op({x, v, decay}, attr);
}

}  // namespace wattle
