// Which way a product with spikes goes: dense (spikes as floats) or by events (rows of weights
// added where there is a spike).
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "core/simd.h"
#include "core/tensor.h"

namespace wattle::snn {

enum class Exec : uint8_t { automatic, dense, event };

/// The way in force on this thread; at the start WATTLE_SPIKES (auto | dense | event), else auto.
Exec exec();

/// Another way for the life of an object.
class ExecScope {
 public:
  explicit ExecScope(Exec e);
  ~ExecScope();
  ExecScope(const ExecScope&) = delete;
  ExecScope& operator=(const ExecScope&) = delete;

 private:
  Exec saved_;
};

/// Rates of spikes at which events are timed.
constexpr double kFew = 0.05, kMany = 0.4;
/// Seconds of a product by events at both rates, and dense; by events with every input spiking
/// where many is faster than dense, else 0.
struct Times {
  double few, many, dense, all = 0;
};
/// The rate up to which events are the faster way: where a line through their times meets the dense
/// one, beyond kMany the line from there to all; 0: never, above 1: always.
double crossover_rate(const Times& t);
/// The sizes of a product, in any order that tells products apart.
using ProductKey = std::array<int64_t, 16>;
/// The same for a product on this host with this number of threads; `measure` runs when it is first
/// asked for, `what` says then what the product is called.
double crossover(const ProductKey& key, const std::function<std::string()>& what,
                 const std::function<Times()>& measure);
/// Every rate measured so far, a line each with the times that it follows from.
std::string crossovers();

/// fn.operator()<Isa>() for the instructions in force.
template <class F>
auto at_level(F&& fn) {
  switch (simd::level()) {
    case simd::Level::avx512: return fn.template operator()<simd::Avx512>();
    case simd::Level::avx2: return fn.template operator()<simd::Avx2>();
    case simd::Level::portable: break;
  }
  return fn.template operator()<simd::Portable>();
}

/// The shortest of five runs, in seconds.
double fastest(const std::function<void()>& run);
/// Makes about rate * numel spikes, the same ones every time; returns how many.
int64_t scatter_spikes(const Tensor& spikes, double rate);

}  // namespace wattle::snn
