// runs.csv, layers.csv and study.json.
#include "green/study_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "data/atomic_file.h"
#include "tests/synthetic_study.h"

namespace wattle::green {
namespace {

namespace fs = std::filesystem;
using testing_study::fresh_dir;
using testing_study::synthetic;

TEST(StudyFiles, RunsCsvHasTheAgreedColumns) {
  StudyResult s = synthetic(1);
  s.runs[0].dataset = "a,\"b\"\nc";
  s.runs[1].joules = {}, s.runs[1].accuracy = NAN;
  s.runs[2].joules = {-1, 0.5, JouleKind::measured, "rapl"};
  const auto rows = parse_csv(runs_csv(s));
  ASSERT_EQ(rows.size(), s.runs.size() + 1);
  const std::vector<std::string> first(rows[0].begin(), rows[0].begin() + 14);
  EXPECT_EQ(first, (std::vector<std::string>{"dataset", "net", "linear", "conv", "relu", "seed",
                                             "epochs", "rows", "accuracy", "flops", "seconds",
                                             "joules", "joules_sd", "joules_kind"}));
  for (const auto& r : rows) EXPECT_EQ(r.size(), rows[0].size());
  EXPECT_EQ(rows[1][0], "a,\"b\"\nc");
  EXPECT_EQ(rows[2][8], "");
  EXPECT_EQ(rows[2][11], "");
  EXPECT_EQ(rows[2][13], "unavailable");
  EXPECT_EQ(rows[3][11], "-0.000001");
  EXPECT_EQ(rows[1][13], "modelled_table");
  EXPECT_EQ(std::strtod(rows[1][8].c_str(), nullptr), s.runs[0].accuracy);  // to the last bit
}

TEST(StudyFiles, LayersCsvAddsUpToTheRunsExactly) {
  const StudyResult s = synthetic(2);
  const auto rows = parse_csv(layers_csv(s));
  EXPECT_EQ(rows[0][0] + "," + rows[0][6] + "," + rows[0][16], "net,phase,joules_source");
  // the decimal joules are exact: as integers of the last digit they add up
  int64_t layers = 0, runs = 0;
  const auto microjoules = [](std::string v) {
    v.erase(v.find('.'), 1);
    return std::stoll(v);
  };
  for (size_t i = 1; i < rows.size(); ++i) layers += microjoules(rows[i][13]);
  const auto run_rows = parse_csv(runs_csv(s));
  for (size_t i = 1; i < run_rows.size(); ++i) runs += microjoules(run_rows[i][11]);
  EXPECT_EQ(layers, runs);
}

TEST(StudyFiles, JsonComesBackBitForBit) {
  StudyResult s = synthetic(2);
  s.runs[0].joules = {}, s.runs[0].val_loss = NAN, s.runs[3].diverged = true;
  s.runs[1].seed = UINT64_MAX;
  s.layers[0].ms = 1.0 / 3, s.layers[0].layer = "na\"me\\ \u00e9";
  s.settings.oddities = {"no eval()"}, s.settings.notes = {"note"};
  const std::string text = study_json(s);
  const StudyResult back = study_from_json(text);
  EXPECT_EQ(study_json(back), text);
  EXPECT_EQ(runs_csv(back), runs_csv(s));
  EXPECT_EQ(layers_csv(back), layers_csv(s));
  EXPECT_EQ(back.runs[1].seed, UINT64_MAX);
  EXPECT_FALSE(back.runs[0].joules.available());
  EXPECT_TRUE(std::isnan(back.runs[0].val_loss));
  EXPECT_EQ(settings_difference(s.settings, back.settings), "");
}

TEST(StudyFiles, BrokenJsonIsOneClearError) {
  const std::string good = study_json(synthetic(1));
  for (const std::string& bad :
       {std::string(), std::string("[]"), std::string("{}"), good.substr(0, good.size() / 2),
        std::string(R"({"format":"wattle layer study","format_version":99})"),
        std::string(R"({"format":"wattle layer study","format_version":1,"settings":3})")}) {
    EXPECT_THROW(study_from_json(bad), io_error) << bad.substr(0, 60);
  }
  std::string kind = good;
  kind.replace(kind.find("modelled_table"), 14, "measured_table");
  try {
    study_from_json(kind, "out/study.json");
    FAIL() << "an unknown kind of joules was read";
  } catch (const io_error& e) {
    EXPECT_NE(std::string(e.what()).find("out/study.json"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("measured_table"), std::string::npos);
  }
}

TEST(StudyFiles, AStudyContinuesFromItsFolder) {
  const std::string dir = fresh_dir("continue");
  StudyResult none;
  EXPECT_FALSE(read_study(dir, none));
  const StudyResult all = synthetic(2);
  StudyResult part = synthetic(1);
  part.settings.seeds = all.settings.seeds;
  write_study(dir, part);
  StudyResult s;
  ASSERT_TRUE(read_study(dir, s));
  EXPECT_TRUE(has_run(s, all.settings.nets[0], 1));
  EXPECT_FALSE(has_run(s, all.settings.nets[0], 2));
  EXPECT_EQ(settings_difference(all.settings, s.settings), "");
  StudySettings other = all.settings;
  other.lr = 3e-4;
  EXPECT_EQ(settings_difference(all.settings, other), "lr: 0.001 before, 0.0003 now");
  // no temporary file stays behind
  for (const auto& f : fs::directory_iterator(dir)) {
    EXPECT_EQ(f.path().string().find(".tmp"), std::string::npos) << f.path();
  }
  fs::remove_all(dir);
}

TEST(StudyFiles, AFailedWriteKeepsTheOldFile) {
  const std::string dir = fresh_dir("full");
  fs::create_directories(dir);
  const std::string path = dir + "/runs.csv";
  io::write_file(path, "old");
  EXPECT_THROW(io::write_file(dir + "/missing/runs.csv", "x"), io_error);
  fs::create_directories(dir + "/taken/inside");
  EXPECT_THROW(io::write_file(dir + "/taken", "x"), io_error);  // a folder stands there
  EXPECT_THROW(write_study(path, synthetic(1)), io_error);      // a file stands there
  std::ifstream f(path);
  std::string text;
  f >> text;
  EXPECT_EQ(text, "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir), {}), 2);  // and no temporary file
  fs::remove_all(dir);
}

TEST(Csv, Rfc4180) {
  using Rows = std::vector<std::vector<std::string>>;
  EXPECT_EQ(parse_csv("a,b\r\n\"x,\"\"y\"\"\n\",\n"), (Rows{{"a", "b"}, {"x,\"y\"\n", ""}}));
  EXPECT_EQ(parse_csv("a\n\nb"), (Rows{{"a"}, {""}, {"b"}}));
  EXPECT_TRUE(parse_csv("").empty());
  EXPECT_THROW(parse_csv("a,\"b"), io_error);
}

}  // namespace
}  // namespace wattle::green
