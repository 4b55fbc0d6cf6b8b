// Parallel loops over a fixed partition.
//
// Results must not depend on the number of threads, so a loop is cut into chunks whose size depends
// on the problem alone (`grain`), never on the thread count; threads only take chunks. A reduction
// writes one partial result per chunk and adds the partials in chunk order.
#pragma once
#include <cstdint>
#include <type_traits>

namespace wattle {

/// Number of threads that parallel loops use; at the start OMP_NUM_THREADS, else the CPUs this
/// process may run on.
int num_threads();
/// Throws value_error when n < 1.
void set_num_threads(int n);

namespace detail {
using ChunkFn = void (*)(void* ctx, int64_t chunk);
void run_chunks(int64_t chunks, void* ctx, ChunkFn fn);
}  // namespace detail

/// Calls fn(chunk) for every chunk in [0, chunks), on several threads. The first exception thrown
/// by fn is rethrown here. Inside another parallel loop it runs on the calling thread.
template <class F>
void parallel_chunks(int64_t chunks, F&& fn) {
  using Fn = std::remove_reference_t<F>;
  detail::run_chunks(chunks, const_cast<void*>(static_cast<const void*>(&fn)),
                     [](void* ctx, int64_t c) { (*static_cast<Fn*>(ctx))(c); });
}

/// Calls fn(begin, end) over [0, n) cut into pieces of `grain` elements (the last may be shorter).
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& fn) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  const int64_t chunks = (n + grain - 1) / grain;
  parallel_chunks(chunks, [&](int64_t c) {
    const int64_t begin = c * grain;
    fn(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace wattle
