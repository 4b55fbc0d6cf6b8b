// What casts on a device did to numbers. Every cast gets a slot of device memory that its kernel
// adds to; the slots are read together when the thread's counters are.
#include <vector>

#include "core/counters.h"
#include "core/cuda.h"

namespace wattle::cuda {
namespace {

constexpr int64_t capacity = 1024, most_per_call = 2 * device::max_operands;

void check(const char* error) {
  if (error) throw device_error(str("cuda: counts of roundings: ", error));
}

thread_local bool ended = false;  // of this thread, when its counters may still be read

class Slots {
 public:
  ~Slots() {
    ended = true;
    if (memory_) detail::backend().deallocate(memory_, bytes(capacity));
  }
  // Null when nobody counts the calls.
  CastStats* take() {
    if (!memory_) {
      memory_ = static_cast<CastStats*>(detail::backend().allocate(bytes(capacity)));
      if (!memory_) throw device_error("cuda: out of memory for counts of roundings");
      LateCounts::set_source(collect);
    }
    if (taken_ == 0) clear();
    if (taken_ == capacity) return nullptr;
    return memory_ + taken_++;
  }
  void credit(const RowKey& key) {
    while (static_cast<int64_t>(rows_.size()) < taken_) rows_.push_back(key);
    if (taken_ > capacity - most_per_call) add_all();
  }
  // Slots of the call that is running wait for their row.
  void add_all() {
    if (rows_.empty() || static_cast<int64_t>(rows_.size()) < taken_) return;
    std::vector<CastStats> found(rows_.size());
    check(detail::backend().copy_out(found.data(), memory_, bytes(taken_)));
    for (size_t i = 0; i < rows_.size(); ++i) counters().add_rounding(rows_[i], found[i]);
    rows_.clear();
    taken_ = 0;
  }
  static Slots& here() {
    thread_local Slots slots;
    return slots;
  }

 private:
  static int64_t bytes(int64_t slots) { return slots * static_cast<int64_t>(sizeof(CastStats)); }
  static void collect() {
    if (!ended) here().add_all();
  }
  void clear() {
    check(
        detail::backend().fill(memory_, bytes(capacity) / 8, static_cast<int32_t>(DType::i64), 0));
  }

  CastStats* memory_ = nullptr;
  int64_t taken_ = 0;
  std::vector<RowKey> rows_;  // of the slots, as far as they are credited
};

}  // namespace

namespace detail {
CastStats* rounding_slot() { return Slots::here().take(); }
void credit_rounding(const RowKey& key) { Slots::here().credit(key); }
}  // namespace detail

}  // namespace wattle::cuda
