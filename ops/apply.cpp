// The life of a call. Every op runs through here, and nothing else calls a kernel.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/codec.h"
#include "core/counters.h"
#include "core/cuda.h"
#include "core/recorder.h"
#include "ops/coded.h"
#include "ops/ops.h"

namespace wattle {
namespace {

std::optional<Cost>& reported() {
  thread_local std::optional<Cost> r;
  return r;
}

double now_ns() {
  using namespace std::chrono;
  return static_cast<double>(
      duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

// WATTLE_KERNEL="softmax:ref,conv2d:avx2"
const char* kernel_from_environment(std::string_view op) {
  static const char* const spec = std::getenv("WATTLE_KERNEL");
  thread_local std::string name;
  for (std::string_view s = spec ? spec : ""; !s.empty();) {
    const std::string_view item = s.substr(0, s.find(','));
    const size_t colon = item.find(':');
    if (item.substr(0, colon) == op && colon != item.npos)
      return (name = item.substr(colon + 1)).c_str();
    s.remove_prefix(std::min(s.size(), item.size() + 1));
  }
  return nullptr;
}

const char* forced(const OpBase& op) {
  const ForceKernel* f = forced_kernel();
  if (f && f->op == op.name) return f->kernel.c_str();
  if (f && f->op == "*")
    for (int k = 0; k < op.kernel_count(); ++k)
      if (f->kernel == op.kernel_name(k)) return f->kernel.c_str();
  return kernel_from_environment(op.name);
}

bool tracing() {
  static const bool on =
      std::getenv("WATTLE_TRACE") && std::strstr(std::getenv("WATTLE_TRACE"), "dispatch");
  return on;
}

int pick_kernel(const OpBase& op, Ins in, const void* attr) {
  const char* const wanted = forced(op);
  std::string reasons;
  for (int k = 0; k < op.kernel_count(); ++k) {
    const char* name = op.kernel_name(k);
    if (wanted && std::strcmp(wanted, name) != 0) continue;
    const Refusal no = op.kernel_refusal(k, in, attr);
    if (tracing())
      std::fprintf(stderr, "dispatch %s:%s %s\n", op.name, name, no ? no.why.c_str() : "runs");
    if (!no) return k;
    if (wanted) throw dtype_error(str(op.name, ": kernel ", name, " refuses this call: ", no.why));
    reasons += str("\n  ", name, ": ", no.why);
  }
  if (wanted) throw value_error(str(op.name, ": has no kernel called ", wanted));
  throw dtype_error(str(op.name, ": no kernel takes this call:", reasons));
}

// How a call is executed. A call with codes tries kernels that know them before plain floats.
struct Way {
  const char* name = "view";
  int own = -1;  // kernel of the op
  const coded::CodedKernel* codes = nullptr;
  std::optional<coded::Plain> plain;  // what `own` runs on, where operands have to be decoded
  device::Function device = nullptr;

  // Nanoseconds; those of a device are 0 unless cuda::set_timing asked for them.
  double run(const OpBase& op, Ins in, Outs out, Device where, const void* attr) {
    double ns = 0;
    if (device) {
      name = plain ? plain->run(device, where, in, out, attr, &ns)
                   : cuda::detail::launch(device, op, in, out, attr, &ns);
      return ns;
    }
    const double start = now_ns();
    run_here(op, in, out, attr);
    return now_ns() - start;
  }
  void run_here(const OpBase& op, Ins in, Outs out, const void* attr) {
    if (plain) plain->run(own, in, out, attr);
    else if (codes) codes->run(in, out, attr);
    else op.kernel_run(own, in, out, attr);
  }
};

Way pick_for_codes(const OpBase& op, Ins in, std::span<const Meta> out, const void* attr) {
  const char* const wanted = forced(op);
  for (int k = 0; op.takes_codes && k < op.kernel_count(); ++k)
    if (op.kernel_takes_codes(k) && !op.kernel_refusal(k, in, attr)) return {op.kernel_name(k), k};
  const bool spikes = std::any_of(in.begin(), in.end(),
                                  [](const Tensor& t) { return t && t.dtype() == DType::spike; });
  for (const coded::CodedKernel& c : coded::kernels(op, spikes)) {
    if (wanted && std::strcmp(wanted, c.name) != 0) continue;
    const Refusal no = coded::refusal(c, in, attr);
    if (tracing())
      std::fprintf(stderr, "dispatch %s:%s %s\n", op.name, c.name, no ? no.why.c_str() : "runs");
    if (!no) return {c.name, -1, &c};
    if (wanted) throw dtype_error(str(op.name, ": kernel ", c.name, " refuses: ", no.why));
  }
  Way w;
  w.plain.emplace(op, in, out, attr);
  w.own = pick_kernel(op, w.plain->in(), attr);
  w.name = op.kernel_name(w.own);
  return w;
}

Way dispatch(const OpBase& op, Ins in, std::span<const Meta> out, Device where, const void* attr) {
  if (op.is_view) return {};
  if (where.kind == DeviceKind::cuda) {
    Way w;
    w.name = "cuda";
    w.device = cuda::detail::function(op);
    if (coded::involved(in, out) && !coded::known_on_device(op, in, out)) {
      w.codes = coded::for_device(op, attr, in);
      if (w.codes)
        if (const device::Function own = cuda::detail::backend().find_for_posits(op.name))
          w.device = own;
      if (!w.codes) w.plain.emplace(op, in, out, attr);
    }
    return w;
  }
  if (coded::involved(in, out)) return pick_for_codes(op, in, out, attr);
  const int k = pick_kernel(op, in, attr);
  return {op.kernel_name(k), k};
}

// Kernels that rely on row-major operands get them through a `contiguous` that is counted like any
// other op. An operand that is written in place has to be row-major already.
void make_contiguous(const OpBase& op, Tensors& in, Bits written) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i] || in[i].is_contiguous()) continue;
    if (written.has(static_cast<int>(i)))
      throw shape_error(str(op.name, ": operand ", static_cast<int64_t>(i), " (", in[i],
                            ") is written in place and must be contiguous"));
    in[i] = contiguous(in[i]);
  }
}

