// Ranks with a GPU each, as the rest of the project sees them.
#include <vector>

#include "core/cuda.h"
#include "core/error.h"

namespace wattle::cuda {
namespace {

void check(const char* what, const char* error) {
  if (error) throw device_error(str("ranks: ", what, ": ", error));
}

// Host numbers on their way through the device.
class OnDevice {
 public:
  explicit OnDevice(int64_t bytes) : bytes_(bytes), p_(detail::backend().allocate(bytes)) {
    if (!p_) throw device_error(str("ranks: out of memory for ", bytes, " bytes"));
  }
  ~OnDevice() { detail::backend().deallocate(p_, bytes_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  void* get() const { return p_; }

 private:
  int64_t bytes_;
  void* p_;
};

class GpuRanks final : public Group {
 public:
  GpuRanks(const RanksId& id, int rank, int size) : rank_(rank), size_(size) {
    check("join", detail::backend().ranks_join(id.data(), rank, size));
  }
  ~GpuRanks() override { detail::backend().ranks_leave(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void all_gather(const int64_t* send, int64_t n, int64_t* recv) override {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(int64_t));
    const OnDevice own(bytes), all(bytes * size_);
    const device::Backend& b = detail::backend();
    check("copy", b.copy_in(own.get(), send, bytes));
    check("gather", b.ranks_gather(own.get(), all.get(), bytes));
    check("copy", b.copy_out(recv, all.get(), bytes * size_));
    bytes_sent += bytes * (size_ - 1), ++calls;
  }
  void all_to_all(const void*, const int64_t*, void*, const int64_t*, int64_t, int64_t) override {
    throw device_error("ranks: rows are not exchanged between GPUs yet; use wattle mpi on cpu");
  }
  void all_reduce(float*, int64_t) override { on_host(); }
  void all_reduce(double*, int64_t) override { on_host(); }

 private:
  [[noreturn]] static void on_host() {
    throw device_error("ranks: found numbers on cpu to sum, expected a tensor on cuda");
  }
  int rank_, size_;
};

}  // namespace

RanksId new_ranks_id() {
  RanksId id{};
  check("new id", detail::backend().ranks_new_id(id.data()));
  return id;
}

std::shared_ptr<Group> join_ranks(const RanksId& id, int rank, int size) {
  if (!status().available) throw device_error(str("ranks: cuda: ", status().message));
  return std::make_shared<GpuRanks>(id, rank, size);
}

}  // namespace wattle::cuda
