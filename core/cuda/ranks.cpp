// Several GPUs, a process each, by NCCL: opened when ranks are first asked for, so that a machine
// with one GPU needs no NCCL. Its functions are declared here, as of NCCL 2 (nccl.h): types are
// plain numbers there, and a fake in the tests stands in for it on machines without a GPU.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "core/cuda/runtime.h"

namespace wattle::device {
namespace {

struct UniqueId {
  char bytes[ranks_id_bytes];
};
using Comm = void*;
enum DataType : int { nccl_int8 = 0, nccl_f32 = 7, nccl_f64 = 8 };
constexpr int nccl_sum = 0, nccl_in_progress = 7;

struct Nccl {
  int (*get_unique_id)(UniqueId*) = nullptr;
  int (*comm_init_rank)(Comm*, int, UniqueId, int) = nullptr;
  int (*all_reduce)(const void*, void*, size_t, int, int, Comm, cudaStream_t) = nullptr;
  int (*all_gather)(const void*, void*, size_t, int, Comm, cudaStream_t) = nullptr;
  int (*comm_destroy)(Comm) = nullptr;
  const char* (*error_string)(int) = nullptr;
  const char* missing = nullptr;
};

const Nccl& nccl() {
  static const Nccl made = [] {
    Nccl n;
    const char* const given = std::getenv("WATTLE_NCCL");
    const char* const name = given && *given ? given : "libnccl.so.2";
    void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      n.missing = dlerror();
      return n;
    }
    const auto find = [&](auto& f, const char* symbol) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, symbol));
      if (!f) n.missing = symbol;
    };
    find(n.get_unique_id, "ncclGetUniqueId");
    find(n.comm_init_rank, "ncclCommInitRank");
    find(n.all_reduce, "ncclAllReduce");
    find(n.all_gather, "ncclAllGather");
    find(n.comm_destroy, "ncclCommDestroy");
    find(n.error_string, "ncclGetErrorString");
    return n;
  }();
  return made;
}

const char* absent() {
  return nccl().missing
             ? fail("NCCL 2 cannot be used: %s (WATTLE_NCCL names the library)", nccl().missing)
             : nullptr;
}
const char* text(const char* what, int result) {
  return result == 0 || result == nccl_in_progress
             ? nullptr
             : fail("%s: NCCL says: %s", what, nccl().error_string(result));
}

Comm comm = nullptr;  // of this process

}  // namespace

const char* ranks_new_id(char* id) {
  if (const char* const e = absent()) return e;
  return text("a new id", nccl().get_unique_id(reinterpret_cast<UniqueId*>(id)));
}

const char* ranks_join(const char* id, int32_t rank, int32_t size) {
  if (const char* const e = absent()) return e;
  if (comm) return fail("this process is a rank already");
  UniqueId bytes;
  std::memcpy(bytes.bytes, id, sizeof bytes.bytes);
  return text("joining the ranks", nccl().comm_init_rank(&comm, size, bytes, rank));
}

const char* ranks_sum(void* data, int64_t n, int32_t dtype) {
  if (!comm || n == 0) return nullptr;
  if (dtype != f32 && dtype != f64)
    return fail("dtype number %d found, ranks sum f32 and f64", dtype);
  return text("a sum over ranks",
              nccl().all_reduce(data, data, static_cast<size_t>(n),
                                dtype == f32 ? nccl_f32 : nccl_f64, nccl_sum, comm, stream()));
}

const char* ranks_gather(const void* own, void* all, int64_t bytes) {
  if (!comm) return fail("this process is no rank");
  return text("a concatenation over ranks",
              nccl().all_gather(own, all, static_cast<size_t>(bytes), nccl_int8, comm, stream()));
}

void ranks_leave() {
  if (comm) nccl().comm_destroy(comm);
  comm = nullptr;
}

}  // namespace wattle::device
