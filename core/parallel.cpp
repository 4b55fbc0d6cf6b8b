#include "core/parallel.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "core/error.h"
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_OPENMP) && !defined(WATTLE_NO_OPENMP)
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

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Threads that wait for loops. A loop of a small op lasts a few microseconds, and a team of OpenMP
// is called and gathered in about one; here a loop is opened by a single store, whoever sees it in
// time takes part, and nobody waits for a thread that has not come: the caller goes on when the
// chunks are done. OpenMP starts the threads, so its variables for places and stacks hold.
class Pool {
 public:
  // Calls work(ctx) here, and on up to `helpers` threads at the same time.
  void run(int helpers, void (*work)(void*), void* ctx) {
    const std::unique_lock lock(one_loop_, std::try_to_lock);
    if (!lock) return work(ctx);  // another thread's loop has the helpers
    if (threads_ < helpers) grow(helpers);
    work_ = work, ctx_ = ctx;
    seats_.store(helpers, std::memory_order_relaxed);
    const uint32_t open = state_.load(std::memory_order_relaxed) + 1;
    state_.store(open);
    if (asleep_.load() > 0) state_.notify_all();
    work(ctx);
    state_.store(open + 1);
    // A helper says that it is inside before it looks whether the loop is still open, so either it
    // finds the loop closed or it is seen here.
    for (int i = 0; inside_.load() != 0; ++i) i < 1000 ? pause() : std::this_thread::yield();
  }

 private:
  void grow(int threads) {
    const int more = threads - threads_;
    threads_ = threads;
    try {
#ifdef WATTLE_USE_OPENMP
      std::thread([this, more] {
#pragma omp parallel num_threads(more)
        serve();
      }).detach();
#else
      for (int i = 0; i < more; ++i) std::thread([this] { serve(); }).detach();
#endif
    } catch (const std::system_error&) {  // no more threads to be had: loops run on fewer
    }
  }

  // A helper's life. It watches for a while, then sleeps until a loop wakes it.
  [[noreturn]] void serve() {
    for (uint32_t seen = 0;;) {
      seen = next_open(seen);
      inside_.fetch_add(1);
      if (state_.load() == seen && seats_.fetch_sub(1) > 0) work_(ctx_);
      inside_.fetch_sub(1);
    }
  }
  uint32_t next_open(uint32_t seen) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::microseconds patience(100);
    Clock::time_point sleep = Clock::now() + patience;
    for (int i = 1;; ++i) {
      const uint32_t s = state_.load(std::memory_order_acquire);
      if (s % 2 != 0 && s != seen) return s;
      if (i % 64 != 0) {
        pause();
        continue;
      }
      std::this_thread::yield();  // somebody else may need this CPU
      if (Clock::now() < sleep) continue;
      asleep_.fetch_add(1);
      state_.wait(s);
      asleep_.fetch_sub(1);
      sleep = Clock::now() + patience;
    }
  }

  std::mutex one_loop_;
  int threads_ = 0;
  // One line of the cache: who sees that a loop is open has what it calls.
  alignas(64) std::atomic<uint32_t> state_{0};  // odd: a loop is open
  void (*work_)(void*) = nullptr;
  void* ctx_ = nullptr;
  alignas(64) std::atomic<int> inside_{0};
  std::atomic<int> seats_{0}, asleep_{0};
};
Pool& pool() {
  static Pool* const p = new Pool;  // its threads outlive everything
  return *p;
}

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
  pool().run(
      team - 1, [](void* w) { (*static_cast<decltype(work)*>(w))(); }, &work);
  if (first.error) std::rethrow_exception(first.error);
}

}  // namespace detail
}  // namespace wattle
