// A stand-in for NVIDIA's libnccl.so.2 on host memory, for tests without GPUs: point WATTLE_NCCL at
// it. Ranks are processes of one host that meet in a file of shared memory named by the id; sums
// are made in the order of the ranks. WATTLE_FAKE_NCCL_FAILS=FUNCTION lets ncclFUNCTION return an
// error.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int most_ranks = 8;
constexpr size_t room = size_t{16} << 20;  // of a rank

struct Shared {
  std::atomic<int64_t> arrived;
};
struct Id {
  char bytes[128];
};
struct Comm {
  int rank = 0, size = 1;
  int64_t round = 0;
  char name[128] = {};
  Shared* shared = nullptr;
  char* slot(int r) const {
    return reinterpret_cast<char*>(shared) + 4096 + room * static_cast<size_t>(r);
  }
};

bool fails(const char* function) {
  const char* const f = std::getenv("WATTLE_FAKE_NCCL_FAILS");
  return f && !std::strcmp(f, function);
}

void barrier(Comm* c) {
  const int64_t all = c->size * ++c->round;
  ++c->shared->arrived;
  while (c->shared->arrived.load() < all) usleep(50);
}

template <class T>
void sum(Comm* c, const void* send, void* recv, size_t n) {
  std::memcpy(c->slot(c->rank), send, n * sizeof(T));
  barrier(c);
  std::vector<T> total(n, T(0));
  for (int r = 0; r < c->size; ++r)
    for (size_t i = 0; i < n; ++i) total[i] += reinterpret_cast<const T*>(c->slot(r))[i];
  barrier(c);
  std::memcpy(recv, total.data(), n * sizeof(T));
}

}  // namespace

extern "C" {

int ncclGetUniqueId(Id* id) {
  if (fails("GetUniqueId")) return 2;
  std::memset(id->bytes, 0, sizeof id->bytes);
  std::snprintf(id->bytes, sizeof id->bytes, "/wattle-fake-nccl-%d", static_cast<int>(getpid()));
  return 0;
}

int ncclCommInitRank(void** out, int size, Id id, int rank) {
  if (fails("CommInitRank") || size > most_ranks) return 5;
  auto* c = new Comm;
  c->rank = rank, c->size = size;
  std::memcpy(c->name, id.bytes, sizeof c->name);
  const size_t bytes = 4096 + room * most_ranks;
  const int fd = shm_open(c->name, O_CREAT | O_RDWR, 0600);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) return 2;
  void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (p == MAP_FAILED) return 2;
  c->shared = static_cast<Shared*>(p);
  barrier(c);
  if (rank == 0) shm_unlink(c->name);  // everyone has it open
  *out = c;
  return 0;
}

int ncclAllReduce(const void* send, void* recv, size_t n, int type, int, void* comm, void*) {
  if (fails("AllReduce")) return 1;
  auto* const c = static_cast<Comm*>(comm);
  if (n * 8 > room) return 4;
  if (type == 7) sum<float>(c, send, recv, n);
  else if (type == 8) sum<double>(c, send, recv, n);
  else return 4;
  return 0;
}

int ncclAllGather(const void* send, void* recv, size_t n, int, void* comm, void*) {
  auto* const c = static_cast<Comm*>(comm);
  if (n > room) return 4;
  std::memcpy(c->slot(c->rank), send, n);
  barrier(c);
  for (int r = 0; r < c->size; ++r)
    std::memcpy(static_cast<char*>(recv) + n * static_cast<size_t>(r), c->slot(r), n);
  barrier(c);
  return 0;
}

int ncclCommDestroy(void* comm) {
  delete static_cast<Comm*>(comm);
  return 0;
}

const char* ncclGetErrorString(int code) {
  return code == 1   ? "unhandled cuda error"
         : code == 2 ? "unhandled system error"
                     : "invalid usage";
}
}
