#include "core/cuda.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "core/counters.h"
#include "core/op.h"
#include "core/recorder.h"

namespace wattle::cuda {
namespace {

namespace fs = std::filesystem;
constexpr const char* plugin_name = "libwattle_cuda13.so";

std::atomic<bool> in_use = false;
// Apart from the state, so that setting them loads nothing.
std::atomic<Math> math_mode = Math::f32;
std::atomic<bool> deterministic = true, timing = false;

struct State {
  Status status;
  const device::Backend* backend = nullptr;
  device::Live* live = nullptr;  // while a graph is captured
};

// What a call of the backend says is an error of this sentence.
void check(const char* what, const char* error) {
  if (error) throw device_error(str("cuda: ", what, ": ", error));
}

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(const device::Backend* b) : b_(b) {}
  void* allocate(int64_t bytes) override {
    void* p = b_->allocate(bytes);
    if (p || bytes == 0) return p;
    device::Memory m;
    b_->memory(&m);
    throw device_error(str("cuda: out of memory: asked for ", bytes, " bytes with ", m.live,
                           " in use and ", m.cached, " kept for reuse"));
  }
  void deallocate(void* p, int64_t bytes) override { b_->deallocate(p, bytes); }
  void copy_from_host(void* dst, const void* src, int64_t bytes) override {
    check("copy to the device", b_->copy_in(dst, src, bytes));
  }
  void copy_to_host(void* dst, const void* src, int64_t bytes) override {
    check("copy from the device", b_->copy_out(dst, src, bytes));
  }
  void fill(void* dst, int64_t count, DType t, double value) override {
    check("fill", b_->fill(dst, count, static_cast<int32_t>(t), value));
  }
  MemoryStats stats() override {
    device::Memory m;
    b_->memory(&m);
    return {m.live, m.peak, m.cached, m.allocations};
  }
  void reset_peak() override { b_->reset_peak(); }
  void release() override { b_->release_cached(); }

 private:
  const device::Backend* b_;
};

std::vector<std::string> places() {
  std::vector<std::string> out;
  if (const char* given = std::getenv("WATTLE_BACKEND_PATH"); given && *given)
    out.push_back((fs::path(given) / plugin_name).string());
  Dl_info here{};
  if (::dladdr(reinterpret_cast<const void*>(&device::max_rank), &here) && here.dli_fname) {
    std::error_code none;
    const fs::path folder = fs::weakly_canonical(here.dli_fname, none).parent_path();
    out.push_back((folder / plugin_name).string());
    for (const char* lib : {"lib/wattle", "lib/x86_64-linux-gnu/wattle"})
      out.push_back((folder.parent_path() / lib / plugin_name).string());
  }
  std::error_code none;
  const fs::path program = fs::read_symlink("/proc/self/exe", none);
  if (!none) out.push_back((program.parent_path() / plugin_name).string());
  out.push_back(plugin_name);
  return out;
}

const char* reason_name(int32_t r) {
  switch (r) {
    case device::ready: return "ready";
    case device::no_driver: return "no_driver";
    case device::driver_too_old: return "driver_too_old";
    case device::no_device: return "no_device";
    case device::no_kernel_image: return "no_kernel_image";
    case device::stub_library: return "stub_library";
    default: return "failed";
  }
}

void* open_plugin(Status& s) {
  for (const std::string& path : places()) {
    const bool file = path.find('/') != path.npos;
    if (!file || fs::exists(path)) {
      if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
        s.plugin = path;
        return library;
      }
      if (file) {  // it is there and does not load: another one would hide that
        s.reason = "failed";
        s.message = str("the plugin cannot be loaded: ", ::dlerror());
        return nullptr;
      }
    }
    s.tried.push_back(path);
  }
  s.reason = "no_plugin";
  s.message = str("the plugin ", plugin_name, " is not installed");
  return nullptr;
}

void fill_status(Status& s, const device::Probe& p) {
  s.reason = reason_name(p.reason);
  s.message = p.message;
  s.driver = p.driver;
  s.runtime = p.runtime;
  s.architectures = p.architectures;
  s.emulated = p.emulated;
}

