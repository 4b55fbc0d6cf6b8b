// The plugin's frame: memory, copies, one stream, captured graphs, the list of ops.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <iterator>

#include "core/cuda/each.cuh"
#include "core/cuda/state.h"

namespace wattle::device {

State& state() {
  static State* const s = new State;
  return *s;
}

const char* text(cudaError_t e) {
  return e == cudaSuccess ? nullptr : fail("%s (%s)", cudaGetErrorString(e), cudaGetErrorName(e));
}

namespace {

// Eight classes per power of two, as on the host; at least 512 bytes.
int64_t size_class(int64_t bytes) {
  if (bytes <= 512) return 512;
  const int log2 = 63 - __builtin_clzll(static_cast<unsigned long long>(bytes));
  const int64_t step = log2 > 12 ? int64_t{1} << (log2 - 3) : 512;
  return (bytes + step - 1) / step * step;
}

void* fresh(int64_t size) {
  void* p = nullptr;
  if (state().emulated) return std::aligned_alloc(64, static_cast<size_t>(size));
  if (cudaMalloc(&p, static_cast<size_t>(size)) == cudaSuccess) return p;
  cudaGetLastError();  // an error that is dealt with must not come back later
  return nullptr;
}
void destroy(void* p) {
  if (state().emulated) std::free(p);
  else cudaFree(p);
}

const char* synchronize();

void release_cached() {
  State& s = state();
  synchronize();
  const std::lock_guard lock(s.mutex);
  for (auto& [size, blocks] : s.pool.free)
    for (void* p : blocks) {
      destroy(p);
      s.stats.cached -= size;
      s.stats.reserved -= size;
    }
  s.pool.free.clear();
}

void memory(Memory* m) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  *m = {s.stats.live, s.stats.peak, s.stats.cached, s.stats.allocations, s.stats.reserved};
}
void reset_peak() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.stats.peak = s.stats.live;
}

const char* copy_bytes(void* to, const void* from, int64_t n, cudaMemcpyKind kind, bool wait) {
  State& s = state();
  if (n == 0) return nullptr;
  if (const char* e = flush_pending()) return e;
  if (s.emulated) {
    std::memcpy(to, from, static_cast<size_t>(n));
    return nullptr;
  }
  if (s.capturing && kind != cudaMemcpyDeviceToDevice)
    return fail("a copy between host and device cannot be captured in a graph");
  if (const char* e = text(cudaMemcpyAsync(to, from, static_cast<size_t>(n), kind, s.stream)))
    return e;
  return wait ? text(cudaStreamSynchronize(s.stream)) : nullptr;
}
// The next piece of staging memory, when its last copy is done; null where there is none to be had.
Staging* free_staging() {
  State& s = state();
  Staging& next = s.staging[s.next_staging];
  if (!next.read && cudaEventCreateWithFlags(&next.read, cudaEventDisableTiming) != cudaSuccess)
    next.read = nullptr;
  if (!next.memory &&
      cudaHostAlloc(&next.memory, Staging::bytes, cudaHostAllocDefault) != cudaSuccess)
    next.memory = nullptr;
  if (!next.read || !next.memory) {
    cudaGetLastError();  // an error that is dealt with must not come back later
    return nullptr;
  }
  s.next_staging = (s.next_staging + 1) % static_cast<int>(std::size(s.staging));
  return cudaEventSynchronize(next.read) == cudaSuccess ? &next : nullptr;
}

const char* copy_in(void* to, const void* from, int64_t n) {
  State& s = state();
  if (s.emulated || s.capturing || n == 0)
    return copy_bytes(to, from, n, cudaMemcpyHostToDevice, false);
  const std::lock_guard one_at_a_time(s.staging_mutex);
  for (int64_t at = 0; at < n; at += Staging::bytes) {
    const int64_t part = std::min(Staging::bytes, n - at);
    const char* source = static_cast<const char*>(from) + at;
    Staging* const staging = free_staging();
    if (staging) {
      std::memcpy(staging->memory, source, static_cast<size_t>(part));
      source = static_cast<const char*>(staging->memory);
    }
    const char* e =
        copy_bytes(static_cast<char*>(to) + at, source, part, cudaMemcpyHostToDevice, false);
    if (!e && staging) e = text(cudaEventRecord(staging->read, s.stream));
    if (e) return e;
  }
  return nullptr;
}
const char* copy(void* to, const void* from, int64_t n) {
  return copy_bytes(to, from, n, cudaMemcpyDeviceToDevice, false);
}

