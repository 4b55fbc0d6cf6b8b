// The CPU allocator: 64-byte aligned blocks in size classes, kept for reuse when they are freed. A
// training step asks for the same sizes again and again; handing large blocks back to the system
// each time would cost a page fault for every 4 KiB of the next step.
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "core/cuda.h"
#include "core/device.h"
#include "core/error.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace wattle {
namespace {

// Eight classes per power of two: at most 12.5 % of a block is unused.
int64_t size_class(int64_t bytes) {
  if (bytes <= 64) return 64;
  const int log2 = 63 - __builtin_clzll(static_cast<uint64_t>(bytes));
  const int64_t step = log2 > 9 ? int64_t{1} << (log2 - 3) : 64;
  return (bytes + step - 1) / step * step;
}

// The place of a size class among all: up to 1 KiB by 64 bytes, then eight per power of two.
constexpr size_t classes = 16 + 8 * 55;
size_t place(int64_t size) {
  if (size < 1024) return static_cast<size_t>(size / 64);
  const int log2 = 63 - __builtin_clzll(static_cast<uint64_t>(size));
  return static_cast<size_t>(16 + (log2 - 10) * 8 + ((size >> (log2 - 3)) - 8));
}

// Large blocks start on a huge page and ask for huge pages: a convolution that walks 5 MB with
// strides otherwise spends much of its time on address translation.
void* fresh_block(int64_t size) {
  constexpr int64_t huge = int64_t{2} << 20;
  if (size < huge) return std::aligned_alloc(64, static_cast<size_t>(size));
  const size_t whole = static_cast<size_t>((size + huge - 1) / huge * huge);
  void* p = std::aligned_alloc(static_cast<size_t>(huge), whole);
#if defined(__linux__)
  if (p) madvise(p, whole, MADV_HUGEPAGE);  // a wish; without it the block works as well
#endif
  return p;
}

class CpuAllocator final : public Allocator {
 public:
  void* allocate(int64_t bytes) override {
    const int64_t size = size_class(bytes);
    {
      std::lock_guard lock(mutex_);
      count(bytes);
      auto& free = free_[place(size)];
      if (!free.empty()) {
        void* p = free.back();
        free.pop_back();
        stats_.cached -= size;
        return p;
      }
    }
    void* p = fresh_block(size);
    if (!p) {
      release();
      p = fresh_block(size);
    }
    if (!p) {
      std::lock_guard lock(mutex_);
      stats_.live -= bytes;
      throw std::bad_alloc();
    }
    return p;
  }

  void deallocate(void* p, int64_t bytes) override {
    const int64_t size = size_class(bytes);
    std::lock_guard lock(mutex_);
    stats_.live -= bytes;
    stats_.cached += size;
    free_[place(size)].push_back(p);
  }

  void copy_from_host(void* dst, const void* src, int64_t n) override {
    std::memcpy(dst, src, static_cast<size_t>(n));
  }
  void copy_to_host(void* dst, const void* src, int64_t n) override {
    std::memcpy(dst, src, static_cast<size_t>(n));
  }

  void fill(void* dst, int64_t count, DType t, double value) override {
    dispatch_all("fill", t, [&]<class T>() {
      for (int64_t i = 0; i < count; ++i) static_cast<T*>(dst)[i] = static_cast<T>(value);
    });
  }

  MemoryStats stats() override {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() override {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.live;
  }
  void release() override {
    std::lock_guard lock(mutex_);
    for (std::vector<void*>& blocks : free_) {
      for (void* p : blocks) std::free(p);
      blocks.clear();
    }
    stats_.cached = 0;
  }

 private:
  void count(int64_t bytes) {
    stats_.live += bytes;
    ++stats_.allocations;
    if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  }

  std::mutex mutex_;
  std::array<std::vector<void*>, classes> free_;
  MemoryStats stats_;
};

// Never destroyed: tensors held in static storage are freed after every other static object.
CpuAllocator& cpu_allocator() {
  static CpuAllocator* a = new CpuAllocator;
  return *a;
}

std::atomic<Allocator*> plugins[3];

}  // namespace

Allocator& allocator(Device d) {
  if (d.kind == DeviceKind::cpu) return cpu_allocator();
  if (d.kind == DeviceKind::cuda) {  // loads the plugin, which registers one
    const cuda::Status& s = cuda::status();
    if (s.available && d.index >= static_cast<int>(s.devices.size()))
      throw device_error(str("device ", d, ": there are ", s.devices.size(), " of its kind"));
    if (!s.available) throw device_error(str("device ", d, ": ", s.message));
  }
  if (Allocator* a = plugins[static_cast<int>(d.kind)].load()) return *a;
  throw device_error(str("device ", d, ": nothing here allocates memory on it"));
}

void register_allocator(DeviceKind kind, Allocator* a) { plugins[static_cast<int>(kind)] = a; }

MemoryStats memory_stats(Device d) {
  return d.kind == DeviceKind::meta ? MemoryStats{} : allocator(d).stats();
}
void reset_peak(Device d) {
  if (d.kind != DeviceKind::meta) allocator(d).reset_peak();
}
void release_cached_memory() { cpu_allocator().release(); }

std::string Device::str() const {
  if (kind == DeviceKind::cpu) return "cpu";
  if (kind == DeviceKind::meta) return "meta";
  return "cuda:" + std::to_string(index);
}

}  // namespace wattle