Device device_of(const OpBase& op, Ins in) {
  const Tensor* first = nullptr;
  for (const Tensor& t : in) {
    if (!t) continue;
    if (first && t.device() != first->device())
      throw device_error(
          str(op.name, ": operands are on ", first->device(), " and on ", t.device()));
    first = &t;
  }
  return first ? first->device() : default_device();
}

// Sums of spikes are no spikes, so an op has to say that it knows what it is given.
void refuse_spikes(const OpBase& op, Ins in) {
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] && in[i].dtype() == DType::spike && !op.spike_ins.has(static_cast<int>(i)) &&
        !op.takes_codes && !op.is_view)
      throw dtype_error(str(op.name, ": operand ", static_cast<int64_t>(i), " (", in[i],
                            ") holds spikes, expected numbers; convert it with cast"));
}

DType row_dtype(Ins in, std::span<const Meta> out) {
  for (const Tensor& t : in)
    if (t && is_floating(t.dtype())) return t.dtype();
  for (const Meta& m : out)
    if (is_floating(m.dtype)) return m.dtype;
  for (const Tensor& t : in)
    if (t && is_integer(t.dtype())) return t.dtype();
  return out.empty() ? DType::f32 : out[0].dtype;
}

Cost full_cost(const OpBase& op, Ins in, std::span<const Meta> out, DType dtype, const void* attr) {
  Cost c = op.cost(in, out, attr);
  if (!is_floating(dtype)) {
    c.iop += 2 * c.mac + c.add + c.mul + c.cmp + c.special;
    c.mac = c.add = c.mul = c.cmp = c.special = 0;
  }
  const Bytes b = op.bytes(in, out, attr);
  c.read = b.read;
  c.written = b.written;
  return c;
}

// What the kernel executes, and what decoding and rounding cost around it.
Cost executed_cost(const OpBase& op, const Way& way, Ins in, const Cost& declared,
                   const void* attr) {
  if (op.is_view) return declared;
  if (way.codes) return way.codes->executes ? way.codes->executes(in, declared, attr) : declared;
  if (way.device && !way.plain) return declared;
  if (!way.plain) return op.kernel_executes(way.own, in, declared, attr);
  const Ins floats = way.plain->in();
  const std::span<const Meta> out = way.plain->out();
  const Cost cost = full_cost(op, floats, out, row_dtype(floats, out), attr);
  return way.device ? cost : op.kernel_executes(way.own, floats, cost, attr);
}

Tensors allocate(const OpBase& op, Ins in, const Metas& metas, Device device, const void* attr) {
  Tensors out;
  out.reserve(metas.size());
  if (op.is_view) {
    out.push_back(coded::view(op, in[0], op.view(in[0], attr)));
  } else {
    for (const Meta& m : metas) out.push_back(Tensor::empty(m.shape, m.dtype, device));
  }
  return out;
}

void mark_written(const OpBase& op, Ins in, Bits written) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i] || !written.has(static_cast<int>(i))) continue;
    ++in[i].storage().version;
    in[i].storage().last_writer = op.name;
  }
}

}  // namespace

void report_executed(const Cost& cost) { reported() = cost; }

Tensors apply(const OpBase& op, Ins given, const void* attr) {
  Tensors held;
  Ins in = given;
  if (op.layout == Layout::contiguous && !op.is_view) {
    bool strided = false;
    for (const Tensor& t : in) strided = strided || (t && !t.is_contiguous());
    if (strided) {
      held.assign(in.begin(), in.end());
      make_contiguous(op, held, op.written(attr));
      in = held;
    }
  }
  const Device device = device_of(op, in);  // 1 one device
  refuse_spikes(op, in);
  const Metas metas = op.shape(in, attr);  // 2 shape
  const DType dtype = row_dtype(in, metas);
  const Cost cost = full_cost(op, in, metas, dtype, attr);  // 3 cost, before any byte is touched
  Tensors out = allocate(op, in, metas, device, attr);      // 4 memory
  Way way = dispatch(op, in, metas, device, attr);          // 5 dispatch
  Cost executed = executed_cost(op, way, in, cost, attr);
  double ns = 0;
  if (!op.is_view && device.kind != DeviceKind::meta) {  // 6 run
    ns = way.run(op, in, out, device, attr);
    if (reported()) {
      executed = *reported();
      reported().reset();
    }
  }
  if (way.plain) executed += way.plain->conversions();
  mark_written(op, in, op.written(attr));
#if WATTLE_COUNTERS
  Counters& c = counters();  // 7 counters
  const RowKey row{c.current, &op, way.name, dtype, c.phase};
  c.add(row, cost, executed, ns, take_rounding());
  if (way.device) cuda::detail::credit_rounding(row);
#endif
  const Call call{&op, attr, in, out, way.name, cost, executed, ns};
  for (Recorder* r = current_recorder(); r; r = r->outer()) r->record(call);  // 8 tape
  return out;
}

}  // namespace wattle
