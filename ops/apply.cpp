// The life of a call. Every op runs through here, and nothing else calls a kernel.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/counters.h"
#include "core/recorder.h"
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

int pick_kernel(const OpBase& op, Ins in, const void* attr) {
  static const bool trace =
      std::getenv("WATTLE_TRACE") && std::strstr(std::getenv("WATTLE_TRACE"), "dispatch");
  const char* const wanted = forced(op);
  std::string reasons;
  for (int k = 0; k < op.kernel_count(); ++k) {
    const char* name = op.kernel_name(k);
    if (wanted && std::strcmp(wanted, name) != 0) continue;
    const Refusal no = op.kernel_refusal(k, in, attr);
    if (trace)
      std::fprintf(stderr, "dispatch %s:%s %s\n", op.name, name, no ? no.why.c_str() : "runs");
    if (!no) return k;
    if (wanted) throw dtype_error(str(op.name, ": kernel ", name, " refuses this call: ", no.why));
    reasons += str("\n  ", name, ": ", no.why);
  }
  if (wanted) throw value_error(str(op.name, ": has no kernel called ", wanted));
  throw dtype_error(str(op.name, ": no kernel takes this call:", reasons));
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

Tensors allocate(const OpBase& op, Ins in, const Metas& metas, Device device, const void* attr) {
  Tensors out;
  out.reserve(metas.size());
  if (op.is_view) {
    const ViewSpec v = op.view(in[0], attr);
    out.push_back(in[0].alias(v.shape, v.strides, v.offset));
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
  const Metas metas = op.shape(in, attr);   // 2 shape
  const DType dtype = row_dtype(in, metas);
  const Cost cost = full_cost(op, in, metas, dtype, attr);    // 3 cost, before any byte is touched
  Tensors out = allocate(op, in, metas, device, attr);        // 4 memory
  const int k = op.is_view ? -1 : pick_kernel(op, in, attr);  // 5 dispatch
  const char* const kernel = k < 0 ? "view" : op.kernel_name(k);
  Cost executed = k < 0 ? cost : op.kernel_executes(k, in, cost, attr);
  double ns = 0;
  if (k >= 0 && device.kind != DeviceKind::meta) {  // 6 run
    const double start = now_ns();
    op.kernel_run(k, in, out, attr);
    ns = now_ns() - start;
    if (reported()) {
      executed = *reported();
      reported().reset();
    }
  }
  mark_written(op, in, op.written(attr));
#if WATTLE_COUNTERS
  Counters& c = counters();  // 7 counters
  c.add({c.current, &op, kernel, dtype, c.phase}, cost, executed, ns);
#endif
  const Call call{&op, attr, in, out, kernel, cost, executed, ns};
  for (Recorder* r = current_recorder(); r; r = r->outer()) r->record(call);  // 8 tape
  return out;
}

}  // namespace wattle