template <class T>
struct Fill {
  T* y;
  T value;
  WATTLE_HD void operator()(int64_t i) const { y[i] = value; }
};
const char* fill(void* to, int64_t n, int32_t dtype, double value) {
  Launch l;
  if (const char* e = flush_pending()) return e;
  return any_type(l, dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return each(n, Fill<T>{static_cast<T*>(to), static_cast<T>(value)});
  });
}

const char* synchronize() {
  if (const char* e = flush_pending()) return e;
  return state().emulated ? nullptr : text(cudaStreamSynchronize(state().stream));
}

// ---- Graphs ----

__global__ void set_live(Live* to, Live value) { *to = value; }

void free_graph(void* graph) {
  Graph* const g = static_cast<Graph*>(graph);
  if (!g) return;
  State& s = state();
  synchronize();
  if (g->exec) cudaGraphExecDestroy(g->exec);
  if (g->graph) cudaGraphDestroy(g->graph);
  const std::lock_guard lock(s.mutex);
  // Tensors made in the capture may outlive the graph; their blocks then go to the common lists.
  for (auto& [p, size] : g->pool.owned) s.owner.erase(p);
  for (auto& [size, blocks] : g->pool.free)
    for (void* p : blocks) s.pool.free[size].push_back(p);
  delete g;
}

const char* capture_begin(Live** live) {
  State& s = state();
  if (s.emulated) return fail("graphs need a device");
  if (const char* e = synchronize()) return e;
  auto* g = new Graph;
  g->live = static_cast<Live*>(allocate(sizeof(Live)));
  s.capturing = g;
  *live = g->live;
  const cudaError_t e = cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeRelaxed);
  if (e == cudaSuccess) return nullptr;
  s.capturing = nullptr;
  free_graph(g);
  return text(e);
}

const char* capture_end(void** graph, int32_t* nodes) {
  State& s = state();
  Graph* const g = s.capturing;
  const char* const left = flush_pending();
  s.capturing = nullptr;
  *graph = g;
  if (left) return left;
  if (const char* e = text(cudaStreamEndCapture(s.stream, &g->graph))) return e;
  size_t n = 0;
  if (const char* e = text(cudaGraphGetNodes(g->graph, nullptr, &n))) return e;
  *nodes = static_cast<int32_t>(n);
  return text(cudaGraphInstantiate(&g->exec, g->graph, 0));
}

const char* replay(void* graph, const Live* live) {
  Graph* const g = static_cast<Graph*>(graph);
  if (const char* e = flush_pending()) return e;
  set_live<<<1, 1, 0, state().stream>>>(g->live, *live);
  if (const char* e = launched()) return e;
  return text(cudaGraphLaunch(g->exec, state().stream));
}

// ---- Timing ----

const char* timer_start() {
  State& s = state();
  return s.emulated ? nullptr : text(cudaEventRecord(s.start, s.stream));
}
const char* timer_stop(double* ns) {
  State& s = state();
  *ns = 0;
  if (const char* e = flush_pending()) return e;
  if (s.emulated) return nullptr;
  if (const char* e = text(cudaEventRecord(s.stop, s.stream))) return e;
  if (const char* e = text(cudaEventSynchronize(s.stop))) return e;
  float ms = 0;
  const char* e = text(cudaEventElapsedTime(&ms, s.start, s.stop));
  *ns = static_cast<double>(ms) * 1e6;
  return e;
}

const Registration* registration(const char* op, bool posits = false) {
  for (const Registration* r = state().ops; r; r = r->next)
    if (r->posits == posits && !std::strcmp(r->op, op)) return r;
  return nullptr;
}
Function find_for_posits(const char* op) {
  const Registration* const r = registration(op, true);
  return r ? r->f : nullptr;
}
Function find(const char* op) {
  const Registration* const r = registration(op);
  return r ? r->f : nullptr;
}
bool takes_halves(const char* op) {
  const Registration* const r = registration(op);
  return r && r->halves;
}
const char* op_name(int32_t i) {
  for (const Registration* r = state().ops; r; r = r->next)
    if (!r->posits && i-- == 0) return r->op;
  return nullptr;
}

}  // namespace

