#include "tests/op_checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/tape.h"
#include "core/parallel.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "ops/ops.h"

namespace wattle::checks {
namespace {

struct Captured {
  Tensors out;
  Cost cost, executed;
  std::string kernel;
};

// Runs an op and keeps what apply said of it; ops that apply inserts are recorded before it.
Captured capture(const OpBase& op, Ins in, const void* attr) {
  struct Last final : Recorder {
    Captured c;
    void record(const Call& k) override { c = {{}, k.cost, k.executed, k.kernel}; }
  } last;
  Tensors out = apply(op, in, attr);
  last.c.out = std::move(out);
  return std::move(last.c);
}

double snap(double x) { return std::nearbyint(x * 0x1p20) * 0x1p-20; }

bool near_kink(const SampleIn& in, double x) {
  for (double k : in.kinks)
    if (std::fabs(x - k) < 1e-3 * (in.hi - in.lo)) return true;
  return false;
}

std::vector<double> fill(const SampleIn& in, uint64_t seed) {
  const int64_t n = in.shape.numel();
  if (!in.values.empty()) return in.values;
  std::vector<double> v(static_cast<size_t>(n));
  uint64_t draw = 0;
  for (int64_t i = 0; i < n; ++i) {
    double& x = v[static_cast<size_t>(i)];
    switch (in.fill) {
      case SampleIn::integers:
        x = in.lo +
            static_cast<double>(below_at(seed, draw++, static_cast<uint64_t>(in.hi - in.lo)));
        break;
      case SampleIn::booleans: x = static_cast<double>(below_at(seed, draw++, 2)); break;
      case SampleIn::distinct: x = in.lo + (in.hi - in.lo) * (double(i) + 0.5) / double(n); break;
      default:
        do x = snap(in.lo + (in.hi - in.lo) * uniform_at(seed, draw++));
        while (near_kink(in, x));
    }
  }
  if (in.fill == SampleIn::distinct) {
    for (int64_t i = n; i-- > 1;)
      std::swap(v[static_cast<size_t>(i)], v[below_at(seed, draw++, static_cast<uint64_t>(i + 1))]);
    for (double& x : v) x = snap(x);
  }
  return v;
}

Tensor tensor_of(const std::vector<double>& v, const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  dispatch_all("sample", dtype, [&]<class T>() {
    for (size_t i = 0; i < v.size(); ++i) t.data<T>()[i] = static_cast<T>(v[i]);
  });
  return t;
}

Tensors deep_copies(Ins in) {
  Tensors out;
  for (const Tensor& t : in) out.push_back(deep_copy(t));
  return out;
}

// Results and, after them, the operands that the op overwrote.
Tensors run(const OpBase& op, const Tensors& in, const void* attr) {
  Tensors out = apply(op, in, attr);
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] && op.writes.has(static_cast<int>(i))) out.push_back(in[i]);
  return out;
}

bool accepted(const OpBase& op, int k, Ins in, const void* attr) {
  return !op.kernel_refusal(k, in, attr);
}

std::string text(const Cost& c) {
  return str("mac ", c.mac, " add ", c.add, " mul ", c.mul, " cmp ", c.cmp, " special ", c.special,
             " iop ", c.iop, " read ", c.read, " written ", c.written);
}

void clear_flags(const Tensor& t) {
  Counted* p = t.data<Counted>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i].was_read = p[i].was_written = false;
}

Bytes touched(const OpBase& op, const Tensors& in, const Tensors& out) {
  Bytes b;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i] || op.aux_ins.has(static_cast<int>(i))) continue;
    if (in[i].dtype() != DType::counted) {
      b.read += in[i].nbytes();
      continue;
    }
    const Counted* p = in[i].data<Counted>();
    for (int64_t e = 0; e < in[i].numel(); ++e) {
      b.read += p[e].was_read ? int64_t{sizeof(Counted)} : 0;
      if (op.writes.has(static_cast<int>(i)))
        b.written += p[e].was_written ? int64_t{sizeof(Counted)} : 0;
    }
  }
  for (const Tensor& t : out) {
    if (t.dtype() != DType::counted) {
      b.written += t.nbytes();
      continue;
    }
    const Counted* p = t.data<Counted>();
    for (int64_t e = 0; e < t.numel(); ++e)
      b.written += p[e].was_written ? int64_t{sizeof(Counted)} : 0;
  }
  return b;
}

