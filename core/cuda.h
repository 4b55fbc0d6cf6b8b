// NVIDIA GPUs: a plugin that is loaded when it is first asked for (libwattle_cuda13.so). Nothing
// here needs CUDA to build or to start.
//
//   if (!cuda::status().available) puts(cuda::status().message.c_str());
//   Tensor x = Tensor::ones({4}).to(cuda::device());
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/callable.h"
#include "core/device.h"
#include "core/launch.h"
#include "core/ranks.h"
#include "core/tensor.h"

namespace wattle {
class OpBase;
struct RowKey;
}  // namespace wattle

namespace wattle::cuda {

struct DeviceInfo {
  std::string name, uuid;
  int major = 0, minor = 0, multiprocessors = 0;
  int64_t memory = 0;  ///< bytes
};

/// What was found when the plugin was looked for.
struct Status {
  bool available = false;
  /// ready, no_plugin, wrong_plugin, switched_off, no_driver, driver_too_old, no_device,
  /// no_kernel_image, stub_library or failed.
  std::string reason;
  std::string message;             ///< one sentence
  std::string plugin;              ///< path of what was loaded
  std::vector<std::string> tried;  ///< paths where no plugin lies
  int driver = 0, runtime = 0;     ///< 13000 = 13.0; 0 = none
  std::string architectures;
  bool emulated = false;  ///< WATTLE_CUDA_EMULATE=1: kernels run on the host, for tests
  std::vector<DeviceInfo> devices;
};

/// Loads the plugin at the first call. Order: $WATTLE_BACKEND_PATH (a folder), the folder of this
/// program or library, its ../lib/wattle, then the system's search. WATTLE_CUDA=OFF in the
/// environment switches it off.
const Status& status();
/// Throws device_error with status().message when there is none.
Device device(int index = 0);
/// "cpu", "meta", "cuda" or "cuda:1"; throws value_error or device_error.
Device device_from_name(const std::string& name);
/// Waits until everything that was launched has run. Does nothing, and loads nothing, where no
/// device() has been asked for.
void synchronize();

/// Names of the ops that the loaded plugin has code for; empty without one.
std::vector<std::string> device_ops();

enum class Math : int32_t {
  f32 = device::math_f32,
  tf32 = device::math_tf32,
  bf16 = device::math_bf16,
  fp8 = device::math_fp8
};
/// How products of f32 tensors are computed from now on; strict f32 unless asked for. fp8: operands
/// become E4M3 under a scale of their own, which puts their largest number at 448; convolutions then
/// run in tf32.
void set_math(Math m);
Math math();
const char* name(Math m);
Math math_from_name(const std::string& name);
/// Only kernels whose results are the same bits every time; on unless switched off.
void set_deterministic(bool on);
/// Every op waits and is timed by events; off by default, as it costs what asynchrony gains.
void set_timing(bool on);

/// A sequence of ops that is launched as one: captured once, replayed any number of times.
class Graph {
 public:
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  /// Records what `body` launches, without running it. Tensors that it makes stay at their
  /// addresses for as long as the graph lives; what it counts is counted by replay().
  static std::unique_ptr<Graph> capture(const Callable<void()>& body);
  /// Runs it with these numbers in place of those that were captured. Asynchronous. `count` false
  /// leaves the counters alone: for measuring what counting costs.
  void replay(const device::Live& live, bool count = true);
  int nodes() const { return nodes_; }

 private:
  Graph() = default;
  struct Counted;
  std::unique_ptr<Counted> counted_;
  void* graph_ = nullptr;
  int nodes_ = 0;
};

/// What all ranks join with; one rank asks for it and hands it to the others.
using RanksId = std::array<char, device::ranks_id_bytes>;
RanksId new_ranks_id();
/// This process as rank `rank` of `size`, with the GPU in use: NCCL. Waits for the others. Sums of
/// tensors are ops' all_reduce; rows are not exchanged. Throws device_error, also where NCCL is
/// missing.
std::shared_ptr<Group> join_ranks(const RanksId& id, int rank, int size);

namespace detail {
/// Device code of an op; throws device_error when there is none.
device::Function function(const OpBase& op);
/// Launches a call; returns the kernel's name. ns is 0 unless timing is on.
const char* launch(device::Function f, const OpBase& op, std::span<const Tensor> in,
                   std::span<const Tensor> out, const void* attr, double* ns);
const device::Backend& backend();
/// Device memory for what a cast of the running call does to its numbers.
CastStats* rounding_slot();
/// The slots of the call that has been counted belong to this row.
void credit_rounding(const RowKey& key);
}  // namespace detail

}  // namespace wattle::cuda
