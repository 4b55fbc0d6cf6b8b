#include "green/rendezvous.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "data/atomic_file.h"
#include "data/bytes.h"
#include "moe/exchange.h"

namespace wattle::green {
namespace {

using Clock = std::chrono::steady_clock;

class Deadline {
 public:
  explicit Deadline(double seconds)
      : at_(Clock::now() +
            std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds))) {}
  bool over() const { return Clock::now() >= at_; }
  int left_ms() const {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(at_ - Clock::now());
    return static_cast<int>(std::max<int64_t>(1, left.count()));
  }

 private:
  Clock::time_point at_;
};
void wait() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

[[noreturn]] void nobody(const Meeting& m) {
  throw io_error(str("ranks: ", m.place, ": rank ", m.rank, " of ", m.ranks, " waited ",
                     m.timeout_s, " s for the others"));
}

// ---- A file: the id, and beside it a file of every rank that has read it ----

std::string arrived(const Meeting& m, int rank) { return str(m.place, ".", rank); }
bool there(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string by_file(const Meeting& m, const std::string& id) {
  const Deadline deadline(m.timeout_s);
  if (m.rank > 0) {
    while (!there(m.place)) {
      if (deadline.over()) nobody(m);
      wait();
    }
    const auto bytes = io::read_file(m.place, 1 << 16);
    io::write_file(arrived(m, m.rank), "");
    return std::string(bytes.begin(), bytes.end());
  }
  if (there(m.place))
    throw io_error(str("ranks: ", m.place,
                       ": is there already, expected a file of its own for every run; remove it"));
  io::write_file(m.place, id);
  for (int r = 1; r < m.ranks; ++r)
    while (!there(arrived(m, r))) {
      if (deadline.over()) {
        unlink(m.place.c_str());
        nobody(m);
      }
      wait();
    }
  for (int r = 1; r < m.ranks; ++r) unlink(arrived(m, r).c_str());
  unlink(m.place.c_str());
  return id;
}

// ---- TCP: rank 0 sends the id to everyone who connects ----

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return fd_; }
  void limit(const Deadline& d) const {
    const int ms = d.left_ms();
    const timeval t{ms / 1000, ms % 1000 * 1000};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
  }

 private:
  int fd_;
};

struct Address {
  addrinfo* list = nullptr;
  explicit Address(const Meeting& m) {
    const size_t colon = m.place.rfind(':');
    const std::string host = m.place.substr(0, colon), port = m.place.substr(colon + 1);
    addrinfo want{};
    want.ai_socktype = SOCK_STREAM;
    if (const int e = getaddrinfo(host.c_str(), port.c_str(), &want, &list))
      throw io_error(str("ranks: ", m.place, ": ", gai_strerror(e)));
  }
  ~Address() { freeaddrinfo(list); }
  Address(const Address&) = delete;
  Address& operator=(const Address&) = delete;
};
[[noreturn]] void failed(const Meeting& m, const char* what) {
  throw io_error(str("ranks: ", m.place, ": ", what, ": ", std::strerror(errno)));
}

// Ids are short: one message each way, its length first.
bool send_all(int fd, const std::string& text) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}
std::string receive(int fd, size_t bytes) {
  std::string text(bytes, '\0');
  size_t got = 0;
  while (got < bytes) {
    const ssize_t n = recv(fd, text.data() + got, bytes - got, 0);
    if (n <= 0) return {};
    got += static_cast<size_t>(n);
  }
  return text;
}

std::string listen_for_all(const Meeting& m, const std::string& id, const Deadline& deadline) {
  const Address a(m);
  const Socket s(socket(a.list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(s.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(s.get(), a.list->ai_addr, a.list->ai_addrlen) != 0) failed(m, "cannot be listened on");
  if (listen(s.get(), m.ranks) != 0) failed(m, "listen");
  for (int served = 1; served < m.ranks;) {
    s.limit(deadline);
    const Socket other(accept(s.get(), nullptr, nullptr));
    if (deadline.over()) nobody(m);
    if (other.get() < 0) continue;
    other.limit(deadline);
    served += send_all(other.get(), id) && receive(other.get(), 1) == "k";
  }
  return id;
}
std::string fetch(const Meeting& m, const Deadline& deadline) {
  const Address a(m);
  for (; !deadline.over(); wait()) {
    const Socket s(socket(a.list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(s.get(), a.list->ai_addr, a.list->ai_addrlen) != 0) continue;
    s.limit(deadline);
    std::string id = receive(s.get(), device::ranks_id_bytes);
    if (!id.empty() && send_all(s.get(), "k")) return id;
  }
  nobody(m);
}

bool is_address(const std::string& place) {
  const size_t colon = place.rfind(':');
  return colon != place.npos && colon + 1 < place.size() &&
         place.find_first_not_of("0123456789", colon + 1) == place.npos;
}

int number_of(const char* variable, const char* text, int least, int most) {
  char* end = nullptr;
  const long n = text ? std::strtol(text, &end, 10) : least - 1;
  if (!text || end == text || *end || n < least || n > most)
    throw value_error(
        str(variable, ": found '", text ? text : "", "', expected ", least, " to ", most));
  return static_cast<int>(n);
}

}  // namespace

std::optional<Meeting> meeting_from_environment() {
  const char* const ranks = std::getenv("WATTLE_RANKS");
  if (!ranks || !*ranks) return {};
  Meeting m;
  m.ranks = number_of("WATTLE_RANKS", ranks, 1, 4096);
  m.rank = number_of("WATTLE_RANK", std::getenv("WATTLE_RANK"), 0, m.ranks - 1);
  const char* const place = std::getenv("WATTLE_MEET");
  if (!place || !*place)
    throw value_error("WATTLE_MEET: found nothing, expected a file of its own or HOST:PORT");
  m.place = place;
  return m;
}

std::string exchange_id(const Meeting& m, const std::string& id) {
  if (m.ranks == 1) return id;
  std::string got;
  if (!is_address(m.place)) {
    got = by_file(m, id);
  } else {
    const Deadline deadline(m.timeout_s);
    got = m.rank == 0 ? listen_for_all(m, id, deadline) : fetch(m, deadline);
  }
  if (got.size() != device::ranks_id_bytes)
    throw io_error(str("ranks: ", m.place, ": found an id of ", static_cast<int64_t>(got.size()),
                       " bytes, expected ", device::ranks_id_bytes));
  return got;
}

std::shared_ptr<Group> join_ranks(std::string& device) {
  const std::optional<Meeting> m = meeting_from_environment();
  if (!m)
    return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMI_SIZE") ? moe::load_mpi()
                                                                          : nullptr;
  if (device == "cuda") {
    const cuda::Status& s = cuda::status();
    if (s.available) device = str("cuda:", m->rank % static_cast<int>(s.devices.size()));
  }
  if (cuda::device_from_name(device).kind != DeviceKind::cuda)
    throw value_error(str("WATTLE_RANKS: found ", m->ranks, " with --device ", device,
                          ", expected cuda; on cpu: wattle mpi ", m->ranks));
  std::string id;
  if (m->rank == 0) {
    const cuda::RanksId own = cuda::new_ranks_id();
    id.assign(own.begin(), own.end());
  }
  id = exchange_id(*m, id);
  cuda::RanksId all{};
  std::copy(id.begin(), id.end(), all.begin());
  return cuda::join_ranks(all, m->rank, m->ranks);
}

}  // namespace wattle::green
