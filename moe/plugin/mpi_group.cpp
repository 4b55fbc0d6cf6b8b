// libwattle_mpi.so: the collectives of moe/exchange.h on MPI.
#include <mpi.h>

#include <cstddef>
#include <cstdio>
#include <vector>

#include "moe/plugin/mpi_api.h"

namespace {

WattleMpi api{};

std::vector<int> offsets_of(const std::vector<int>& counts) {
  std::vector<int> at(counts.size());
  for (size_t r = 1; r < at.size(); ++r) at[r] = at[r - 1] + counts[r - 1];
  return at;
}

std::vector<int> as_int(const int64_t* rows) {
  std::vector<int> out(rows, rows + api.size);
  for (int r = 0; r < api.size; ++r)
    if (out[static_cast<size_t>(r)] != rows[r]) {
      std::fprintf(stderr, "wattle mpi: found %lld rows for one rank, expected below 2^31\n",
                   static_cast<long long>(rows[r]));
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  return out;
}

void all_to_all(const void* send, const int64_t* send_rows, void* recv, const int64_t* recv_rows,
                int64_t row_bytes) {
  MPI_Datatype row;
  MPI_Type_contiguous(static_cast<int>(row_bytes), MPI_BYTE, &row);
  MPI_Type_commit(&row);
  const std::vector<int> out = as_int(send_rows), in = as_int(recv_rows);
  MPI_Alltoallv(send, out.data(), offsets_of(out).data(), row, recv, in.data(),
                offsets_of(in).data(), row, MPI_COMM_WORLD);
  MPI_Type_free(&row);
}

void all_gather(const int64_t* send, int64_t n, int64_t* recv) {
  MPI_Allgather(send, static_cast<int>(n), MPI_INT64_T, recv, static_cast<int>(n), MPI_INT64_T,
                MPI_COMM_WORLD);
}

// MPI_Allreduce may add in another order from run to run; this one may not.
template <class T>
void sum(T* data, int64_t n, MPI_Datatype type) {
  std::vector<T> all(static_cast<size_t>(n * api.size));
  MPI_Allgather(data, static_cast<int>(n), type, all.data(), static_cast<int>(n), type,
                MPI_COMM_WORLD);
  for (int64_t i = 0; i < n; ++i) {
    T s = 0;
    for (int r = 0; r < api.size; ++r) s += all[static_cast<size_t>(r * n + i)];
    data[i] = s;
  }
}

}  // namespace

extern "C" const WattleMpi* wattle_mpi_start() {
  MPI_Init(nullptr, nullptr);
  MPI_Comm_rank(MPI_COMM_WORLD, &api.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &api.size);
  api.all_to_all = all_to_all;
  api.all_gather = all_gather;
  api.sum_f32 = [](float* d, int64_t n) { sum(d, n, MPI_FLOAT); };
  api.sum_f64 = [](double* d, int64_t n) { sum(d, n, MPI_DOUBLE); };
  api.finish = [] { MPI_Finalize(); };
  return &api;
}
