// Experts shared out over ranks, which are threads here: the same losses as one process, experts'
// bytes divided, and a checkpoint that continues bit for bit.
#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>

#include "core/counters.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/atomic_file.h"
#include "green/lm_trainer.h"
#include "moe/exchange.h"

namespace wattle::green {
namespace {

// What the ranks of a test share.
struct Board {
  explicit Board(int n)
      : ranks(n), pointers(static_cast<size_t>(n)), counts(pointers.size()), barrier(n) {}
  int ranks;
  std::vector<const void*> pointers;
  std::vector<const int64_t*> counts;
  std::barrier<> barrier;
};

class ThreadGroup final : public moe::Group {
 public:
  ThreadGroup(Board& b, int rank) : b_(b), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return b_.ranks; }
  void all_to_all(const void* send, const int64_t* send_rows, void* recv, const int64_t* recv_rows,
                  int64_t width, int64_t bytes) override {
    post(send, send_rows);
    auto* to = static_cast<char*>(recv);
    for (int r = 0; r < b_.ranks; ++r) {
      int64_t before = 0;
      for (int k = 0; k < rank_; ++k) before += b_.counts[static_cast<size_t>(r)][k];
      const int64_t row = width * bytes, n = recv_rows[r];
      EXPECT_EQ(n, b_.counts[static_cast<size_t>(r)][rank_]);
      std::memcpy(to, static_cast<const char*>(b_.pointers[static_cast<size_t>(r)]) + before * row,
                  static_cast<size_t>(n * row));
      to += n * row;
      if (r != rank_) bytes_sent += send_rows[r] * row;
    }
    b_.barrier.arrive_and_wait();
  }
  void all_gather(const int64_t* send, int64_t n, int64_t* recv) override {
    post(send, nullptr);
    for (int r = 0; r < b_.ranks; ++r)
      std::memcpy(recv + r * n, b_.pointers[static_cast<size_t>(r)],
                  static_cast<size_t>(n) * sizeof(int64_t));
    b_.barrier.arrive_and_wait();
  }
  void all_reduce(float* data, int64_t n) override { reduce(data, n); }
  void all_reduce(double* data, int64_t n) override { reduce(data, n); }

 private:
  void post(const void* p, const int64_t* c) {
    ++calls;
    b_.pointers[static_cast<size_t>(rank_)] = p, b_.counts[static_cast<size_t>(rank_)] = c;
    b_.barrier.arrive_and_wait();
  }
  template <class T>
  void reduce(T* data, int64_t n) {
    post(data, nullptr);
    std::vector<T> sum(static_cast<size_t>(n));
    for (const void* p : b_.pointers)
      for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] += static_cast<const T*>(p)[i];
    b_.barrier.arrive_and_wait();
    std::copy(sum.begin(), sum.end(), data);
    b_.barrier.arrive_and_wait();
  }
  Board& b_;
  int rank_;
};

std::shared_ptr<TextStream> text() {
  static const auto stream = [] {
    const std::string path = testing::TempDir() + "ranks.txt";
    std::string s;
    for (uint64_t i = 0; s.size() < 60 * 4096; ++i)
      s += str("item ", static_cast<int64_t>(below_at(1, i, 53)), "; ");
    io::write_file(path, s);
    return std::make_shared<TextStream>(make_text_stream({path}));
  }();
  return stream;
}

LmTrainOptions options() {
  LmTrainOptions o;
  o.model = {.layers = 2, .d_model = 32, .heads = 2, .context = 16};
  moe::MoEConfig c{.d_model = 32,
                   .d_ff = 32,
                   .experts = 4,
                   .top_k = 2,
                   .segments = 2,
                   .shared = 1};  // 7 routed experts
  c.aux_alpha = 0.01, c.z_loss = 0.001, c.bias_update_rate = 0.001;
  o.model.moe = c;
  o.steps = 50, o.batch = 8, o.length = 16, o.warmup = 5, o.seed = 2;
  return o;
}

struct Outcome {
  std::vector<double> losses;
  int64_t parameters = 0, bytes_sent = 0;
  std::vector<double> up;  // first expert matrix of rank 0
};

// Rank `rank` of several; `from` and `to`: steps, with a checkpoint in `dir` between them.
Outcome train(const std::string& dir, int64_t stop_after) {
  LmTrainer t(options(), text());
  Outcome out;
  if (!dir.empty()) t.load_checkpoint(dir);
  while (t.steps() < stop_after)
    if (const auto loss = t.step()) out.losses.push_back(*loss);
  if (!dir.empty()) t.save_checkpoint(dir);
  out.parameters = t.model().parameter_count();
  out.bytes_sent = moe::world().bytes_sent;
  out.up = moe::moe_layers(t.model())[0]->up.values<double>();
  return out;
}

Outcome on_ranks(int ranks, const std::string& dir = "", int64_t stop_after = 50) {
  Board board(ranks);
  std::vector<Outcome> outs(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      moe::set_world(std::make_shared<ThreadGroup>(board, r));
      outs[static_cast<size_t>(r)] = train(dir, stop_after);
      moe::set_world(nullptr);
    });
  for (std::thread& t : threads) t.join();
  for (const Outcome& o : outs) EXPECT_EQ(o.losses, outs[0].losses);
  return outs[0];
}

TEST(Ranks, TwoAndFourGiveTheLossesOfOne) {
  const Outcome one = train("", 50);
  ASSERT_EQ(one.losses.size(), 50u);
  EXPECT_LT(one.losses.back(), one.losses.front() - 1);
  for (const int ranks : {2, 4}) {
    const Outcome many = on_ranks(ranks);
    ASSERT_EQ(many.losses.size(), 50u);
    for (size_t i = 0; i < 50; ++i)
      EXPECT_NEAR(many.losses[i], one.losses[i], 1e-5) << ranks << " ranks, step " << i;
    EXPECT_GT(many.bytes_sent, 0);
    EXPECT_EQ(many.up.size(), one.up.size() / 7 * static_cast<size_t>(7 / ranks));  // of rank 0
    EXPECT_LT(many.parameters, one.parameters);
  }
}

TEST(Ranks, ACheckpointContinuesBitForBit) {
  for (const int ranks : {1, 2}) {
    const std::string dir = testing::TempDir() + str("ranks-checkpoint-", ranks);
    std::remove((dir + "/latest").c_str());
    const Outcome whole = on_ranks(ranks, "", 20);
    on_ranks(ranks, dir, 12);
    const Outcome rest = on_ranks(ranks, dir, 20);
    ASSERT_EQ(rest.losses.size(), 8u);
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(rest.losses[i], whole.losses[12 + i]) << i;
    EXPECT_EQ(rest.up, whole.up);
  }
  // A checkpoint of two ranks is not one of a single process.
  LmTrainer alone(options(), text());
  EXPECT_THROW(alone.load_checkpoint(testing::TempDir() + "ranks-checkpoint-2"), value_error);
}

TEST(Ranks, AreNotMoreThanExpertsAndDivideTheBatch) {
  Board board(8), three(3);
  moe::set_world(std::make_shared<ThreadGroup>(board, 0));
  EXPECT_THROW(moe::MoE(*options().model.moe), value_error);
  moe::set_world(std::make_shared<ThreadGroup>(three, 0));
  EXPECT_THROW(LmTrainer(options(), text()), value_error);
  moe::set_world(nullptr);
}

}  // namespace
}  // namespace wattle::green
