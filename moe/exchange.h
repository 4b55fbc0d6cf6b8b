// Ranks that train one model together, each holding a share of the experts.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor.h"

namespace wattle::moe {

/// What a rank can do with the others. Every call is collective. Implementations: one process alone
/// (the default), and MPI as a plugin (moe/plugin/mpi_group.cpp).
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
  /// Sums in place, in an order that does not depend on time.
  virtual void all_reduce(float* data, int64_t n);
  virtual void all_reduce(double* data, int64_t n);

  /// Bytes that this rank has sent to others, and in how many collective calls.
  int64_t bytes_sent = 0, calls = 0;
};

/// The ranks that this thread works with (a rank is a process, or a thread in a test); it alone
/// until set_world.
Group& world();
void set_world(std::shared_ptr<Group> g);

/// Rank r holds the experts first_expert(n, r) .. first_expert(n, r + 1) of n.
int64_t first_expert(int64_t experts, int64_t rank);

/// The ranks of an mpirun, through libwattle_mpi.so beside the program ($WATTLE_MPI_PLUGIN: another
/// place). Once per process; MPI ends with the object. Throws io_error where the plugin is missing.
std::shared_ptr<Group> load_mpi();

/// Rows of x [S,d] to the ranks that are to have them: send_rows [R] from the front of x; the
/// result has `rows` rows, first those that came, rank by rank, then zeros. The gradient goes back
/// the same way. Collective.
Tensor all_to_all_rows(const Tensor& x, const Tensor& send_rows, const Tensor& recv_rows,
                       int64_t rows);

}  // namespace wattle::moe
