// A training that is interrupted, saved, moved to other threads or continued gives the same bits as
// one that was left alone.
#include "green/trainer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/parallel.h"
#include "core/rng.h"
#include "data/safetensors.h"
#include "tests/data_files.h"

namespace wattle::green {
namespace {

using testing::expect_error;
using testing::Folder;

data::Dataset images(int64_t n, uint64_t seed = 5) {
  data::Dataset d{"fashion-mnist", Tensor::empty({n, 1, 28, 28}, DType::u8),
                  Tensor::empty({n}, DType::u8), 10};
  for (int64_t i = 0; i < d.images.numel(); ++i)
    d.images.data<uint8_t>()[i] =
        static_cast<uint8_t>(below_at(seed, static_cast<uint64_t>(i), 256));
  for (int64_t i = 0; i < n; ++i) d.labels.data<uint8_t>()[i] = static_cast<uint8_t>(i % 10);
  return d;
}

TrainOptions options(int epochs = 2) {
  TrainOptions o;
  o.epochs = epochs;
  o.batch = 32;
  return o;
}

/// Weights, statistics and optimiser state as bytes.
std::string bytes_of(Trainer& t) {
  std::string s;
  for (const nn::StateDict& state : {t.net().state_dict(), t.optimizer().state_dict()})
    for (const nn::Named& n : state)
      s.append(static_cast<const char*>(n.tensor.raw()), static_cast<size_t>(n.tensor.nbytes()));
  return s;
}

/// Losses of at most `steps` steps.
std::vector<float> run(Trainer& t, int64_t steps = 1 << 20) {
  std::vector<float> losses;
  for (int64_t i = 0; i < steps; ++i) {
    const auto loss = t.step();
    if (!loss) break;
    losses.push_back(*loss);
  }
  return losses;
}

class Threads {
 public:
  explicit Threads(int n) : saved_(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(saved_); }

