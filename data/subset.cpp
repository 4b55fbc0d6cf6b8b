// Random orders and stratified subsets.
#include <algorithm>
#include <numeric>

#include "core/counters.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/dataset.h"
#include "ops/ops.h"

namespace wattle::data {
namespace {

// Streams above this one belong to classes; epochs of a loader count from zero.
constexpr uint64_t class_stream = uint64_t{1} << 63;

// A key of its own per (seed, stream), so that streams of one seed have nothing in common.
uint64_t key_of(uint64_t seed, uint64_t stream) {
  const auto r = philox(seed, stream, 0x7065726d);  // "perm"
  return uint64_t{r[0]} << 32 | r[1];
}

// How many rows of each class: the share n * count / total rounded down, and the rows left over go
// to the largest remainders.
std::vector<int64_t> quotas(const std::vector<int64_t>& count, int64_t n, int64_t total) {
  std::vector<int64_t> quota, remainder, order(count.size());
  for (int64_t c : count) {
    quota.push_back(n * c / total);
    remainder.push_back(n * c % total);
  }
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return remainder[static_cast<size_t>(a)] > remainder[static_cast<size_t>(b)];
  });
  int64_t left = n - std::accumulate(quota.begin(), quota.end(), int64_t{0});
  for (int64_t c : order) {
    if (left-- <= 0) break;
    ++quota[static_cast<size_t>(c)];
  }
  return quota;
}

}  // namespace

std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> p(static_cast<size_t>(n));
  std::iota(p.begin(), p.end(), 0);
  const uint64_t key = key_of(seed, stream);
  for (int64_t i = n - 1; i > 0; --i) {  // Fisher and Yates
    const uint64_t j = below_at(key, static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1);
    std::swap(p[static_cast<size_t>(i)], p[j]);
  }
  return p;
}

std::vector<int64_t> stratified_rows(const Dataset& d, int64_t n, uint64_t seed) {
  if (n < d.classes || n < 1 || n > d.rows())
    throw value_error(str("subset of ", d.name, ": found n = ", n, ", expected ",
                          std::max(1, d.classes), " (the number of classes) to ", d.rows(),
                          " (the number of rows)"));
  std::vector<std::vector<int64_t>> rows(static_cast<size_t>(d.classes));
  const std::vector<int64_t> labels = d.labels.values<int64_t>();
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= d.classes)
      throw value_error(str("subset of ", d.name, ": found label ", labels[i], " in row ", i,
                            ", expected one from 0 to ", d.classes - 1));
    rows[static_cast<size_t>(labels[i])].push_back(static_cast<int64_t>(i));
  }
  std::vector<int64_t> count;
  for (const auto& r : rows) count.push_back(static_cast<int64_t>(r.size()));
  const std::vector<int64_t> quota = quotas(count, n, d.rows());
  std::vector<int64_t> chosen;
  for (size_t c = 0; c < rows.size(); ++c) {
    const std::vector<int64_t> order = permutation(count[c], seed, class_stream + c);
    for (int64_t i = 0; i < quota[c]; ++i)
      chosen.push_back(rows[c][static_cast<size_t>(order[static_cast<size_t>(i)])]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

Dataset subset(const Dataset& d, int64_t n, uint64_t seed) {
  const std::vector<int64_t> rows = stratified_rows(d, n, seed);
  const PhaseScope phase(Phase::data);
  const Scope scope("subset");
  const Tensor index = Tensor::from(rows, {n});
  return {d.name, index_select(d.images, 0, index), index_select(d.labels, 0, index), d.classes};
}

}  // namespace wattle::data
