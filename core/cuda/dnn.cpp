// cuDNN's graph API (cuDNN developer guide, "Graph API", backend descriptor types): an operation
// graph of one convolution, engine configurations by its heuristic, a plan, and the plan run on
// pointers. Plans are kept, the least recently used ones go.
#include "core/cuda/dnn.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/cuda/runtime.h"

namespace wattle::device {
namespace {

const char* text(const char* what, cudnnStatus_t s) {
  if (s == CUDNN_STATUS_SUCCESS) return nullptr;
  char more[256] = "";
  cudnnGetLastErrorString(more, sizeof more);
  return fail("cuDNN: %s: %s %s", what, cudnnGetErrorString(s), more);
}

// One backend descriptor. The first error of a chain of calls is kept; later calls do nothing.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t t) {
    error_ = text("create", cudnnBackendCreateDescriptor(t, &d_));
  }
  ~Descriptor() {
    if (d_) cudnnBackendDestroyDescriptor(d_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  const T* values, int64_t count) {
    if (!error_) error_ = text("set", cudnnBackendSetAttribute(d_, name, type, count, values));
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T value) {
    return set(name, type, &value, 1);
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& other) {
    const cudnnBackendDescriptor_t raw = other.d_;
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw, 1);
  }
  const char* finish(const char* what) {
    if (!error_) error_ = text(what, cudnnBackendFinalize(d_));
    return error_;
  }
  cudnnBackendDescriptor_t raw() const { return d_; }
  const char* error() const { return error_; }

 private:
  cudnnBackendDescriptor_t d_ = nullptr;
  const char* error_ = nullptr;
};

constexpr int64_t id_x = 'x', id_w = 'w', id_y = 'y';

struct Graph {
  Descriptor x{CUDNN_BACKEND_TENSOR_DESCRIPTOR}, w{CUDNN_BACKEND_TENSOR_DESCRIPTOR},
      y{CUDNN_BACKEND_TENSOR_DESCRIPTOR}, conv{CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR}, op,
      graph{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
  explicit Graph(cudnnBackendDescriptorType_t op_type) : op(op_type) {}
};

const char* tensor(Descriptor& d, int64_t id, const int64_t (&size)[4]) {
  const int64_t stride[4] = {size[1] * size[2] * size[3], size[2] * size[3], size[3], 1};
  return d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, size, 4)
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, stride, 4)
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, int64_t{16})
      .finish("tensor");
}

struct Names {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
};
Names names(ConvPass p) {
  if (p == ConvPass::forward)
    return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
  if (p == ConvPass::input_gradient)
    return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

const char* build(Graph& g, const Conv& c, cudnnHandle_t handle) {
  if (const char* e = tensor(g.x, id_x, {c.n, c.c, c.h, c.w})) return e;
  if (const char* e = tensor(g.w, id_w, {c.k, c.c / c.groups, c.r, c.s})) return e;
  if (const char* e = tensor(g.y, id_y, {c.n, c.k, c.ho, c.wo})) return e;
  const char* e = g.conv.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{2})
                      .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
                      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
                           CUDNN_CROSS_CORRELATION)
                      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, c.padding, 2)
                      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, c.padding, 2)
                      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, c.dilation, 2)
                      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, c.stride, 2)
                      .finish("convolution");
  if (e) return e;
  const Names n = names(c.pass);
  e = g.op.set(n.x, g.x)
          .set(n.w, g.w)
          .set(n.y, g.y)
          .set(n.conv, g.conv)
          .set(n.alpha, CUDNN_TYPE_FLOAT, 1.0f)
          .set(n.beta, CUDNN_TYPE_FLOAT, 0.0f)
          .finish("operation");
  if (e) return e;
  const cudnnBackendDescriptor_t ops[] = {g.op.raw()};
  g.graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops, 1);
  if (handle) g.graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
  return g.graph.finish("operation graph");
}

