// The plugin's state, shared by the files of its frame.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/launch.h"

namespace wattle::device {

struct Registration;

struct Stats {
  int64_t live = 0, peak = 0, cached = 0, allocations = 0, reserved = 0;
};

// Freed blocks by size class. Work is ordered by the one stream, so a block can be used again at
// once. While a graph is captured, blocks come from the graph's own lists and stay with it.
struct Pool {
  std::unordered_map<int64_t, std::vector<void*>> free;
  std::vector<std::pair<void*, int64_t>> owned;  // of a graph: everything, free or not
};

struct Graph {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Pool pool;
  Live* live = nullptr;
};

// Pages that the bus reads by itself. A copy from any other memory waits for all work in the stream
// first; from here it is queued like a kernel.
struct Staging {
  static constexpr int64_t bytes = int64_t{1} << 22;
  void* memory = nullptr;
  cudaEvent_t read = nullptr;  // the last copy out of it
};

struct State {
  std::mutex mutex;
  bool emulated = false;
  bool poison = std::getenv("WATTLE_CUDA_POISON") != nullptr;  // for tests
  int device = 0;
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr, stop = nullptr;
  Pool pool;
  std::unordered_map<void*, Pool*> owner;  // of blocks that belong to a graph
  Graph* capturing = nullptr;
  Stats stats;
  Registration* ops = nullptr;
  const char* (*flush)() = nullptr;
  Function codes_cast = nullptr;
  ExactFunction exact_product = nullptr;
  Fp8Function fp8_product = nullptr;
  std::mutex staging_mutex;
  Staging staging[4];
  int next_staging = 0;
};
State& state();

/// Null, or what a call of CUDA went wrong with.
const char* text(cudaError_t e);
const char* properties(int32_t device, Properties* out);
const char* use_device(int32_t device);
/// What devices there are, or why there is none.
void probe(Probe* p);

}  // namespace wattle::device
