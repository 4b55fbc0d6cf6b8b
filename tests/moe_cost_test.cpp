// Costs of models from their description, against published figures.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/error.h"
#include "data/atomic_file.h"
#include "moe/model_cost.h"

namespace wattle::moe {
namespace {

// 10^12 FLOPs per sequence by the formula of the paper, worked out apart from this code, and as it
// prints them.
TEST(ModelCost, FlopsOfThePapersTables) {
  const std::map<std::string, std::pair<double, double>> cells{
      {"dense-0.2b", {2.88, 2.9}},
      {"gshard-2b", {4.33, 4.3}},
      {"deepseekmoe-2b", {4.33, 4.3}},
      {"gshard-2b-x1.5", {5.78, 5.8}},
      {"dense-x16", {24.63, 24.6}},
      {"deepseek-7b", {183.48, 183.5}},
      {"llama2-7b", {187.94, 187.9}},
      {"deepseekmoe-16b", {74.42, 74.4}},
      {"gshard-137b", {572.71, 572.7}},
      {"deepseekmoe-145b", {585.5, 585.6}},
      {"deepseekmoe-142b-half", {374.6, 374.6}},
      {"deepseek-67b", {2057.46, 2057.5}}};
  for (const auto& [name, cell] : cells) {
    const ModelConfig m = model_from(name);
    const double tflop = flops_per_sequence(m, m.sequence) * 1e-12;
    EXPECT_NEAR(tflop, cell.first, 0.002 * cell.first) << name;
    // The small ones are printed with one digit after the point.
    EXPECT_NEAR(tflop, cell.second, cell.second < 30 ? 0.0501 : 0.002 * cell.second) << name;
    EXPECT_EQ(m.published_tflop, cell.second) << name;
  }
  const auto flops = [](const char* n) { return flops_per_sequence(model_from(n), 4096); };
  EXPECT_NEAR(flops("deepseekmoe-16b") / flops("deepseek-7b"), 0.405, 0.0011);
  EXPECT_NEAR(flops("deepseekmoe-16b") / flops("llama2-7b"), 0.396, 0.0005);
  EXPECT_NEAR(flops("deepseekmoe-145b") / flops("deepseek-67b"), 0.285, 0.0005);
  EXPECT_NEAR(flops("deepseekmoe-142b-half") / flops("deepseek-67b"), 0.182, 0.0005);
}

TEST(ModelCost, ParameterCounts) {
  const auto count = [](const char* name, bool active) {
    return parameters(model_from(name), active);
  };
  const auto billions = [](int64_t n) { return static_cast<double>(n) * 1e-9; };
  EXPECT_NEAR(billions(count("deepseekmoe-16b", false).total()), 16.376, 0.0005);
  EXPECT_NEAR(billions(count("deepseekmoe-16b", true).total()), 2.829, 0.0005);
  EXPECT_NEAR(billions(count("deepseek-v2", false).total()), 235.74, 0.005);
  EXPECT_NEAR(billions(count("deepseek-v2", true).total()), 21.38, 0.005);
  EXPECT_NEAR(billions(count("deepseek-v3", false).total()), 671.03, 0.005);
  EXPECT_NEAR(billions(count("deepseek-v3", true).total()), 37.55, 0.005);
  EXPECT_NEAR(billions(count("deepseek-v3", true).total() - count("deepseek-v3", true).embedding),
              36.63, 0.006);
  EXPECT_NEAR(billions(count("deepseek-v3", false).attention), 11.41, 0.005);
  EXPECT_NEAR(billions(count("deepseek-v3", false).experts), 653.91, 0.005);
  EXPECT_NEAR(billions(count("mixtral-8x7b", false).total()), 46.70, 0.005);
  EXPECT_NEAR(billions(count("mixtral-8x7b", true).total()), 12.88, 0.005);
}

TEST(ModelCost, WeightBytesGrowWithTheBatch) {
  const ModelConfig m = model_from("deepseekmoe-16b"), dense = model_from("deepseek-7b");
  const std::map<int64_t, double> gigabytes{
      {1, 5.23}, {4, 12.2}, {5, 14.1}, {8, 18.7}, {128, 32.3}};
  for (const auto& [tokens, gb] : gigabytes)
    EXPECT_NEAR(weight_bytes_touched(m, tokens, 2) * 1e-9, gb, 0.05) << tokens;
  EXPECT_NEAR(weight_bytes_touched(dense, 1, 2) * 1e-9, 12.98, 0.005);
  EXPECT_EQ(break_even_tokens(m, dense), 5);
  EXPECT_EQ(break_even_tokens(dense, m), 1);
  EXPECT_FALSE(
      break_even_tokens(model_from("deepseekmoe-2b"), model_from("gshard-2b-x1.5")).has_value());
  EXPECT_EQ(expected_distinct(8, 8, 1), 8);
  EXPECT_EQ(expected_distinct(8, 2, 0), 0);
  EXPECT_NEAR(expected_distinct(256, 8, 1 << 20), 256, 1e-9);
}

TEST(ModelCost, LayerConfigCountsItself) {
  const MoEConfig c{
      .d_model = 64, .d_ff = 256, .experts = 16, .top_k = 2, .segments = 4, .shared = 1};
  EXPECT_EQ(c.routed(), 63);
  EXPECT_EQ(c.active(), 7);
  EXPECT_EQ(c.parameters(), 64 * 2 * 64 * 64 + 63 * 64);
  EXPECT_EQ(c.active_parameters(), 8 * 2 * 64 * 64 + 63 * 64);
}

TEST(ModelCost, FilesAreReadStrictly) {
  const std::string path = testing::TempDir() + "model.json";
  const std::string good = R"({"layers": 2, "d_model": 64, "vocab": 256, "sequence": 128,
    "attention": {"heads": 4, "head_dim": 16}, "swiglu": false, "routed": 63, "top_k": 7,
    "shared": 1, "expert_hidden": 64})";
  io::write_file(path, good);
  const ModelConfig m = model_from(path);
  EXPECT_EQ(m.attention.kv_heads, 4);
  EXPECT_EQ(parameters(m, false).experts, 2 * 63 * 2 * 64 * 64);
  const auto refused = [&](const std::string& text, const std::string& part) {
    io::write_file(path, text);
    try {
      model_from(path);
      ADD_FAILURE() << text;
    } catch (const error& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
      EXPECT_TRUE(std::string(e.what()).starts_with(path)) << e.what();
    }
  };
  refused("{", "is not JSON");
  refused("[]", "file: found array, expected an object");
  refused(R"({"layer": 2})", "found 'layer', expected one of name, layers");
  refused(R"({"layers": 1.5})", "layers: found 1.5, expected an integer");
  refused(R"({"attention": {"head": 1}})", "attention: found 'head'");
  refused(R"({"layers": 2, "d_model": 64, "vocab": 256, "attention": {"heads": 4, "head_dim": 16},
             "routed": 4, "top_k": 5, "expert_hidden": 8})",
          "top_k: found 5, expected at most 4");
  EXPECT_THROW(model_from("nothing.json"), io_error);
  EXPECT_THROW(model_from("gpt-2"), value_error);
  io::write_file(path, R"({"experts": 4, "top_k": 9})");
  EXPECT_THROW(config_from(path), value_error);
}

}  // namespace
}  // namespace wattle::moe
