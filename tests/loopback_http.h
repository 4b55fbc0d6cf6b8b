// A small HTTP/1.1 server on 127.0.0.1 for tests of downloads: it serves bytes from memory, knows
// ranges, and can misbehave on purpose.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace wattle::testing {

/// A listening socket on a free port of 127.0.0.1.
inline int listen_on_loopback(int* port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t n = sizeof a;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&a), n) != 0 || ::listen(fd, 16) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &n) != 0)
    std::abort();
  *port = ntohs(a.sin_port);
  return fd;
}

class LoopbackHttp {
 public:
  struct Page {
    std::string body;
    int status = 200;      ///< sent instead of a body when it is not 200
    bool ranges = true;    ///< false: ignores Range and sends all with status 200
    int cuts = 0;          ///< so many answers break off ...
    size_t cut_after = 0;  ///< ... after this many bytes of the body
  };

  LoopbackHttp() {
    listener_ = listen_on_loopback(&port_);
    thread_ = std::thread([this] { serve(); });
  }
  ~LoopbackHttp() {
    stop_ = true;
    ::shutdown(listener_, SHUT_RDWR);  // wakes accept
    thread_.join();
    ::close(listener_);
  }
  LoopbackHttp(const LoopbackHttp&) = delete;
  LoopbackHttp& operator=(const LoopbackHttp&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void set(const std::string& path, Page page) {
    std::lock_guard lock(mutex_);
    pages_[path] = std::move(page);
  }
  /// "/path 100-" for each request with a range, "/path" for the others.
  std::vector<std::string> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  struct Request {
    std::string path, range;
  };

  static Request read_request(int fd) {
    std::string text;
    char buffer[1024];
    while (text.find("\r\n\r\n") == text.npos) {
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) return {};
      text.append(buffer, static_cast<size_t>(n));
    }
    Request r;
    const size_t begin = text.find(' ') + 1;
    r.path = text.substr(begin, text.find(' ', begin) - begin);
    if (const size_t at = text.find("Range: bytes="); at != text.npos)
      r.range = text.substr(at + 13, text.find("\r\n", at) - at - 13);
    return r;
  }

  static void send_all(int fd, const std::string& s) {
    for (size_t done = 0; done < s.size();) {
      const ssize_t n = ::send(fd, s.data() + done, s.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return;
      done += static_cast<size_t>(n);
    }
  }

  void answer(int fd, const Request& r) {
    Page page;
    bool cut = false;
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(r.range.empty() ? r.path : r.path + " " + r.range);
      const auto it = pages_.find(r.path);
      page = it == pages_.end() ? Page{.body = "", .status = 404} : it->second;
      if (it != pages_.end() && it->second.cuts > 0) cut = true, --it->second.cuts;
    }
    std::string body = page.body, head;
    const size_t from = page.ranges && !r.range.empty() ? std::stoul(r.range) : 0;
    if (page.status != 200) {
      body = "an error page";
      head = "HTTP/1.1 " + std::to_string(page.status) + " no\r\n";
    } else if (from > 0 && from >= body.size()) {
      head = "HTTP/1.1 416 Range Not Satisfiable\r\n";
      body.clear();
    } else if (from > 0) {
      head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(from) + "-" +
             std::to_string(body.size() - 1) + "/" + std::to_string(body.size()) + "\r\n";
      body.erase(0, from);
    } else {
      head = "HTTP/1.1 200 OK\r\n";
    }
    head += "Content-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n";
    if (cut) body.resize(std::min(body.size(), page.cut_after));
    send_all(fd, head + body);
  }

  void serve() {
    while (!stop_) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      answer(fd, read_request(fd));
      ::shutdown(fd, SHUT_WR);
      char rest[64];
      while (::recv(fd, rest, sizeof rest, 0) > 0) {}  // so that close sends no reset
      ::close(fd);
    }
  }

  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::map<std::string, Page> pages_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace wattle::testing