cudaStream_t stream() { return state().stream; }
bool emulated() { return state().emulated; }
const char* flush_pending() { return state().flush ? state().flush() : nullptr; }
void set_flush(const char* (*flush)()) { state().flush = flush; }
void set_codes_cast(Function cast) { state().codes_cast = cast; }
const char* cast_codes(const Launch& l) {
  return state().codes_cast ? state().codes_cast(l) : fail("casts of codes are not built in");
}
void set_exact_product(ExactFunction f) { state().exact_product = f; }
const char* exact_product(const Launch& l, const ExactProduct& p) {
  return state().exact_product ? state().exact_product(l, p)
                               : fail("products of codes are not built in");
}
void set_fp8_product(Fp8Function f) { state().fp8_product = f; }
const char* fp8_product(const Launch& l, const Gemm& g) {
  return state().fp8_product ? state().fp8_product(l, g)
                             : fail("products of fp8 are not built in");
}
bool capturing() { return state().capturing != nullptr; }
void* allocate_forever(int64_t bytes) { return fresh(bytes); }

const char* fail(const char* format, ...) {
  thread_local char buffer[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  return buffer;
}

const char* launched() { return text(cudaGetLastError()); }

const char* copy_out(void* to, const void* from, int64_t n) {
  return copy_bytes(to, from, n, cudaMemcpyDeviceToHost, true);
}

void* allocate(int64_t bytes) {
  State& s = state();
  const int64_t size = size_class(bytes);
  // What waits to be launched may read a block that is free already; kernels go behind it, so a
  // fill has to.
  if (s.poison) flush_pending();
  const std::lock_guard lock(s.mutex);
  Pool& pool = s.capturing ? s.capturing->pool : s.pool;
  void* p = nullptr;
  if (auto& blocks = pool.free[size]; !blocks.empty()) {
    p = blocks.back();
    blocks.pop_back();
    s.stats.cached -= size;
  } else {
    p = fresh(size);
    if (!p) return nullptr;
    s.stats.reserved += size;
    if (s.capturing) {
      pool.owned.push_back({p, size});
      s.owner[p] = &pool;
    }
  }
  s.stats.live += bytes;
  s.stats.peak = std::max(s.stats.peak, s.stats.live);
  ++s.stats.allocations;
  if (s.poison) {  // not-a-number in every element that a kernel leaves out
    if (s.emulated) std::memset(p, 0xff, static_cast<size_t>(size));
    else cudaMemsetAsync(p, 0xff, static_cast<size_t>(size), s.stream);
  }
  return p;
}

void deallocate(void* p, int64_t bytes) {
  State& s = state();
  const int64_t size = size_class(bytes);
  const std::lock_guard lock(s.mutex);
  const auto owner = s.owner.find(p);
  Pool* pool = owner != s.owner.end() ? owner->second : &s.pool;
  if (s.capturing && pool == &s.pool) {
    // The graph may use the block again, so from now on it is the graph's.
    pool = &s.capturing->pool;
    pool->owned.push_back({p, size});
    s.owner[p] = pool;
  }
  pool->free[size].push_back(p);
  s.stats.live -= bytes;
  s.stats.cached += size;
}

Registration::Registration(const char* o, Function f, bool h, bool p)
    : op(o), f(f), halves(h), posits(p), next(state().ops) {
  state().ops = this;
}

}  // namespace wattle::device

extern "C" __attribute__((visibility("default"))) const wattle::device::Backend*
wattle_backend_query(uint32_t, wattle::device::Probe* out) {
  using namespace wattle::device;
  static Backend b;
  b.properties = properties, b.use_device = use_device;
  b.allocate = allocate, b.deallocate = deallocate;
  b.memory = memory, b.reset_peak = reset_peak, b.release_cached = release_cached;
  b.copy_in = copy_in, b.copy_out = copy_out, b.copy = copy, b.fill = fill;
  b.synchronize = synchronize, b.find = find, b.find_for_posits = find_for_posits,
  b.takes_halves = takes_halves, b.op_name = op_name;
  b.capture_begin = capture_begin, b.capture_end = capture_end;
  b.replay = replay, b.free_graph = free_graph;
  b.timer_start = timer_start, b.timer_stop = timer_stop;
  b.ranks_new_id = ranks_new_id, b.ranks_join = ranks_join;
  b.ranks_gather = ranks_gather, b.ranks_leave = ranks_leave;
  probe(out);
  return &b;
}
