#include "ops/conv2d_tile.h"

#include <memory>
#include <new>

namespace wattle::conv {
namespace {

constexpr std::align_val_t kAlign{64};

struct Buffer {
  float* data = nullptr;
  int64_t size = 0;
  ~Buffer() { ::operator delete(data, kAlign); }
};

}  // namespace

float* scratch(Slot slot, int64_t n) {
  thread_local Buffer buffers[static_cast<int>(Slot::count)];
  Buffer& b = buffers[static_cast<int>(slot)];
  if (b.size < n) {
    ::operator delete(b.data, kAlign);
    b.data = nullptr, b.size = 0;
    b.data = static_cast<float*>(::operator new(static_cast<size_t>(n) * sizeof(float), kAlign));
    b.size = n;
  }
  return b.data;
}

}  // namespace wattle::conv
