/* What libwattle_mpi.so gives: MPI behind plain functions, so that nothing else needs MPI to be
 * built or to run. Every function is collective; errors end the run with MPI's own message. */
#pragma once
#include <stdint.h>

struct WattleMpi {
  int rank, size;
  void (*all_to_all)(const void* send, const int64_t* send_rows, void* recv,
                     const int64_t* recv_rows, int64_t row_bytes);
  void (*all_gather)(const int64_t* send, int64_t n, int64_t* recv);
  /* Sums in the order of the ranks. */
  void (*sum_f32)(float* data, int64_t n);
  void (*sum_f64)(double* data, int64_t n);
  void (*finish)(void);
};

/* Starts MPI. Called once. */
typedef const struct WattleMpi* (*WattleMpiStart)(void);
