// Two ways to do the same thing, timed in turn: A B A B ...; medians and their ratio.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/callable.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "tools/cli.h"

namespace wattle::cli {

using Work = Callable<void()>;

inline double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One comparison: medians of `ours` and `other`, timed in turn, and how one stands to the other.
struct Line {
  std::string what, against;
  double ours = 0, other = 0, ratio = 0, wanted = 0;
  bool at_most = true;  ///< the ratio is to stay below `wanted`; else above
  bool holds() const { return at_most ? ratio <= wanted : ratio >= wanted; }
};

// What an order asks for: so many timed runs of something.
struct Timed {
  int runs = 0;
  std::function<void()> run;
};

// The worker's side of a comparison with another program, which interleaves the two: says what it
// is, then answers every line of standard input with milliseconds, until `quit`. `parse` reads an
// order of the form `expected`, and returns no run for anything else.
inline void serve_orders(const char* expected,
                         const std::function<Timed(std::istringstream&)>& parse) {
  std::printf(
      "ready {\"name\": \"wattle\", \"version\": \"0.1.0\", \"threads\": %d, \"simd\": \"%s\"}\n",
      num_threads(), simd::level_name(simd::level()));
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    try {
      std::istringstream words(line);
      const Timed t = parse(words);
      if (!t.run || t.runs < 1)
        throw value_error(str("found '", line, "', expected '", expected, "'"));
      std::vector<double> ms;
      for (int i = -2; i < t.runs; ++i) {
        const double s = seconds(t.run);
        if (i >= 0) ms.push_back(s * 1e3);
      }
      std::sort(ms.begin(), ms.end());
      std::printf("ms median %.6f min %.6f\n", ms[ms.size() / 2], ms[0]);
    } catch (const std::exception& e) { std::printf("error %s\n", e.what()); }
    std::fflush(stdout);
  }
}

class Bench {
 public:
  explicit Bench(int repeats) : repeats_(repeats) {}
  // ratio = ours / other where it is to be small, other / ours where it is to be large
  void compare(const std::string& what, const Work& ours, const std::string& against,
               const Work& other, double wanted, bool at_most) {
    std::vector<double> a, b;
    ours();
    const int n = std::max(repeats_, std::min(1000, static_cast<int>(kLong / seconds(other))));
    for (int i = 0; i < n; ++i) {
      a.push_back(seconds(ours));
      b.push_back(seconds(other));
    }
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    Line l{what, against, a[a.size() / 2], b[b.size() / 2]};
    l.ratio = at_most ? l.ours / l.other : l.other / l.ours;
    l.wanted = wanted;
    l.at_most = at_most;
    lines.push_back(l);
  }
  std::vector<Line> lines;

  void print(bool as_json) const {
    if (as_json) return print_json();
    std::printf("%s, %d thread%s, medians of at least %d in turn\n",
                simd::level_name(simd::level()), num_threads(), num_threads() == 1 ? "" : "s",
                repeats_);
    for (const Line& l : lines)
      std::printf("%s%10.3f ms  %s%10.3f ms  %7.2fx  (%s %g)%s\n", cell(l.what, 32).c_str(),
                  l.ours * 1e3, cell(l.against, 18).c_str(), l.other * 1e3, l.ratio,
                  l.at_most ? "at most" : "at least", l.wanted, l.holds() ? "" : "  short of it");
  }

 private:
  void print_json() const {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const Line& l : lines)
      all.push_back({{"what", l.what},
                     {"against", l.against},
                     {"seconds", l.ours},
                     {"seconds_against", l.other},
                     {"ratio", l.ratio},
                     {"wanted", l.wanted},
                     {"at_most", l.at_most},
                     {"holds", l.holds()}});
    const nlohmann::ordered_json j{
        {"isa", simd::level_name(simd::level())}, {"threads", num_threads()}, {"lines", all}};
    std::printf("%s\n", j.dump(1).c_str());
  }
  // Microseconds need more repeats than milliseconds for a median to mean anything.
  static constexpr double kLong = 50e-3;  // seconds of the other side
  int repeats_;
};

}  // namespace wattle::cli