// Whether the engine of a configuration keeps what the call asks for.
bool acceptable(const Descriptor& config, const Conv& c) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.raw();
  int64_t found = 0;
  if (cudnnBackendGetAttribute(config.raw(), CUDNN_ATTR_ENGINECFG_ENGINE,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &found,
                               &raw) != CUDNN_STATUS_SUCCESS)
    return false;
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  if (cudnnBackendGetAttribute(raw, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                               CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &found,
                               notes) != CUDNN_STATUS_SUCCESS)
    return false;
  for (int64_t i = 0; i < found; ++i) {
    if (c.deterministic && notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
    const bool coarse = notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                        notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                        notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    // In f32 tensor cores mean TF32 operands. Winograd's transforms lose digits as well.
    if (c.math == math_f32 && (coarse || notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 ||
                               notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13))
      return false;
  }
  return true;
}

struct Plan {
  std::unique_ptr<Descriptor> config, plan;
  int64_t workspace = 0;
};

struct Dnn {
  cudnnHandle_t handle = nullptr;
  struct Entry {
    std::string key;
    Plan plan;
  };
  std::list<Entry> entries;  // most recently used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key;
};
Dnn& dnn() {
  static Dnn* const d = new Dnn;
  return *d;
}
constexpr size_t most_plans = 256;

const char* run_plan(const Plan& p, const void* x, const void* w, const void* y) {
  void* const workspace = p.workspace > 0 ? allocate(p.workspace) : nullptr;
  if (p.workspace > 0 && !workspace)
    return fail("out of memory for a workspace of %lld bytes", static_cast<long long>(p.workspace));
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const void* const pointers[] = {x, w, y};
  const int64_t ids[] = {id_x, id_w, id_y};
  const void* const held[] = {workspace};
  const char* e = pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers, 3)
                      .set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids, 3)
                      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, held, 1)
                      .finish("variant pack");
  if (!e) e = text("execute", cudnnBackendExecute(dnn().handle, p.plan->raw(), pack.raw()));
  if (workspace) deallocate(workspace, p.workspace);
  return e;
}

bool make_plan(std::unique_ptr<Descriptor> config, Plan* out) {
  auto plan = std::make_unique<Descriptor>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan->set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, dnn().handle)
      .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, *config);
  if (plan->finish("plan")) return false;  // the heuristic may name what this GPU lacks
  int64_t bytes = 0, found = 0;
  if (cudnnBackendGetAttribute(plan->raw(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                               CUDNN_TYPE_INT64, 1, &found, &bytes) != CUDNN_STATUS_SUCCESS)
    return false;
  if (bytes > (int64_t{1} << 30)) return false;
  *out = {std::move(config), std::move(plan), bytes};
  return true;
}