bool carries_gradient(const Tensors& upstream) {
  return std::any_of(upstream.begin(), upstream.end(), [](const Tensor& t) { return t.defined(); });
}

// sum over results of <upstream, result>, as a tape sees it.
Tensor inner_product(const OpBase& op, const Tensors& out, const Tensors& upstream) {
  Tensor total;
  for (size_t o = 0; o < out.size(); ++o) {
    if (!upstream[o]) continue;
    const Tensor part = sum(mul(out[o], upstream[o]));
    total = total ? add(total, part) : part;
  }
  if (!total) throw autograd_error(str(op.name, ": no result carries a gradient"));
  return total;
}

Tensors upstream_for(const OpBase& op, const Tensors& out, uint64_t seed) {
  Tensors gy;
  for (size_t o = 0; o < out.size(); ++o) {
    const bool carries =
        is_floating(out[o].dtype()) && !op.aux_outs.has(static_cast<int>(o)) && out[o].numel() > 0;
    gy.push_back(carries ? tensor_of(fill({out[o].shape()}, seed + o), out[o].shape(), DType::f64)
                         : Tensor{});
  }
  return gy;
}

Tensors floating_ones(const Tensors& in) {
  Tensors f;
  for (const Tensor& t : in)
    if (t && is_floating(t.dtype())) f.push_back(t);
  return f;
}

Tensors analytic_gradients(const OpBase& op, const Tensors& given, const void* attr,
                           const Tensors& upstream) {
  const Tensors in = deep_copies(given);
  Tape tape;
  for (const Tensor& t : floating_ones(in)) tape.watch(t);
  const Tensors out = apply(op, in, attr);
  return tape.gradient(inner_product(op, out, upstream), floating_ones(in));
}

}  // namespace

Tensors sample_inputs(const OpBase& op, int sample, DType floating, uint64_t seed) {
  Tensors in;
  for (const SampleIn& s : op.sample_in(sample)) {
    ++seed;
    if (s.fill == SampleIn::absent) {
      in.push_back({});
      continue;
    }
    const DType t = s.fill == SampleIn::integers   ? s.int_dtype
                    : s.fill == SampleIn::booleans ? DType::boolean
                                                   : floating;
    in.push_back(tensor_of(fill(s, seed), s.shape, t));
  }
  return in;
}

Tensor deep_copy(const Tensor& t) {
  if (!t) return t;
  Tensor c = Tensor::empty(t.shape(), t.dtype());
  dispatch_all("deep_copy", t.dtype(), [&]<class T>() {
    const T* src = t.data<T>();
    for_each_offset(t.shape(), t.strides(), [&](int64_t i, int64_t o) { c.data<T>()[i] = src[o]; });
  });
  return c;
}

double relative_error(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  double diff = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) && std::isnan(y[i])) continue;
    if (x[i] == y[i]) {
      norm += std::isfinite(y[i]) ? y[i] * y[i] : 0;
      continue;
    }
    diff += (x[i] - y[i]) * (x[i] - y[i]);
    norm += y[i] * y[i];
  }
  if (diff == 0) return 0;
  return norm > 0 ? std::sqrt(diff / norm) : HUGE_VAL;
}

std::string meta_equals_real(const OpBase& op, int sample) {
  const void* attr = op.sample_attr(sample);
  const Tensors in = sample_inputs(op, sample, DType::f32);
  Tensors ghosts;
  for (const Tensor& t : in)
    ghosts.push_back(t ? Tensor::empty(t.shape(), t.dtype(), meta) : Tensor{});
  const Captured real = capture(op, in, attr);
  const DefaultDevice on_meta(meta);
  const Captured ghost = capture(op, ghosts, attr);
  const Tensors &out = real.out, &shapes = ghost.out;
  if (out.size() != shapes.size()) return "a different number of results on meta";
  for (size_t i = 0; i < out.size(); ++i) {
    if (!shapes[i].is_meta()) return "a run on meta allocated a result";
    if (out[i].shape() != shapes[i].shape() || out[i].dtype() != shapes[i].dtype())
      return str("result ", i, ": real ", out[i], ", meta ", shapes[i]);
  }
  if (real.kernel != ghost.kernel)
    return str("kernel ", real.kernel, " on cpu, ", ghost.kernel, " on meta");
  if (!(real.cost == ghost.cost))
    return str("cost ", text(real.cost), " on cpu, ", text(ghost.cost), " on meta");
  if (!op.data_dependent && !(real.executed == ghost.executed))
    return str("executed ", text(real.executed), " on cpu, ", text(ghost.executed), " on meta");
  return {};
}

