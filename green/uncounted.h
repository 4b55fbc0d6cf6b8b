// A block whose ops leave no trace in the counters.
#pragma once
#include <utility>

#include "core/counters.h"

namespace wattle::green {

// Counting goes on inside, and what it counted is taken out again at the end.
class Uncounted {
 public:
  Uncounted() : saved_(counters()) {}
  ~Uncounted() { counters() = std::move(saved_); }

 private:
  Counters saved_;
};

}  // namespace wattle::green