// Plans in the order of a heuristic.
void collect(const Graph& g, const Conv& c, cudnnBackendHeurMode_t mode, size_t most,
             std::vector<Plan>* plans) {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g.graph)
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (heuristic.finish("heuristic")) return;
  int64_t count = 0;
  if (cudnnBackendGetAttribute(heuristic.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                               nullptr) != CUDNN_STATUS_SUCCESS)
    return;
  std::vector<std::unique_ptr<Descriptor>> configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) {
    configs.push_back(std::make_unique<Descriptor>(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    raw.push_back(configs.back()->raw());
  }
  if (cudnnBackendGetAttribute(heuristic.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                               raw.data()) != CUDNN_STATUS_SUCCESS)
    return;
  for (int64_t i = 0; i < count && plans->size() < most; ++i) {
    Plan p;
    if (acceptable(*configs[static_cast<size_t>(i)], c) &&
        make_plan(std::move(configs[static_cast<size_t>(i)]), &p))
      plans->push_back(std::move(p));
  }
}

// The fastest of the plans on these tensors, by events; the first one where it cannot be measured.
size_t fastest(const std::vector<Plan>& plans, const void* x, const void* w, const void* y) {
  cudaEvent_t start = nullptr, stop = nullptr;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  size_t best = 0;
  float least = 1e30f;
  for (size_t i = 0; i < plans.size(); ++i) {
    if (run_plan(plans[i], x, w, y)) continue;
    float shortest = 1e30f;
    for (int repeat = 0; repeat < 3; ++repeat) {
      float ms = 0;
      cudaEventRecord(start, stream());
      if (run_plan(plans[i], x, w, y)) break;
      cudaEventRecord(stop, stream());
      cudaEventSynchronize(stop);
      if (cudaEventElapsedTime(&ms, start, stop) == cudaSuccess && ms < shortest) shortest = ms;
    }
    if (shortest < least) least = shortest, best = i;
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  return best;
}

const char* new_plan(const Conv& c, const void* x, const void* w, const void* y, Plan* out) {
  Dnn& s = dnn();
  Graph g(names(c.pass).type);
  if (const char* e = build(g, c, s.handle)) return e;
  // Measuring picks other kernels from day to day; same bits every time need the heuristic's
  // choice.
  const bool measure = !c.deterministic && !capturing();
  std::vector<Plan> plans;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    if (plans.empty() || (measure && plans.size() < 4))
      collect(g, c, mode, measure ? 24 : 1, &plans);
  if (plans.empty())
    return fail("cuDNN has no engine for x [%lld,%lld,%lld,%lld], w [%lld,%lld,%lld,%lld]",
                static_cast<long long>(c.n), static_cast<long long>(c.c),
                static_cast<long long>(c.h), static_cast<long long>(c.w),
                static_cast<long long>(c.k), static_cast<long long>(c.c / c.groups),
                static_cast<long long>(c.r), static_cast<long long>(c.s));
  *out = std::move(plans[measure && plans.size() > 1 ? fastest(plans, x, w, y) : 0]);
  return nullptr;
}

}  // namespace

const char* dnn_describe(const Conv& c) {
  Graph g(names(c.pass).type);
  return build(g, c, nullptr);
}

const char* dnn_run(const Conv& c, const void* x, const void* w, const void* y) {
  Dnn& s = dnn();
  if (!s.handle) {
    if (const char* e = text("create", cudnnCreate(&s.handle))) return e;
    if (const char* e = text("stream", cudnnSetStream(s.handle, stream()))) return e;
  }
  const int64_t numbers[] = {c.n,
                             c.c,
                             c.h,
                             c.w,
                             c.k,
                             c.r,
                             c.s,
                             c.ho,
                             c.wo,
                             c.stride[0],
                             c.stride[1],
                             c.padding[0],
                             c.padding[1],
                             c.dilation[0],
                             c.dilation[1],
                             c.groups,
                             static_cast<int64_t>(c.pass),
                             c.math,
                             c.deterministic};
  const std::string key(reinterpret_cast<const char*>(numbers), sizeof numbers);
  if (const auto it = s.by_key.find(key); it != s.by_key.end()) {
    s.entries.splice(s.entries.begin(), s.entries, it->second);
  } else {
    Plan p;
    if (const char* e = new_plan(c, x, w, y, &p)) return e;
    s.entries.push_front({key, std::move(p)});
    s.by_key[key] = s.entries.begin();
    if (s.entries.size() > most_plans) {
      s.by_key.erase(s.entries.back().key);
      s.entries.pop_back();
    }
  }
  return run_plan(s.entries.front().plan, x, w, y);
}

}  // namespace wattle::device

// For tests on machines without a device: x [n,c,h,w], w [k,c/groups,r,s], y [n,k,ho,wo], then
// stride, padding, dilation, groups and the pass. Null = cuDNN accepts the operation graph.
extern "C" __attribute__((visibility("default"))) const char* wattle_check_convolution(
    const int64_t* v) {
  using namespace wattle::device;
  const Conv c{v[0],           v[1],
               v[2],           v[3],
               v[4],           v[5],
               v[6],           v[7],
               v[8],           {v[9], v[9]},
               {v[10], v[10]}, {v[11], v[11]},
               v[12],          static_cast<ConvPass>(v[13])};
  return dnn_describe(c);
}
