// Ranks that train one model together: processes, each with a share of every batch, or of the
// experts of a mixture.
#pragma once
#include <array>
#include <cstdint>
#include <memory>

namespace wattle {

/// What a rank can do with the others. Every call is collective. Implementations: one process alone
/// (the default), MPI as a plugin (moe/plugin/mpi_group.cpp), NCCL for a GPU each (core/cuda.h).
class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// Rows of `width` elements of `bytes` bytes: send_rows[r] rows go to rank r, recv_rows[r] come
  /// from it, both in the order of the ranks.
  virtual void all_to_all(const void* send, const int64_t* send_rows, void* recv,
                          const int64_t* recv_rows, int64_t width, int64_t bytes);
  /// Concatenation of every rank's n numbers.
  virtual void all_gather(const int64_t* send, int64_t n, int64_t* recv);
  /// Sums in place, in an order that does not depend on time. Tensors: ops' all_reduce.
  virtual void all_reduce(float* data, int64_t n);
  virtual void all_reduce(double* data, int64_t n);

  /// Bytes that this rank has sent to others, and in how many collective calls.
  int64_t bytes_sent = 0, calls = 0;
};

/// The ranks that this thread works with (a rank is a process, or a thread in a test); it alone
/// until set_world.
Group& world();
void set_world(std::shared_ptr<Group> g);

}  // namespace wattle