 private:
  int saved_;
};

// 100 images in batches of 32: 4 steps an epoch, the last one short.
TEST(Trainer, ResumesBitByBitAtEveryStep) {
  const Folder dir;
  for (const int threads : {1, 2}) {
    const Threads use(threads);
    Trainer whole(options(), images(100));
    const auto losses = run(whole);
    ASSERT_EQ(losses.size(), 8u);
    EXPECT_EQ(whole.epoch(), 2);
    for (const int64_t stop : {1, 3, 4, 6}) {  // 4 is the end of an epoch
      auto first = std::make_unique<Trainer>(options(), images(100));
      const auto before = run(*first, stop);
      first->save(dir / "state.safetensors", {{"note", "kept"}});
      const Generator numbers = default_generator();
      run(*first, 1);  // what happens after the save is lost
      first.reset();
      Trainer second(options(), images(100));
      run(second, 2);
      manual_seed(999);
      EXPECT_EQ(second.load(dir / "state.safetensors").at("note"), "kept");
      EXPECT_EQ(second.steps(), stop);
      EXPECT_EQ(default_generator(), numbers);
      const auto after = run(second);
      ASSERT_EQ(before.size() + after.size(), losses.size());
      for (size_t i = 0; i < losses.size(); ++i)
        EXPECT_EQ(i < before.size() ? before[i] : after[i - before.size()], losses[i]) << i;
      EXPECT_TRUE(bytes_of(second) == bytes_of(whole)) << "stopped after " << stop;
    }
  }
}

TEST(Trainer, SameBitsWithOneAndTwoThreadsAndInEveryRun) {
  std::vector<std::string> results;
  for (const int threads : {1, 2, 1}) {
    const Threads use(threads);
    Trainer t(options(), images(100));
    run(t);
    results.push_back(bytes_of(t));
  }
  EXPECT_TRUE(results[0] == results[1]);
  EXPECT_TRUE(results[0] == results[2]);
  TrainOptions other = options();
  other.seed = 1;
  Trainer t(other, images(100));
  run(t);
  EXPECT_FALSE(results[0] == bytes_of(t));
}

TEST(Trainer, SavingTwiceGivesTheSameFile) {
  const Folder dir;
  Trainer t(options(), images(64));
  run(t, 1);
  t.save(dir / "a"), t.save(dir / "b");
  EXPECT_TRUE(testing::slurp(dir / "a") == testing::slurp(dir / "b"));
}

TEST(Trainer, AnEndedTrainingGoesOnForMoreEpochs) {
  for (const bool frozen : {false, true}) {
    const Folder dir;
    TrainOptions one = options(1), three = options(3);
    one.frozen_batches = three.frozen_batches = frozen;
    Trainer whole(three, images(64)), first(one, images(64)), second(three, images(64));
    run(whole);
    run(first);
    first.save(dir / "state");
    second.load(dir / "state");
    EXPECT_EQ(run(second).size(), 4u);
    EXPECT_TRUE(bytes_of(second) == bytes_of(whole)) << "frozen " << frozen;
  }
}

TEST(Trainer, CheckpointOfAnotherTrainingIsRefused) {
  const Folder dir;
  Trainer t(options(), images(64));
  run(t, 1);
  t.save(dir / "state");
  struct Other {
    TrainOptions options;
    int64_t rows;
    std::string found, expected;
  };
  std::vector<Other> others;
  auto add = [&](const char* found, const char* expected, auto change) {
    Other o{options(), 64, found, expected};
    change(o);
    others.push_back(o);
  };
  add("seed 0", "seed 4", [](Other& o) { o.options.seed = 4; });
  add("lr 0.001", "lr 0.002", [](Other& o) { o.options.lr = 0.002; });
  add("batch 32", "batch 16", [](Other& o) { o.options.batch = 16; });
  add("rows 64", "rows 60", [](Other& o) { o.rows = 60; });
  add("optimizer adam", "optimizer sgd", [](Other& o) { o.options.optimizer = "sgd"; });
  add("linear 3", "linear 2", [](Other& o) { o.options.net.linear = 2; });
  add("shuffle 1", "shuffle 0", [](Other& o) { o.options.shuffle = false; });
  for (const Other& o : others) {
    Trainer other(o.options, images(o.rows));
    const std::string before = bytes_of(other);
    expect_error<value_error>([&] { other.load(dir / "state"); },
                              {"state: belongs to another training", o.found, o.expected});
    EXPECT_TRUE(bytes_of(other) == before);
    EXPECT_EQ(other.steps(), 0);
  }
}

// A file with the right description and damaged contents: nothing may be half loaded.
TEST(Trainer, DamagedCheckpointChangesNothing) {
  const Folder dir;
  Trainer t(options(), images(64));
  run(t, 1);
  t.save(dir / "state");
  const std::string sound = testing::slurp(dir / "state");
  Trainer other(options(), images(64));
  run(other, 3);
  const std::string before = bytes_of(other);

  const auto refuse = [&](const std::string& path, const std::vector<std::string>& parts) {
    expect_error<error>([&] { other.load(path); }, parts);
    EXPECT_TRUE(bytes_of(other) == before) << path;
    EXPECT_EQ(other.steps(), 3);
  };
  refuse(dir.file("cut", sound.substr(0, sound.size() - 5)),
         {"cut: ", "data_offsets", "bytes of data"});
  refuse(dir / "nowhere", {"nowhere", "No such file"});
  const io::SafetensorsFile file = io::read_safetensors(dir / "state");
  const auto with = [&](const std::string& name, const std::string& changed, const Tensor& value) {
    io::SafetensorsFile f;
    f.metadata = file.metadata;
    for (const auto& [n, tensor] : file.tensors)
      if (n != changed) f.add(n, tensor);
    if (value) f.add(changed, value);
    io::write_safetensors(dir / name, f);
    return dir / name;
  };
  const std::string moment = "optimizer.linear3.bias.exp_avg";
  refuse(with("a", moment, {}), {"/a: adam", "linear3.bias.exp_avg", "missing"});
  refuse(with("b", moment, Tensor::ones({10}, DType::f64)), {"/b: adam", "f64 [10]", "f32 [10]"});
  refuse(with("c", "model.bn1.bias", Tensor::ones({4})), {"/c: ", "bn1.bias", "[4]", "[3]"});
  refuse(with("d", "state", Tensor::zeros({3}, DType::i64)), {"/d: state has 3 entries", "7"});
  refuse(with("e", "state", Tensor::full({7}, 77, DType::i64)), {"/e: loader", "position 77"});
  refuse(with("f", "state", {}), {"/f: found no tensor 'state'"});

  Trainer whole(options(), images(64));
  run(whole);
  run(other);  // goes on as if nothing had been tried
  EXPECT_TRUE(bytes_of(other) == bytes_of(whole));
}

TEST(Trainer, EvaluationLeavesNoTrace) {
  for (const bool whole_test_set : {false, true}) {
    TrainOptions o = options();
    o.batch_statistics_at_test = whole_test_set;
    Trainer plain(o, images(64)), watched(o, images(64));
    run(plain);
    counters() = Counters();
    run(watched, 2);
    const Row before = counters().total();
    const Evaluation e = watched.evaluate(images(50, 6));
    EXPECT_GE(e.accuracy, 0);
    EXPECT_GT(e.loss, 0);
    EXPECT_EQ(counters().total().cost, before.cost);
    EXPECT_EQ(counters().total().calls, before.calls);
    run(watched);
    EXPECT_TRUE(bytes_of(watched) == bytes_of(plain));
  }
}

TEST(Trainer, OptionsThatMakeNoSense) {
  const auto refuse = [](auto change, const std::vector<std::string>& parts) {
    TrainOptions o = options();
    change(o);
    expect_error<value_error>([&] { Trainer(o, images(20)); }, parts);
  };
  refuse([](TrainOptions& o) { o.epochs = 0; }, {"--epochs: found 0"});
  refuse([](TrainOptions& o) { o.batch = -1; }, {"--batch: found -1"});
  refuse([](TrainOptions& o) { o.lr = 0; }, {"--lr: found 0"});
  refuse([](TrainOptions& o) { o.schedule = "zigzag"; }, {"--schedule", "'zigzag'", "cosine"});
  refuse([](TrainOptions& o) { o.optimizer = "lion"; }, {"optimizer", "'lion'"});
  refuse([](TrainOptions& o) { o.net.conv = 5; }, {"--conv: found 5", "28 x 28"});
  refuse([](TrainOptions& o) { o.net.linear = 0; }, {"--linear: found 0"});
  refuse([](TrainOptions& o) { o.net.net = "mlp"; }, {"--net", "'mlp'", "densepoly"});
  refuse([](TrainOptions& o) { o.drop_last = true; }, {"20 rows", "32"});
}

}  // namespace
}  // namespace wattle::green
