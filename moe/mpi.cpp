#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "moe/exchange.h"
#include "moe/plugin/mpi_api.h"

namespace wattle::moe {
namespace {

class MpiGroup final : public Group {
 public:
  explicit MpiGroup(const WattleMpi* api) : api_(api) {}
  ~MpiGroup() override { api_->finish(); }
  int rank() const override { return api_->rank; }
  int size() const override { return api_->size; }
  void all_to_all(const void* send, const int64_t* send_rows, void* recv, const int64_t* recv_rows,
                  int64_t width, int64_t bytes) override {
    api_->all_to_all(send, send_rows, recv, recv_rows, width * bytes);
    for (int r = 0; r < size(); ++r)
      if (r != rank()) bytes_sent += send_rows[r] * width * bytes;
    ++calls;
  }
  void all_gather(const int64_t* send, int64_t n, int64_t* recv) override {
    api_->all_gather(send, n, recv);
    sent(n * static_cast<int64_t>(sizeof(int64_t)));
  }
  void all_reduce(float* data, int64_t n) override {
    api_->sum_f32(data, n);
    sent(n * static_cast<int64_t>(sizeof(float)));
  }
  void all_reduce(double* data, int64_t n) override {
    api_->sum_f64(data, n);
    sent(n * static_cast<int64_t>(sizeof(double)));
  }

 private:
  // Its own share goes to every other rank.
  void sent(int64_t bytes) { bytes_sent += bytes * (size() - 1), ++calls; }
  const WattleMpi* api_;
};

}  // namespace

std::shared_ptr<Group> load_mpi() {
  const char* const given = std::getenv("WATTLE_MPI_PLUGIN");
  const std::string path =
      given ? given
            : (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libwattle_mpi.so")
                  .string();
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library)
    throw io_error(str("mpi: ", dlerror(),
                       "; build with MPI: apt-get install libopenmpi-dev openmpi-bin, then "
                       "./wattle mpi RANKS ..."));
  const auto start = reinterpret_cast<WattleMpiStart>(dlsym(library, "wattle_mpi_start"));
  if (!start) throw io_error(str("mpi: ", path, " has no wattle_mpi_start"));
  return std::make_shared<MpiGroup>(start());
}

}  // namespace wattle::moe
