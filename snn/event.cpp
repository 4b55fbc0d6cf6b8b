#include "snn/event.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/simd.h"
#include "snn/spike.h"

namespace wattle::snn {
namespace {

Exec from_environment() {
  const char* const e = std::getenv("WATTLE_SPIKES");
  const std::string way = e ? e : "auto";
  if (way == "dense") return Exec::dense;
  if (way == "event") return Exec::event;
  if (way != "auto")
    throw value_error(str("WATTLE_SPIKES: found '", way, "', expected auto, dense or event"));
  return Exec::automatic;
}

Exec& current() {
  thread_local Exec e = from_environment();
  return e;
}

struct Measured {
  std::string what;
  Times times;
};
struct Table {
  std::mutex mutex;
  std::map<std::tuple<int, simd::Level, ProductKey>, Measured> rows;  // by threads first
};
Table& table() {
  static Table t;
  return t;
}

}  // namespace

Exec exec() { return current(); }
ExecScope::ExecScope(Exec e) : saved_(current()) { current() = e; }
ExecScope::~ExecScope() { current() = saved_; }

double crossover_rate(const Times& t) {
  const double slope = (t.many - t.few) / (kMany - kFew);
  if (slope <= 0) return t.many < t.dense ? 2 : 0;
  const double rate = std::clamp(kFew + (t.dense - t.few) / slope, 0.0, 2.0);
  if (rate <= kMany || t.all == 0) return rate;
  if (t.all <= t.dense) return 2;
  return kMany + (t.dense - t.many) / (t.all - t.many) * (1 - kMany);
}

double crossover(const ProductKey& product, const std::function<std::string()>& what,
                 const std::function<Times()>& measure) {
  Table& t = table();
  const std::lock_guard lock(t.mutex);
  const auto key = std::make_tuple(num_threads(), simd::level(), product);
  auto it = t.rows.find(key);
  if (it == t.rows.end()) it = t.rows.emplace(key, Measured{what(), measure()}).first;
  return crossover_rate(it->second.times);
}

std::string crossovers() {
  Table& t = table();
  const std::lock_guard lock(t.mutex);
  std::string text;
  for (const auto& [key, m] : t.rows)
    text += str(m.what, ", threads ", std::get<0>(key), ": events up to ",
                crossover_rate(m.times) * 100, " % spikes (", m.times.few * 1e6, " us at ",
                kFew * 100, " %, ", m.times.many * 1e6, " us at ", kMany * 100, " %, dense ",
                m.times.dense * 1e6, " us)\n");
  return text;
}

double fastest(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

int64_t scatter_spikes(const Tensor& spikes, double rate) {
  auto* const p = static_cast<uint8_t*>(spikes.raw());
  const int64_t columns = spikes.size(-1), bytes = spike_row_bytes(columns);
  std::fill_n(p, spikes.nbytes(), uint8_t{0});
  for (int64_t i = 0; i < spikes.numel(); ++i)
    if (uniform_at(1, static_cast<uint64_t>(i)) < rate) {
      uint8_t& b = p[i / columns * bytes + i % columns / 8];
      b = static_cast<uint8_t>(b | 1u << (i % columns % 8));
    }
  return count_spikes(spikes);
}

}  // namespace wattle::snn
