// Where a tensor lives.
#pragma once
#include <cstdint>
#include <string>

#include "core/dtype.h"

namespace wattle {

enum class DeviceKind : uint8_t {
  cpu,
  meta,  ///< shapes only: every op counts its exact cost, nothing is allocated or computed
  cuda,  ///< served by a plugin
};

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int8_t index = 0;
  std::string str() const;
  friend bool operator==(Device, Device) = default;
};

inline constexpr Device cpu{DeviceKind::cpu, 0};
inline constexpr Device meta{DeviceKind::meta, 0};

/// Bytes held by tensors of one device.
struct MemoryStats {
  int64_t live = 0;    ///< now
  int64_t peak = 0;    ///< highest since the start or the last reset_peak
  int64_t cached = 0;  ///< freed by tensors and kept for the next allocation
  int64_t allocations = 0;
};

/// Memory of one kind of device. A plugin registers one for its device; nothing else in the core
/// knows how device memory is made.
struct Allocator {
  virtual ~Allocator() = default;
  virtual void* allocate(int64_t bytes) = 0;            ///< 64-byte aligned; throws std::bad_alloc
  virtual void deallocate(void* p, int64_t bytes) = 0;  ///< bytes as they were asked for
  virtual void copy_from_host(void* dst, const void* src, int64_t bytes) = 0;
  virtual void copy_to_host(void* dst, const void* src, int64_t bytes) = 0;
  /// `count` elements of a plain type.
  virtual void fill(void* dst, int64_t count, DType t, double value) = 0;
  virtual MemoryStats stats() = 0;
  virtual void reset_peak() = 0;
  virtual void release() = 0;  ///< gives cached blocks back
};

/// Throws device_error when no allocator serves the device, and says why.
Allocator& allocator(Device d);
void register_allocator(DeviceKind kind, Allocator* a);

MemoryStats memory_stats(Device d = cpu);
void reset_peak(Device d = cpu);
/// Gives cached blocks back to the operating system.
void release_cached_memory();

}  // namespace wattle
