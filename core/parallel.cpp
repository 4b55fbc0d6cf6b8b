#include "core/parallel.h"

#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_OPENMP) && !defined(WATTLE_NO_OPENMP)
#include <omp.h>
#define WATTLE_USE_OPENMP 1
#endif

namespace wattle {
namespace {

int initial_threads() {
  if (const char* e = std::getenv("OMP_NUM_THREADS"))
    if (const int n = std::atoi(e); n >= 1) return n;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

std::atomic<int>& threads() {
  static std::atomic<int> n{initial_threads()};
  return n;
}

thread_local bool inside_parallel = false;

// Keeps the first exception of a loop; an exception must not leave an OpenMP region.
struct FirstError {
  std::mutex mutex;
  std::exception_ptr error;
  void keep() {
    std::lock_guard lock(mutex);
    if (!error) error = std::current_exception();
  }
};

}  // namespace

int num_threads() { return threads().load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  if (n < 1) throw value_error(str("set_num_threads: found ", n, ", expected at least 1"));
  threads().store(n);
}

namespace detail {

void run_chunks(int64_t chunks, void* ctx, ChunkFn fn) {
  const int64_t wanted = num_threads();
  const int team = static_cast<int>(chunks < wanted ? chunks : wanted);
  if (team <= 1 || inside_parallel) {
    for (int64_t c = 0; c < chunks; ++c) fn(ctx, c);
    return;
  }
  FirstError first;
  std::atomic<int64_t> next{0};
  auto work = [&] {
    inside_parallel = true;
    try {
      for (int64_t c; (c = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) fn(ctx, c);
    } catch (...) {
      first.keep();
      next.store(chunks);
    }
    inside_parallel = false;
  };
#ifdef WATTLE_USE_OPENMP
#pragma omp parallel num_threads(team)
  work();
#else
  // Without OpenMP (thread sanitizer builds, compilers that lack it): plain threads.
  std::vector<std::thread> extra;
  for (int t = 1; t < team; ++t) extra.emplace_back(work);
  work();
  for (auto& t : extra) t.join();
#endif
  if (first.error) std::rethrow_exception(first.error);
}

}  // namespace detail
}  // namespace wattle
