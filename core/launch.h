// What crosses the border to device code: plain structs, so that a .cu file needs no other header
// of the project and the plugin can be built by another compiler. The .cu file of an op lies beside
// it and defines WATTLE_DEVICE_OP(<name of the op>); the name is all that ties the two together.
#pragma once
#include <cstdint>

namespace wattle {
struct CastStats;  // core/rounding.h
}

namespace wattle::device {

/// Grows with every change of a struct below; a plugin of another number is refused.
constexpr uint32_t abi = 3;
constexpr int ranks_id_bytes = 128;
constexpr int max_rank = 8, max_operands = 12, max_fields = 20;

/// The element types that device code knows, under the numbers of DType.
enum Type : int32_t {
  f32 = 0,
  f64 = 1,
  i64 = 2,
  i32 = 3,
  u8 = 4,
  boolean = 5,
  i8 = 7,
  bf16 = 8,
  fp16 = 9,
  // Codes of one element each ...
  fp8_e4m3,
  fp8_e5m2,
  posit8,
  posit8_es1,
  posit8_es0,
  posit16,
  posit16_es1,
  posit32,
  // ... several to a byte ...
  fp6_e3m2,
  fp6_e2m3,
  fp4_e2m1,
  e8m0,  // (but for this one: a byte each)
  int4,
  // ... and under a scale for a block.
  mxfp8_e4m3,
  mxfp8_e5m2,
  mxfp6_e3m2,
  mxfp6_e2m3,
  mxfp4,
  mxint8,
  nvfp4,
  spike
};

/// A tensor. data is null for an optional operand that is not given.
struct View {
  void* data = nullptr;
  int64_t numel = 0;
  int32_t dtype = 0, rank = 0;
  int64_t size[max_rank] = {}, stride[max_rank] = {};  ///< strides in elements
};

/// An attribute of the call, under the name that the op's visit() gives it.
struct Field {
  const char* name = "";
  int32_t name_size = 0;
  bool given = true;            ///< false: an std::optional that is empty
  int32_t count = 0;            ///< numbers in list
  double number = 0;            ///< of numbers and truth values
  int64_t integer = 0;          ///< of integers, truth values and dtypes
  int64_t list[max_rank] = {};  ///< of Shape; of Pair height and width
  const char* text = "";
};

/// Numbers that change from one replay of a captured step to the next. They live in device memory.
struct Live {
  double lr = 0;
  int64_t step = 0;
  uint64_t random_delta = 0;  ///< added to the offset of every random op
};

/// How products of f32 numbers are computed.
enum Math : int32_t { math_f32 = 0, math_tf32 = 1, math_bf16 = 2, math_fp8 = 3 };

/// One call of an op. Outputs are allocated and row-major.
struct Launch {
  const char* op = "";
  const View* in = nullptr;
  const View* out = nullptr;
  const Field* field = nullptr;
  int32_t ins = 0, outs = 0, fields = 0;
  int32_t math = math_f32;
  bool deterministic = true;
  const Live* live = nullptr;           ///< device memory; only while a graph is captured
  CastStats* rounding = nullptr;        ///< device memory that casts to codes add to
  mutable const char* kernel = "cuda";  ///< a function may say which of its kernels ran
};

/// Null when the call was launched; otherwise why it was not (valid until the next call).
using Function = const char* (*)(const Launch&);

enum Reason : int32_t {
  ready = 0,
  no_driver,
  driver_too_old,
  no_device,
  no_kernel_image,
  stub_library,
  failed
};

struct Probe {
  uint32_t abi_found = 0;
  int32_t reason = failed, devices = 0, driver = 0, runtime = 0;
  char message[256] = {};
  char architectures[64] = {};  ///< that kernels were compiled for
  bool emulated = false;        ///< kernels run on the host: for tests of their arithmetic
};

struct Properties {
  char name[256] = {};
  char uuid[64] = {};  ///< "GPU-...", as NVML writes it
  int32_t major = 0, minor = 0, multiprocessors = 0;
  int64_t memory = 0;
};

struct Memory {
  int64_t live = 0, peak = 0, cached = 0, allocations = 0, reserved = 0;
};

/// Everything that the core asks of the plugin. Texts are errors, null = done.
struct Backend {
  uint32_t size = sizeof(Backend);
  const char* (*properties)(int32_t device, Properties*) = nullptr;
  const char* (*use_device)(int32_t device) = nullptr;
  void* (*allocate)(int64_t bytes) = nullptr;  ///< null = out of memory
  void (*deallocate)(void*, int64_t bytes) = nullptr;
  void (*memory)(Memory*) = nullptr;
  void (*reset_peak)() = nullptr;
  void (*release_cached)() = nullptr;
  const char* (*copy_in)(void* to, const void* from, int64_t bytes) = nullptr;  ///< host to device
  const char* (*copy_out)(void* to, const void* from,
                          int64_t bytes) = nullptr;  ///< and back; waits
  const char* (*copy)(void* to, const void* from, int64_t bytes) = nullptr;
  const char* (*fill)(void* to, int64_t count, int32_t dtype, double value) = nullptr;
  const char* (*synchronize)() = nullptr;
  Function (*find)(const char* op) = nullptr;             ///< null = no device code
  Function (*find_for_posits)(const char* op) = nullptr;  ///< its own code for posits; or null
  bool (*takes_halves)(const char* op) = nullptr;         ///< bf16 and fp16 as they are
  const char* (*op_name)(int32_t i) = nullptr;            ///< null past the last
  const char* (*capture_begin)(Live** live) = nullptr;
  const char* (*capture_end)(void** graph, int32_t* nodes) = nullptr;
  const char* (*replay)(void* graph, const Live*) = nullptr;
  void (*free_graph)(void* graph) = nullptr;
  const char* (*timer_start)() = nullptr;
  const char* (*timer_stop)(double* ns) = nullptr;  ///< waits
  // Ranks of several processes, a GPU each.
  const char* (*ranks_new_id)(char* id) = nullptr;  ///< ranks_id_bytes, for all to join with
  const char* (*ranks_join)(const char* id, int32_t rank, int32_t size) = nullptr;
  const char* (*ranks_gather)(const void* own, void* all, int64_t bytes) = nullptr;
  void (*ranks_leave)() = nullptr;
};

/// The plugin's only symbol: "wattle_backend_query". Fills the probe, also when there is no device.
using Query = const Backend* (*)(uint32_t abi, Probe*);

}  // namespace wattle::device
