// Ranks that train one model together, each holding a share of the experts.
#pragma once
#include <cstdint>
#include <memory>

#include "core/ranks.h"
#include "core/tensor.h"

namespace wattle::moe {

using wattle::Group;
using wattle::set_world;
using wattle::world;

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
