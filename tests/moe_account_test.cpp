// The account of a routed layer against counts made by hand.
#include "green/moe_account.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "energy/table_model.h"

namespace wattle::green {
namespace {

const moe::MoEConfig fine{
    .d_model = 32, .d_ff = 64, .experts = 8, .top_k = 2, .segments = 4, .shared = 1};

MoeAccount account(const moe::MoEConfig& c, int64_t tokens, int64_t hidden = 0) {
  EnergySession energy(0);
  return moe_account(c, tokens, hidden, 3, energy);
}

// 31 routed experts of 16, of which 7 and the shared one are met: 2 x 32 x 16 weights each.
TEST(MoeAccount, CountsOfALayer) {
  const MoeAccount a = account(fine, 1);
  EXPECT_EQ(a.router.distinct, 7);
  EXPECT_EQ(a.dense_hidden, 8 * 16);
  EXPECT_EQ(a.routed.params_total, 32 * 1024 + 31 * 32);
  EXPECT_EQ(a.routed.params_active, 8 * 1024 + 31 * 32);
  EXPECT_EQ(a.routed.weight_bytes_touched, 4 * (8 * 1024 + 31 * 32));
  EXPECT_EQ(a.routed.resident_bytes, 4 * a.routed.params_total);
  EXPECT_EQ(a.routed.training_bytes(), 16 * a.routed.params_total);
  // AdamW reads weight, gradient and two moments, and writes all but the gradient.
  EXPECT_EQ(a.routed.optimizer_bytes, 28 * a.routed.params_total);
  EXPECT_EQ(a.dense.optimizer_bytes, 28 * 2 * 32 * 128);
  EXPECT_EQ(a.routed.gate_flops >= 2 * 31 * 32, true);
  EXPECT_GT(a.routed.activation_bytes, 0);
  EXPECT_GT(a.routed.index_bytes, 0);
  EXPECT_EQ(a.dense.index_bytes, 0);
  EXPECT_EQ(a.dense.gate_flops, 0);
}

// The contractions of both sides are equal; what differs is listed apart.
TEST(MoeAccount, EqualActiveFlopsButForTheGate) {
  const MoeAccount a = account(fine, 512);
  // Weighted sums of 7 experts' rows of 32, and the shared one's added.
  EXPECT_EQ(a.routed.flops - a.dense.flops, 512 * (2 * 7 * 32 + 32));
  std::set<int64_t> chosen;
  for (size_t e = 0; e < a.router.load.size(); ++e)
    if (a.router.load[e] > 0) chosen.insert(static_cast<int64_t>(e));
  EXPECT_EQ(a.router.distinct, static_cast<int64_t>(chosen.size()));
  EXPECT_EQ(a.routed.weight_bytes_touched, 4 * ((a.router.distinct + 1) * 1024 + 31 * 32));
}

TEST(MoeAccount, NeverBeatsADenseLayerOfEqualFlopsButOneOfMore) {
  const energy::Table& table = energy::horowitz45();
  const MoeAccount a = account(fine, 256);
  EXPECT_FALSE(break_even(a, table).has_value());
  const MoeAccount big = account(fine, 256, 8 * 64);  // all experts as one dense layer
  const auto range = break_even(big, table);
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->first, 1);
  const MoePoint p = moe_point(big, 1, table);
  EXPECT_NEAR(p.distinct, 7, 1e-9);
  EXPECT_NEAR(p.routed_bytes, 4 * (8 * 1024 + 31 * 32), 1e-6);
  EXPECT_LT(p.routed_uj, p.dense_uj);
}

TEST(MoeAccount, EveryKindOfLayer) {
  for (const char* activation : {"relu", "gelu", "swiglu"})
    for (const char* score : {"softmax", "sigmoid", "hash"}) {
      moe::MoEConfig c = fine;
      c.activation = activation, c.score = score;
      const MoeAccount a = account(c, 64);
      EXPECT_NEAR(a.routed.flops / a.dense.flops, 1, 0.05) << activation << " " << score;
    }
  EXPECT_THROW(account(fine, 0), value_error);
  moe::MoEConfig wrong = fine;
  wrong.top_k = 9;
  EXPECT_THROW(account(wrong, 4), value_error);
}

}  // namespace
}  // namespace wattle::green