void load(State& state) {
  Status& s = state.status;
  if (const char* off = std::getenv("WATTLE_CUDA"); off && std::strcmp(off, "OFF") == 0) {
    s.reason = "switched_off";
    s.message = "WATTLE_CUDA=OFF is set";
    return;
  }
  void* const library = open_plugin(s);
  if (!library) return;
  const auto query = reinterpret_cast<device::Query>(::dlsym(library, "wattle_backend_query"));
  device::Probe probe;
  const device::Backend* const b = query ? query(device::abi, &probe) : nullptr;
  if (!query || probe.abi_found != device::abi || (b && b->size != sizeof(device::Backend))) {
    s.reason = "wrong_plugin";
    s.message = str(s.plugin, ": has interface ", static_cast<int64_t>(probe.abi_found),
                    ", expected ", static_cast<int64_t>(device::abi));
    return;
  }
  fill_status(s, probe);
  // The table is kept without a device, too: its list of ops can then be checked.
  state.backend = b;
  if (!b || probe.reason != device::ready) return;
  for (int32_t i = 0; i < probe.devices; ++i) {
    device::Properties p;
    check("properties", b->properties(i, &p));
    s.devices.push_back({p.name, p.uuid, p.major, p.minor, p.multiprocessors, p.memory});
  }
  register_allocator(DeviceKind::cuda, new CudaAllocator(b));
  s.available = true;
}

// Never destroyed: tensors in static storage are freed after every other static object.
State& state() {
  static State* const s = [] {
    State* made = new State;
    load(*made);
    return made;
  }();
  return *s;
}

static_assert(device::f64 == static_cast<int>(DType::f64) &&
                  device::i64 == static_cast<int>(DType::i64) &&
                  device::i32 == static_cast<int>(DType::i32) &&
                  device::u8 == static_cast<int>(DType::u8) &&
                  device::boolean == static_cast<int>(DType::boolean) &&
                  device::i8 == static_cast<int>(DType::i8) &&
                  device::bf16 == static_cast<int>(DType::bf16) &&
                  device::fp16 == static_cast<int>(DType::fp16) &&
                  device::posit32 == static_cast<int>(DType::posit32) &&
                  device::e8m0 == static_cast<int>(DType::e8m0) &&
                  device::mxfp8_e4m3 == static_cast<int>(DType::mxfp8_e4m3) &&
                  device::spike == static_cast<int>(DType::spike) && device::f32 == 0,
              "core/launch.h has the numbers of core/dtype.h");

device::View view(const Tensor& t) {
  device::View v;
  if (!t) return v;
  v.data = t.raw();
  v.numel = t.numel();
  v.dtype = static_cast<int32_t>(t.dtype());
  v.rank = t.rank();
  for (int d = 0; d < t.rank(); ++d) {
    v.size[d] = t.shape()[d];
    v.stride[d] = t.strides()[d];
  }
  return v;
}

}  // namespace

const Status& status() { return state().status; }

Device device(int index) {
  const Status& s = status();
  if (!s.available) throw device_error(str("cuda: ", s.message));
  if (index < 0 || index >= static_cast<int>(s.devices.size()))
    throw device_error(str("cuda: device ", index, " found, expected one below ",
                           static_cast<int64_t>(s.devices.size())));
  check("use device", detail::backend().use_device(index));
  in_use = true;
  return {DeviceKind::cuda, static_cast<int8_t>(index)};
}

Device device_from_name(const std::string& name) {
  if (name == "cpu") return cpu;
  if (name == "meta") return meta;
  if (name == "cuda") return device(0);
  int index = -1;
  if (name.starts_with("cuda:")) try {
      index = std::stoi(name.substr(5));
    } catch (const std::exception&) { index = -1; }
  if (index < 0) throw value_error(str("device: found '", name, "', expected cpu, cuda or cuda:N"));
  return device(index);
}

void synchronize() {
  if (in_use) check("synchronize", detail::backend().synchronize());
}

