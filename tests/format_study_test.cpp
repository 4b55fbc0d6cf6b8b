// The study of number formats: what its report may claim, its files, and that it continues.
#include "green/format_study.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"
#include "data/atomic_file.h"
#include "green/format_page.h"

namespace wattle::green {
namespace {

FormatRun run(const std::string& precision, int64_t seed, double accuracy) {
  FormatRun r;
  r.net = "lenet5", r.precision = precision, r.seed = seed, r.accuracy = accuracy;
  r.seconds = 1, r.weight_bytes = 1000, r.bytes = 5000;
  r.joules = {1000, 10, JouleKind::modelled_table, "horowitz45"};
  return r;
}

FormatStudy study(int seeds, double f32, double sd, double posit16) {
  FormatStudy s;
  s.options.nets = {"lenet5"};
  s.options.seeds = seeds;
  for (int64_t i = 0; i < seeds; ++i) {
    const double shift = sd * (i % 2 ? 1 : -1);
    s.runs.push_back(run("f32", i, f32 + shift));
    s.runs.push_back(run("posit16", i, posit16 + shift));
  }
  return s;
}

bool says(const FormatStudy& s, const std::string& text) {
  return format_study_html(s).find(text) != std::string::npos;
}

// One seed shows "+4 points" for anything: the report must not.
TEST(FormatStudy, DifferencesNeedFiveSeedsAndMoreThanTheirSpread) {
  EXPECT_TRUE(says(study(1, 0.86, 0, 0.90), "too few seeds to say"));
  EXPECT_FALSE(says(study(1, 0.86, 0, 0.90), "+4.00 points"));
  EXPECT_TRUE(says(study(6, 0.86, 0.01, 0.865), "no difference within one sd"));
  EXPECT_TRUE(says(study(6, 0.86, 0.01, 0.90), "+4.00 points"));
  EXPECT_TRUE(says(study(6, 0.86, 0.01, 0.12), "fails: near chance"));
}

TEST(FormatStudy, SaysWhatIsEmulatedAndWhereFiguresComeFrom) {
  const FormatStudy s = study(5, 0.86, 0.01, 0.86);
  EXPECT_TRUE(says(s, "No format saves compute joules here"));
  EXPECT_TRUE(says(s, "Johnson 2018"));
  EXPECT_TRUE(says(s, "a tie"));
}

TEST(FormatStudy, FilesComeBackAsTheyWere) {
  FormatStudy s = study(3, 0.86, 0.01, 0.85);
  s.runs[1].rounding = {10, 9, 3, 2, 1, 0};
  s.cpu = "a cpu", s.isa = "avx2", s.threads = 2, s.energy = "none";
  const std::string text = format_study_json(s);
  const FormatStudy back = format_study_from_json(text, "study.json");
  EXPECT_EQ(format_study_json(back), text);
  EXPECT_EQ(back.runs[1].rounding, s.runs[1].rounding);
  EXPECT_THROW(format_study_from_json("{}", "study.json"), io_error);
  EXPECT_THROW(format_study_from_json("nonsense", "study.json"), io_error);
}

// The four files of Fashion-MNIST with images of their class number and noise.
void write_data(const std::string& folder, int train, int test) {
  std::filesystem::create_directories(folder);
  const auto big = [](int v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16),
                       static_cast<char>(v >> 8), static_cast<char>(v)};
  };
  for (const auto& [prefix, n] : {std::pair<std::string, int>{"train", train}, {"t10k", test}}) {
    std::string images = big(0x803) + big(n) + big(28) + big(28), labels = big(0x801) + big(n);
    for (int i = 0; i < n; ++i) {
      for (int p = 0; p < 784; ++p)
        images += static_cast<char>(p % 10 == i % 10 ? 200 : (p * 7 + i * 13) % 60);
      labels += static_cast<char>(i % 10);
    }
    io::write_file(folder + "/" + prefix + "-images-idx3-ubyte", images);
    io::write_file(folder + "/" + prefix + "-labels-idx1-ubyte", labels);
  }
}

TEST(FormatStudy, RunsOnDataAndContinues) {
  FormatStudyOptions o;
  o.out = testing::TempDir() + "format_study";
  std::filesystem::remove_all(o.out);
  o.data_dir = testing::TempDir() + "format_study_data";
  write_data(o.data_dir, 300, 50);
  o.nets = {"lenet5"};
  o.precisions = {"f32", "posit16"};
  o.seeds = 1, o.epochs = 1;
  std::atomic<bool> stop{false};
  const FormatStudy s = run_format_study(o, stop, {});
  ASSERT_EQ(s.runs.size(), 3u);  // f32, the same net in int8, posit16
  EXPECT_EQ(s.runs[1].precision, "int8_ptq");
  EXPECT_LT(s.runs[1].weight_bytes, s.runs[0].weight_bytes / 3);
  EXPECT_EQ(s.runs[2].weight_bytes * 2, s.runs[0].weight_bytes);
  EXPECT_LT(s.runs[2].bytes, s.runs[0].bytes);
  EXPECT_GT(s.runs[2].executed_iops, 0);
  EXPECT_GE(s.runs[2].flops, s.runs[0].flops);  // the same work, and the scale of the loss
  for (const char* file : {"/study.json", "/runs.csv", "/report.html"})
    EXPECT_TRUE(std::filesystem::exists(o.out + file)) << file;
  o.seeds = 2;  // one more round; what is there stays
  const FormatStudy more = run_format_study(o, stop, {});
  EXPECT_EQ(more.runs.size(), 6u);
  EXPECT_EQ(more.runs[0].accuracy, s.runs[0].accuracy);
  o.epochs = 2;
  EXPECT_THROW(run_format_study(o, stop, {}), value_error);
  o.precisions = {"posit9"};
  EXPECT_THROW(run_format_study(o, stop, {}), value_error);
}

TEST(FormatPage, HoldsEveryFormat) {
  const std::string page = format_page_html();
  for (const char* f : {"posit16", "fp8_e4m3", "mxfp4", "nvfp4", "int8_b32"})
    EXPECT_NE(page.find(f), std::string::npos) << f;
  EXPECT_EQ(page.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace wattle::green
