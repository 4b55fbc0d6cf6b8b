// The layer-cost study: a small one that is interrupted and goes on, what it writes and refuses,
// and the two protocols.
#include "green/study.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/parallel.h"
#include "core/rng.h"
#include "green/study_files.h"
#include "green/trainer.h"
#include "tests/data_files.h"

namespace wattle::green {
namespace {

using testing::expect_error;
using testing::Folder;

TEST(Study, ALostLayerRowIsFound) {
  StudyResult s;
  const NetKey key{"cnn", 3, 1, 1};
  StudyRun run{.dataset = "fashion-mnist", .key = key};
  run.flops_weighted = 10, run.flops_all = 12, run.bytes = 7;
  run.joules = {5, 1, JouleKind::modelled_table, "t"};
  s.runs.push_back(run);
  const LayerRow row{.key = key,
                     .layer = "conv1",
                     .flops_weighted = 10,
                     .flops_all = 12,
                     .bytes_read = 4,
                     .bytes_written = 3,
                     .joules = run.joules};
  s.layers.push_back(row);
  EXPECT_TRUE(check_conservation(s).empty());
  for (const auto field :
       {&LayerRow::flops_weighted, &LayerRow::flops_all, &LayerRow::bytes_read}) {
    ++(s.layers[0].*field);
    EXPECT_EQ(check_conservation(s).size(), 1u);
    s.layers[0] = row;
  }
  ++s.layers[0].joules.uj;
  ASSERT_EQ(check_conservation(s).size(), 1u);
  EXPECT_NE(check_conservation(s)[0].find("CNN 3,1 ReLU: the layers hold 6 uJ, the runs 5"),
            std::string::npos);
}

// ---- A small study ------------------------------------------------------------------------------
constexpr uint32_t train_rows = 120, test_rows = 40;

std::string idx_random_images(uint32_t n, uint64_t seed) {
  std::string s = testing::idx_images(n, 28, 28);
  for (size_t i = 16; i < s.size(); ++i) s[i] = static_cast<char>(below_at(seed, i, 256));
  return s;
}

struct Files {
  Folder dir;
  Files() {
    dir.file("data/train-images-idx3-ubyte.gz", testing::gz(idx_random_images(train_rows, 1)));
    dir.file("data/train-labels-idx1-ubyte", testing::idx_labels(train_rows));
    dir.file("data/t10k-images-idx3-ubyte", idx_random_images(test_rows, 2));
    dir.file("data/t10k-labels-idx1-ubyte", testing::idx_labels(test_rows));
  }
  StudyOptions options(const std::string& out) const {
    StudyOptions o;
    o.epochs = 2;
    o.data_dir = dir / "data";
    o.out = dir / out;
    o.batch = 32;
    o.seeds = 2;
    o.nets = parse_nets("cnn311,densepoly3");
    return o;
  }
};

struct Stopper {
  std::atomic<bool> stop{false};
  int calls_left = -1;
  static void progress(void* self, const StudyProgress& p) {
    auto& s = *static_cast<Stopper*>(self);
    EXPECT_GE(p.runs, p.run);
    EXPECT_LE(p.step, p.steps);
    if (s.calls_left > 0 && --s.calls_left == 0) s.stop = true;
  }
};

StudyResult run(const StudyOptions& o, int stop_after_calls = -1) {
  Stopper s;
  s.calls_left = stop_after_calls;
  return run_study(o, s.stop, Stopper::progress, &s);
}

/// Everything but dates and times, as text.
std::string without_times(StudyResult s) {
  s.settings.date.clear();
  for (StudyRun& r : s.runs) r.seconds = 0;
  for (LayerRow& r : s.layers) r.ms = 0;
  for (EpochPoint& p : s.curves) p.seconds = 0;
  return study_json(s);
}

TEST(Study, InterruptedOneEndsLikeOneThatWasNot) {
  const Files files;
  const StudyResult whole = run(files.options("whole"));
  ASSERT_EQ(whole.runs.size(), 4u);
  EXPECT_EQ(whole.curves.size(), 8u);
  EXPECT_EQ(check_conservation(whole), std::vector<std::string>{});

  size_t done = 0;
  int sessions = 0;
  StudyResult last;
  for (const int stop_after : {1, 3, 4, 2, -1}) {  // progress is reported twice an epoch
    last = run(files.options("parts"), stop_after);
    EXPECT_GE(last.runs.size(), done);
    EXPECT_EQ(check_conservation(last), std::vector<std::string>{});
    done = last.runs.size();
    ++sessions;
    if (sessions == 1) { EXPECT_EQ(done, 0u) << "a run counts whole or not at all"; }
  }
  EXPECT_EQ(without_times(last), without_times(whole));
  StudyResult read;
  ASSERT_TRUE(read_study(files.dir / "parts", read));
  EXPECT_EQ(without_times(read), without_times(whole));
  EXPECT_EQ(without_times(run(files.options("parts"))), without_times(whole)) << "nothing is left";
}

TEST(Study, SameRunsWithOneAndTwoThreads) {
  const Files files;
  const int saved = num_threads();
  StudyResult results[2];
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    StudyOptions o = files.options(str("t", threads));
    o.seeds = 1;
    results[threads - 1] = run(o);
    results[threads - 1].settings.threads = 0;
  }
  set_num_threads(saved);
  EXPECT_EQ(without_times(results[0]), without_times(results[1]));
}

TEST(Study, FilesHoldWhatWasRun) {
  const Files files;
  StudyOptions o = files.options("out");
  o.seeds = 1;
  o.rows = 64;
  const StudyResult r = run(o);
  const auto runs = parse_csv(testing::slurp(files.dir / "out/runs.csv"));
  ASSERT_EQ(runs.size(), 3u);
  const std::vector<std::string> head{"dataset", "net",    "linear",    "conv",       "relu",
                                      "seed",    "epochs", "rows",      "accuracy",   "flops",
                                      "seconds", "joules", "joules_sd", "joules_kind"};
  ASSERT_GE(runs[0].size(), head.size());
  EXPECT_TRUE(std::equal(head.begin(), head.end(), runs[0].begin()));
  EXPECT_EQ(runs[1][7], "64");
  // Two steps of 32 images in each of two epochs, weighted FLOPs of both directions. The nets run
  // in an order of their own.
  std::map<std::string, std::string> flops;
  for (size_t i = 1; i < runs.size(); ++i) flops[runs[i][1]] = runs[i][9];
  EXPECT_EQ(flops["cnn"], std::to_string(2 * 64 * (660'912 + 1'279'488)));
  EXPECT_EQ(flops["densepoly"], std::to_string(2 * 64 * (772'240 + 929'824)));
  EXPECT_EQ(runs[1][13], "modelled_table");
  std::map<std::string, int> phases;
  for (const auto& row : parse_csv(testing::slurp(files.dir / "out/layers.csv"))) ++phases[row[6]];
  for (const char* p : {"forward", "backward", "optimizer", "data"}) EXPECT_GT(phases[p], 0) << p;
  const std::string report = testing::slurp(files.dir / "out/report.html");
  EXPECT_NE(report.find("<svg"), std::string::npos);
  EXPECT_NE(report.find("modelled"), std::string::npos);
  EXPECT_EQ(r.settings.rows, 64);
}

TEST(Study, OtherSettingsAreRefusedAndTheStudyKept) {
  const Files files;
  StudyOptions o = files.options("out");
  o.seeds = 1;
  o.nets = parse_nets("densepoly1");
  run(o);
  const std::string before = testing::slurp(files.dir / "out/study.json");
  const auto refuse = [&](auto change, const std::string& difference) {
    StudyOptions other = o;
    change(other);
    expect_error<value_error>([&] { run(other); },
                              {"other settings", difference, "another folder"});
  };
  refuse([](StudyOptions& x) { x.epochs = 3; }, "epochs: 2 before, 3 now");
  refuse([](StudyOptions& x) { x.batch = 16; }, "batch: 32 before, 16 now");
  refuse([](StudyOptions& x) { x.lr = 0.5; }, "lr: 0.003 before, 0.5 now");
  refuse([](StudyOptions& x) { x.rows = 100; }, "rows: 120 before, 100 now");
  refuse([](StudyOptions& x) { x.protocol = "as-published"; }, "protocol: fixed before");
  EXPECT_EQ(testing::slurp(files.dir / "out/study.json"), before);
  o.seeds = 2;  // more of the same is no other study
  EXPECT_EQ(run(o).runs.size(), 2u);
}

TEST(Study, BadOptionsAndFolders) {
  const Files files;
  const auto refuse = [&](auto change, const std::vector<std::string>& parts) {
    StudyOptions o = files.options("out");
    change(o);
    expect_error<error>([&] { run(o); }, parts);
  };
  refuse([](StudyOptions& o) { o.rows = 0; }, {"--rows: found 0"});
  refuse([](StudyOptions& o) { o.rows = 9; }, {"9", "10"});
  refuse([](StudyOptions& o) { o.seeds = 0; }, {"--seeds: found 0"});
  refuse([](StudyOptions& o) { o.epochs = 0; }, {"--epochs: found 0"});
  refuse([](StudyOptions& o) { o.protocol = "mended"; }, {"--protocol", "'mended'"});
  refuse([](StudyOptions& o) { o.data_dir += "/none"; }, {"fashion-mnist", "not found"});
  refuse([&](StudyOptions& o) { o.out = files.dir.file("file", "x") + "/out"; },
         {"file/out", "cannot make the folder"});
  files.dir.file("broken/study.json", "{\"settings\": ");
  refuse([&](StudyOptions& o) { o.out = files.dir / "broken"; }, {"broken/study.json"});
  expect_error<value_error>([] { parse_nets("cnn311,cnn39"); }, {"--nets", "'cnn39'"});
  refuse([](StudyOptions& o) { o.nets = parse_nets("densepoly99"); }, {"--linear: found 99"});
  refuse([](StudyOptions& o) { o.nets = parse_nets("cnn351"); }, {"--conv: found 5", "28 x 28"});
  EXPECT_EQ(parse_nets("cnn341,cnn,cnn341").size(), 8u) << "each net once";
}

// ---- The protocols ------------------------------------------------------------------------------
Tensor pixels(const Shape& shape, uint64_t seed) {
  Tensor t = Tensor::empty(shape, DType::u8);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<uint8_t>()[i] = static_cast<uint8_t>(below_at(seed, static_cast<uint64_t>(i), 256));
  return t;
}

Tensor labels(int64_t n) {
  Tensor t = Tensor::empty({n}, DType::i64);
  for (int64_t i = 0; i < n; ++i) t.data<int64_t>()[i] = i % 10;
  return t;
}

// At a learning rate that changes no bit of a weight, a loss is a fingerprint of its batch.
std::vector<float> batch_marks(bool frozen, uint64_t seed) {
  TrainOptions o;
  o.net = {"densepoly", 2};
  o.batch = 20, o.epochs = 3, o.lr = 1e-30, o.seed = seed;
  o.frozen_batches = frozen;
  Trainer t(o, {"fashion-mnist", pixels({100, 1, 28, 28}, 3), labels(100), 10});
  std::vector<float> losses;
  while (const auto loss = t.step()) losses.push_back(*loss);
  return losses;
}

TEST(Protocol, FixedReshufflesAndAsPublishedFreezesTheBatches) {
  const auto fixed = batch_marks(false, 0), frozen = batch_marks(true, 0);
  ASSERT_EQ(fixed.size(), 15u);
  const auto epoch = [](const std::vector<float>& v, size_t e) {
    const auto at = v.begin() + static_cast<ptrdiff_t>(5 * e);
    return std::vector<float>(at, at + 5);
  };
  const auto sorted = [&](size_t e) {
    auto v = epoch(fixed, e);
    std::sort(v.begin(), v.end());
    return v;
  };
  EXPECT_EQ(epoch(frozen, 0), epoch(frozen, 1));
  EXPECT_EQ(epoch(frozen, 0), epoch(frozen, 2));
  EXPECT_EQ(epoch(frozen, 0), epoch(fixed, 0));
  EXPECT_NE(sorted(0), sorted(1)) << "other batches, not the same ones in another order";
  EXPECT_NE(sorted(1), sorted(2));
  EXPECT_EQ(fixed, batch_marks(false, 0));
}

TEST(Protocol, TheStudyUsesThem) {
  const Files files;
  for (const std::string protocol : {"fixed", "as-published"}) {
    StudyOptions o = files.options(protocol);
    o.protocol = protocol;
    o.seeds = 1, o.lr = 1e-30;
    o.nets = parse_nets("densepoly2");
    const StudyResult r = run(o);
    ASSERT_EQ(r.curves.size(), 2u);
    EXPECT_EQ(r.curves[0].train_loss == r.curves[1].train_loss, protocol == "as-published");
    EXPECT_EQ(r.settings.oddities.empty(), protocol == "fixed");
    o.lr = 0;
    o.out += "-lr";
    EXPECT_EQ(run(o).settings.lr, protocol == "fixed" ? 3e-3 : 3e-4);
  }
}

}  // namespace
}  // namespace wattle::green