std::vector<std::string> device_ops() {
  std::vector<std::string> names;
  const device::Backend* const b = state().backend;
  for (int32_t i = 0; b && b->op_name(i); ++i) names.push_back(b->op_name(i));
  return names;
}

void set_math(Math m) { math_mode = m; }
Math math() { return math_mode; }
const char* name(Math m) {
  return m == Math::f32 ? "f32" : m == Math::tf32 ? "tf32" : m == Math::bf16 ? "bf16" : "fp8";
}
Math math_from_name(const std::string& n) {
  for (Math m : {Math::f32, Math::tf32, Math::bf16, Math::fp8})
    if (n == name(m)) return m;
  throw value_error(str("math: found '", n, "', expected f32, tf32, bf16 or fp8"));
}
void set_deterministic(bool on) { deterministic = on; }
void set_timing(bool on) { timing = on; }

namespace detail {

const device::Backend& backend() { return *state().backend; }

device::Function function(const OpBase& op) {
  if (const device::Function f = backend().find(op.name)) return f;
  throw device_error(str(op.name, ": has no device code; run it on cpu"));
}

const char* launch(device::Function f, const OpBase& op, std::span<const Tensor> in,
                   std::span<const Tensor> out, const void* attr, double* ns) {
  State& s = state();
  if (in.size() > device::max_operands || out.size() > device::max_operands)
    throw device_error(str(op.name, ": ", static_cast<int64_t>(in.size()),
                           " operands found, device code takes ", device::max_operands));
  device::View ins[device::max_operands], outs[device::max_operands];
  device::Field fields[device::max_fields];
  for (size_t i = 0; i < in.size(); ++i) ins[i] = view(in[i]);
  for (size_t i = 0; i < out.size(); ++i) outs[i] = view(out[i]);
  device::Launch l;
  l.op = op.name;
  l.in = ins, l.out = outs, l.field = fields;
  l.ins = static_cast<int32_t>(in.size());
  l.outs = static_cast<int32_t>(out.size());
  l.fields = op.attr_fields(attr, fields);
  l.math = static_cast<int32_t>(math());
  l.deterministic = deterministic;
  l.live = s.live;
  const auto coded = [](const Tensor& t) { return t && is_coded(t.dtype()); };
  // What a graph replays again and again cannot be told apart.
  if (!s.live && std::any_of(out.begin(), out.end(), coded)) l.rounding = rounding_slot();
  const bool timed = timing && !s.live;
  if (timed) check(op.name, s.backend->timer_start());
  if (const char* error = f(l)) throw device_error(str(op.name, ": on cuda: ", error));
  if (timed) check(op.name, s.backend->timer_stop(ns));
  return l.kernel;
}

}  // namespace detail

struct Graph::Counted {
  Counters made;
};

std::unique_ptr<Graph> Graph::capture(const Callable<void()>& body) {
  State& s = state();
  if (s.live) throw device_error("cuda: a graph is being captured already");
  check("capture", detail::backend().capture_begin(&s.live));
  std::unique_ptr<Graph> g(new Graph);
  g->counted_ = std::make_unique<Counted>();
  // The calls of the capture are not counted now: a replay adds what one run of them costs.
  const int scope = counters().current;
  Counters before = counters();
  counters().clear();
  counters().current = 0;
  std::string failure;
  try {
    body();
  } catch (const std::exception& e) { failure = e.what(); }
  g->counted_->made = counters();
  counters() = before;
  counters().current = scope;
  s.live = nullptr;
  const char* const error = detail::backend().capture_end(&g->graph_, &g->nodes_);
  if (!failure.empty()) throw device_error(str("cuda: while a graph was captured: ", failure));
  check("capture", error);
  return g;
}

void Graph::replay(const device::Live& live, bool count) {
  check("replay", detail::backend().replay(graph_, &live));
  if (count) counters().merge(counted_->made);
}

Graph::~Graph() {
  if (graph_) detail::backend().free_graph(graph_);
}

}  // namespace wattle::cuda