std::string cost_equals_counted(const OpBase& op, int sample) {
  const Tensors in = sample_inputs(op, sample, DType::counted);
  bool counted = false;
  for (const Tensor& t : in)
    if (t && t.dtype() == DType::counted) {
      clear_flags(t);
      counted = true;
    }
  counted_tally() = {};
  const Captured call = capture(op, in, op.sample_attr(sample));
  const Tensors& out = call.out;
  Cost tally = counted_tally();
  if (op.is_view) return call.cost == Cost{} ? "" : str("a view costs ", text(call.cost));
  const Bytes bytes = touched(op, in, out);
  tally.read = bytes.read;
  tally.written = bytes.written;
  const Cost& claimed = op.data_dependent ? call.executed : call.cost;
  if (!counted) {  // integers only: the scalar cannot count them, the bytes still hold
    tally = claimed;
    tally.read = bytes.read;
    tally.written = bytes.written;
  }
  if (!(claimed == tally)) return str("declared: ", text(claimed), "\ncounted:  ", text(tally));
  if (op.data_dependent && (call.cost.flops() < tally.flops() || call.cost.bytes() < tally.bytes()))
    return str("upper bound ", text(call.cost), " is below what ran: ", text(tally));
  return {};
}

std::string kernels_agree(const OpBase& op, int sample) {
  const void* attr = op.sample_attr(sample);
  if (op.is_view) return {};
  const Tensors in64 = sample_inputs(op, sample, DType::f64);
  const Tensors truth = run(op, deep_copies(in64), attr);
  for (int k = 0; k < op.kernel_count(); ++k) {
    const Tensors in = sample_inputs(op, sample, DType::f32);
    if (!accepted(op, k, in, attr)) continue;
    const ForceKernel force(op.name, op.kernel_name(k));
    const Tensors got = run(op, in, attr);
    for (size_t o = 0; o < truth.size(); ++o) {
      const double e = relative_error(got[o], truth[o]);
      if (!(e <= (is_floating(got[o].dtype()) ? kernel_tolerance : 0)))
        return str("kernel ", op.kernel_name(k), ", result ", o, ": relative error ", e);
    }
  }
  return {};
}

std::string gradients_agree(const OpBase& op, int sample) {
  const void* attr = op.sample_attr(sample);
  if (!op.differentiable || op.estimated_gradient) return {};
  const Tensors in = sample_inputs(op, sample, DType::f64);
  const Tensors upstream = upstream_for(op, apply(op, deep_copies(in), attr), 99);
  if (floating_ones(in).empty() || !carries_gradient(upstream)) return {};  // integers, or nothing
  const Tensors grads = analytic_gradients(op, in, attr, upstream);
  auto value = [&](const Tensors& at) {
    return inner_product(op, apply(op, at, attr), upstream).item();
  };
  size_t g = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i] || !is_floating(in[i].dtype())) continue;
    const Tensor& grad = grads[g++];
    if (!grad) continue;  // has_nonzero_gradient sees to ops that never give one
    const auto analytic = grad.values<double>();
    double worst = 0, largest = 0;
    for (int64_t e = 0; e < in[i].numel(); ++e) {
      Tensors low = deep_copies(in), high = deep_copies(in);
      const double x = in[i].data<double>()[e], h = 1e-5 * std::max(1.0, std::fabs(x));
      low[i].data<double>()[e] = x - h;
      high[i].data<double>()[e] = x + h;
      const double numeric = (value(high) - value(low)) / (2 * h);
      worst = std::max(worst, std::fabs(analytic[static_cast<size_t>(e)] - numeric));
      largest =
          std::max({largest, std::fabs(numeric), std::fabs(analytic[static_cast<size_t>(e)])});
    }
    if (largest < 1e-9) continue;
    if (!(worst / largest <= gradient_tolerance))
      return str("input ", i, ": gradient differs from central differences by ", worst / largest,
                 " of the largest");
  }
  return {};
}

