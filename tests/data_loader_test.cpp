// The loader: order, resuming, prefetching that changes nothing, counting, and errors that travel.
#include <set>
#include <vector>

#include "data/loader.h"
#include "data_files.h"

namespace wattle {
namespace {

using data::Batch;
using data::DataLoader;
using data::Dataset;
using data::LoaderOptions;
using data::LoaderState;
using wattle::testing::expect_error;

// Row i shows the pixel i mod 256 and carries the label i mod 7.
Dataset rows(int n) {
  std::vector<uint8_t> pixels, labels;
  for (int i = 0; i < n; ++i) {
    pixels.insert(pixels.end(), 6, static_cast<uint8_t>(i));
    labels.push_back(static_cast<uint8_t>(i % 7));
  }
  return {"rows", Tensor::from(pixels, {n, 1, 2, 3}), Tensor::from(labels, {n}), 7};
}

// First pixel of every row of a batch, after checking that the whole row and its label agree.
std::vector<int> read(const Batch& b) {
  const std::vector<int> p = b.images.values<int>();
  const std::vector<int64_t> l = b.labels.values<int64_t>();
  EXPECT_EQ(b.labels.dtype(), DType::i64);
  std::vector<int> first;
  for (size_t i = 0; i < l.size(); ++i) {
    for (size_t k = 1; k < 6; ++k) EXPECT_EQ(p[6 * i + k], p[6 * i]);
    EXPECT_EQ(p[6 * i] % 7, l[i]);
    first.push_back(p[6 * i]);
  }
  return first;
}

std::vector<std::vector<int>> epoch(DataLoader& l) {
  std::vector<std::vector<int>> out;
  for (const Batch& b : l) out.push_back(read(b));
  return out;
}

TEST(Permutation, IsOneAndDependsOnSeedAndStream) {
  for (int64_t n : {0, 1, 2, 1000}) {
    const auto p = data::permutation(n, 5, 1);
    EXPECT_EQ(std::set<int64_t>(p.begin(), p.end()).size(), static_cast<size_t>(n));
  }
  EXPECT_EQ(data::permutation(50, 5, 1), data::permutation(50, 5, 1));
  EXPECT_NE(data::permutation(50, 5, 1), data::permutation(50, 5, 2));
  EXPECT_NE(data::permutation(50, 5, 1), data::permutation(50, 6, 1));
}

TEST(Permutation, IsUniform) {
  // Where number 0 of 4 ends up: chi-square with 3 degrees of freedom, 99.9 % below 16.3.
  int count[4] = {};
  for (uint64_t s = 0; s < 4000; ++s) {
    const auto p = data::permutation(4, 1, s);
    for (size_t i = 0; i < 4; ++i) count[i] += p[i] == 0;
  }
  double chi = 0;
  for (int c : count) chi += (c - 1000.0) * (c - 1000.0) / 1000.0;
  EXPECT_LT(chi, 16.3);
}

TEST(Loader, FileOrder) {
  const Dataset d = rows(10);
  DataLoader l(d, {.batch = 4, .shuffle = false});
  const std::vector<std::vector<int>> expected{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}};
  EXPECT_EQ(epoch(l), expected);
  EXPECT_EQ(epoch(l), expected);
  EXPECT_EQ(l.batches(), 3);
  DataLoader full(d, {.batch = 4, .shuffle = false, .drop_last = true});
  EXPECT_EQ(epoch(full).size(), 2u);
  DataLoader view(d, {.batch = 4, .shuffle = false});
  EXPECT_EQ(view.next()->images.storage().data, d.images.storage().data);  // no copy was made
}

TEST(Loader, ShufflesEachEpochAnew) {
  DataLoader l(rows(100), {.batch = 8, .seed = 3}), same(rows(100), {.batch = 8, .seed = 3});
  DataLoader other(rows(100), {.batch = 8, .seed = 4});
  const auto first = epoch(l), second = epoch(l);
  EXPECT_NE(first, second);
  EXPECT_EQ(first, epoch(same));
  EXPECT_NE(first, epoch(other));
  std::set<int> seen;
  for (const auto& b : second) seen.insert(b.begin(), b.end());
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_EQ(second.back().size(), 4u);
  // The order is the permutation of (seed, epoch), whatever the batch size.
  const auto p = data::permutation(100, 3, 1);
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(second[i / 8][i % 8], p[i]);
}

TEST(Loader, PrefetchChangesNothing) {
  for (bool shuffle : {true, false}) {
    std::vector<std::vector<std::vector<int>>> runs;
    for (int prefetch : {0, 1, 2, 7, 100}) {
      DataLoader l(rows(53), {.batch = 5, .shuffle = shuffle, .seed = 9, .prefetch = prefetch});
      runs.push_back(epoch(l));
      runs.push_back(epoch(l));
    }
    for (size_t i = 2; i < runs.size(); ++i) EXPECT_EQ(runs[i], runs[i % 2]);
  }
}

TEST(Loader, ResumesInTheMiddleOfAnEpoch) {
  for (int prefetch : {0, 2}) {
    const LoaderOptions o{.batch = 5, .seed = 1, .prefetch = prefetch};
    DataLoader whole(rows(53), o);
    std::vector<std::vector<int>> all;
    std::vector<LoaderState> states;
    for (int e = 0; e < 2; ++e)
      while (true) {
        states.push_back(whole.state());
        const auto b = whole.next();
        if (!b) break;
        all.push_back(read(*b));
      }
    EXPECT_EQ(whole.state(), (LoaderState{2, 0}));
    DataLoader resumed(rows(53), o);
    for (const LoaderState& s : states) {
      resumed.set_state(s);
      EXPECT_EQ(resumed.state(), s);
      const auto b = resumed.next();
      if (s.position == whole.batches()) {
        EXPECT_FALSE(b);
        EXPECT_EQ(resumed.state(), (LoaderState{s.epoch + 1, 0}));
      } else {
        EXPECT_EQ(read(*b), all[static_cast<size_t>(s.epoch * 11 + s.position)]);
      }
    }
  }
}

TEST(Loader, CountsTheGatherAsData) {
  for (int prefetch : {0, 3}) {
    DataLoader l(rows(20), {.batch = 8, .prefetch = prefetch});
    counters().clear();
    {
      const Scope net("net");
      const auto b = l.next();
      ASSERT_EQ(b->cost.rows().size(), 2u);  // images u8 and labels i64
      EXPECT_EQ(b->cost.total().cost.written, 8 * 6 + 8 * 8);
    }
    ASSERT_EQ(counters().rows().size(), 2u);
    for (const Row& r : counters().rows()) {
      EXPECT_EQ(r.key.phase, Phase::data);
      EXPECT_EQ(counters().path(r.key.scope), "net.loader");
      EXPECT_EQ(r.cost.flops(), 0);
      EXPECT_EQ(r.calls, 1);
    }
    while (l.next()) {}
    EXPECT_EQ(counters().total().cost.written, 20 * 6 + 20 * 8);
    EXPECT_EQ(counters().total().calls, 6);
    counters().clear();
  }
}

TEST(Loader, MayBeDroppedAtAnyMoment) {
  const Dataset d = rows(200);
  for (int taken = 0; taken < 12; ++taken) {
    DataLoader l(d, {.batch = 10, .prefetch = 3});
    for (int i = 0; i < taken; ++i) (void)l.next();
    if (taken % 3 == 0) l.set_state({1, 19});
    if (taken % 4 == 0) (void)l.next();
  }
}

TEST(Loader, ErrorsOfTheThreadArriveHere) {
  for (int prefetch : {0, 2}) {
    Dataset d = rows(12);
    d.images = Tensor::empty({12, 1, 2, 3}, DType::u8, meta);  // the index is in host memory
    DataLoader l(d, {.batch = 4, .prefetch = prefetch});
    for (int i = 0; i < 3; ++i) {
      expect_error<device_error>([&] { (void)l.next(); }, {"index_select", "meta"});
      EXPECT_EQ(l.state(), LoaderState{});
    }
    EXPECT_TRUE(counters().path(counters().current).empty());  // no scope was left open
  }
}

TEST(Loader, RefusesWithAMessage) {
  const auto refuse = [](Dataset d, const LoaderOptions& o, const std::vector<std::string>& parts) {
    expect_error<error>([&] { DataLoader l(d, o); }, parts);
  };
  Dataset bad = rows(4);
  refuse({}, {}, {"loader: found images undefined, expected u8 [N, C, H, W]"});
  bad.images = Tensor::zeros({4, 1, 2, 3});
  refuse(bad, {}, {"loader: found images f32 [4, 1, 2, 3]"});
  bad = rows(4);
  bad.labels = Tensor::zeros({3}, DType::u8);
  refuse(bad, {}, {"loader: found labels u8 [3] for images u8 [4, 1, 2, 3], expected [4]"});
  refuse(rows(4), {.batch = 0}, {"found batch = 0, expected at least 1"});
  refuse(rows(4), {.prefetch = -1}, {"found prefetch = -1, expected at least 0"});
  refuse(rows(4), {.batch = 5, .drop_last = true}, {"found 4 rows, expected at least 5 for one"});
  Dataset none = rows(4);
  none.images = Tensor::empty({0, 1, 2, 3}, DType::u8);
  none.labels = Tensor::empty({0}, DType::u8);
  refuse(none, {}, {"found 0 rows, expected at least 1"});
  DataLoader l(rows(10), {.batch = 4});
  for (const LoaderState& s : {LoaderState{-1, 0}, LoaderState{0, -1}, LoaderState{0, 4}})
    expect_error<value_error>([&] { l.set_state(s); }, {"position from 0 to 3"});
}

}  // namespace
}  // namespace wattle
