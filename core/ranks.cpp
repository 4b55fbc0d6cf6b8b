#include "core/ranks.h"

#include <algorithm>
#include <cstring>

namespace wattle {

void Group::all_to_all(const void* send, const int64_t* send_rows, void* recv, const int64_t*,
                       int64_t width, int64_t bytes) {
  std::memcpy(recv, send, static_cast<size_t>(send_rows[0] * width * bytes));
}
void Group::all_gather(const int64_t* send, int64_t n, int64_t* recv) {
  std::copy_n(send, n, recv);
}
void Group::all_reduce(float*, int64_t) {}
void Group::all_reduce(double*, int64_t) {}

namespace {
std::shared_ptr<Group>& holder() {
  thread_local std::shared_ptr<Group> g = std::make_shared<Group>();
  return g;
}
}  // namespace

Group& world() { return *holder(); }
void set_world(std::shared_ptr<Group> g) {
  holder() = g ? std::move(g) : std::make_shared<Group>();
}

}  // namespace wattle