bool has_nonzero_gradient(const OpBase& op, int sample) {
  const void* attr = op.sample_attr(sample);
  const Tensors in = sample_inputs(op, sample, DType::f64);
  const Tensors upstream = upstream_for(op, apply(op, deep_copies(in), attr), 99);
  if (floating_ones(in).empty() || !carries_gradient(upstream)) return false;
  for (const Tensor& g : analytic_gradients(op, in, attr, upstream))
    if (g)
      for (double v : g.values<double>())
        if (v != 0) return true;
  return false;
}

std::string strided_agrees(const OpBase& op, int sample) {
  const void* attr = op.sample_attr(sample);
  const Tensors in = sample_inputs(op, sample, DType::f32);
  const Tensors expected = run(op, deep_copies(in), attr);
  for (int form = 0; form < 2; ++form) {
    Tensors odd;
    for (size_t i = 0; i < in.size(); ++i) {
      const Tensor& t = in[i];
      if (!t || t.rank() == 0 || op.writes.has(static_cast<int>(i))) {
        odd.push_back(deep_copy(t));
        continue;
      }
      // form 0: column-major storage; form 1: every second element of a larger one, offset by 3.
      Shape strides = contiguous_strides(t.shape());
      if (form == 0) {
        int64_t step = 1;
        for (int d = 0; d < t.rank(); ++d) strides[d] = step, step *= t.shape()[d];
      } else {
        for (int d = 0; d < t.rank(); ++d) strides[d] *= 2;
      }
      const Tensor big = Tensor::full({2 * t.numel() + 4}, 0, t.dtype());
      const Tensor view = big.alias(t.shape(), strides, form == 0 ? 0 : 3);
      dispatch_all("strided", t.dtype(), [&]<class T>() {
        for_each_offset(t.shape(), strides,
                        [&](int64_t e, int64_t o) { view.data<T>()[o] = t.data<T>()[e]; });
      });
      odd.push_back(view);
    }
    Tensors got;
    try {
      got = run(op, odd, attr);
    } catch (const shape_error&) {
      if (!op.is_view) throw;
      continue;  // strides that no view can show; the public function copies first
    }
    for (size_t o = 0; o < expected.size(); ++o) {
      if (got[o].shape() != expected[o].shape())
        return str("result ", o, ": ", got[o], ", expected ", expected[o]);
      const double e = relative_error(got[o], expected[o]);
      if (!(e <= 2e-6))
        return str(form == 0 ? "column-major" : "gapped", " operands, result ", o,
                   ": relative error ", e);
    }
  }
  return {};
}

std::string same_bits(const OpBase& op, int sample) {
  const void* attr = op.sample_attr(sample);
  if (op.is_view) return {};
  const int before = num_threads();
  std::string wrong;
  for (int k = 0; k < op.kernel_count() && wrong.empty(); ++k) {
    if (!accepted(op, k, sample_inputs(op, sample, DType::f32), attr)) continue;
    const ForceKernel force(op.name, op.kernel_name(k));
    Tensors first;
    for (int threads = 1; threads <= 3; ++threads) {
      set_num_threads(threads);
      const Tensors got = run(op, sample_inputs(op, sample, DType::f32), attr);
      if (threads == 1) first = got;
      for (size_t o = 0; o < got.size(); ++o)
        if (std::memcmp(got[o].raw(), first[o].raw(), static_cast<size_t>(got[o].nbytes())) != 0)
          wrong = str("kernel ", op.kernel_name(k), ", result ", o, ": ", threads,
                      " threads give other bits than 1");
    }
  }
  set_num_threads(before);
  return wrong;
}

}  // namespace wattle::checks
