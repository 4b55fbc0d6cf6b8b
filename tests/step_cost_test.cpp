// The study's nets: their exact sizes from shapes alone, and what a real training step counts.
#include <gtest/gtest.h>

#include <map>

#include "core/rng.h"
#include "green/meta_cost.h"
#include "green/trainer.h"
#include "tests/data_files.h"

namespace wattle::green {
namespace {

using testing::expect_error;

// ---- The published sizes ------------------------------------------------------------------------
struct Size {
  const char* dataset;
  NetSpec net;
  int64_t params, forward, backward;  ///< FLOPs per image, weighted ops, padded taps counted
};

// Nets of Yarally et al. (CAIN 2023), replication package yarally/preliminary-green-ai at 92ce0cb;
// integers derived by hand from their layer sizes: 2 FLOP per multiply-accumulate; backward is
// twice forward less the first weighted layer's forward, as the image needs no gradient. conv = 2
// is the package's SimpleCNN.
const Size published[] = {
    {"fashion-mnist", {"cnn", 3, 1}, 309'922, 660'912, 1'279'488},
    {"fashion-mnist", {"cnn", 7, 1}, 333'739, 708'180, 1'374'024},
    {"fashion-mnist", {"cnn", 3, 4}, 133'642, 927'300, 1'812'264},
    {"fashion-mnist", {"cnn", 7, 4}, 157'459, 974'568, 1'906'800},
    {"fashion-mnist", {"cnn", 3, 2}, 252'568, 640'920, 1'239'504},
    {"fashion-mnist", {"densepoly", 3, 0}, 386'718, 772'240, 929'824},
    {"fashion-mnist", {"densepoly", 7, 0}, 410'535, 819'508, 1'024'360},
    {"fashion-mnist", {"denselinear", 3, 0}, 548'893, 1'096'200, 1'373'904},
    {"fashion-mnist", {"denselinear", 7, 0}, 1'408'410, 2'812'096, 4'570'496},
    {"cifar10", {"cnn", 3, 1}, 4'728'856, 9'950'208, 19'402'752},
    {"cifar10", {"cnn", 7, 1}, 5'114'056, 10'719'168, 20'940'672},
    {"cifar10", {"cnn", 3, 4}, 2'882'974, 15'166'176, 29'834'688},
    {"cifar10", {"cnn", 7, 4}, 3'268'174, 15'935'136, 31'372'608},
    {"cifar10", {"cnn", 3, 2}, 3'846'388, 9'300'480, 18'103'296},
    {"cifar10", {"densepoly", 3, 0}, 5'908'234, 11'811'840, 14'186'496},
    {"cifar10", {"densepoly", 7, 0}, 6'293'434, 12'580'800, 15'724'416},
    {"cifar10", {"denselinear", 3, 0}, 8'401'930, 16'797'696, 21'012'480},
    {"cifar10", {"denselinear", 7, 0}, 21'577'289, 43'136'132, 70'095'112},
};

std::string title(const Size& s) {
  return str(s.dataset, " ", s.net.net, " ", s.net.linear, ",", s.net.conv);
}

TEST(Sizes, EveryIntegerOfTheEighteenNets) {
  static_assert(std::size(published) == 18);
  for (const Size& s : published)
    for (const bool relu : {false, true})
      for (const int64_t batch : {int64_t{1}, int64_t{512}}) {
        NetSpec net = s.net;
        net.relu = relu;
        const StepCost c = meta_step_cost(net, image_spec(s.dataset), batch);
        EXPECT_EQ(c.params, s.params) << title(s);
        EXPECT_EQ(c.forward_flops, s.forward * batch) << title(s);
        EXPECT_EQ(c.backward_flops, s.backward * batch) << title(s);
      }
}

TEST(Sizes, MetaRunTakesNoMemoryAndLeavesNoTrace) {
  counters() = Counters();
  const MemoryStats before = memory_stats();
  const Generator numbers = default_generator();
  meta_step_cost({"denselinear", 7}, image_spec("cifar10"), 1 << 20);
  EXPECT_EQ(memory_stats().allocations, before.allocations);
  EXPECT_EQ(counters().total().calls, 0);
  EXPECT_EQ(default_generator(), numbers);
  expect_error<value_error>([] { meta_step_cost({}, image_spec("cifar10"), 0); }, {"--batch", "0"});
  expect_error<value_error>([] { image_spec("mnist"); }, {"'mnist'", "fashion-mnist or cifar10"});
}

// ---- A real step --------------------------------------------------------------------------------
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

/// Counters and ledger of one real training step.
Ledger real_step(const NetSpec& spec, const ImageSpec& image, int64_t batch) {
  manual_seed(1);
  const auto net = make_net(spec, image);
  const auto opt = nn::make_optimizer("adam", net->named_parameters(), 1e-3);
  const Tensor x = pixels({batch, image.channels, image.height, image.height}, 1);
  const Tensor y = labels(batch);
  counters() = Counters();
  train_step(*net, *opt, x, y);
  return make_ledger(counters(), module_kinds(*net));
}

TEST(Step, RealOneCountsWhatMetaOneSays) {
  for (const Size& s : published) {
    if (std::string(s.dataset) == "cifar10" && s.net.linear == 7) continue;  // slow, nothing new
    const ImageSpec image = image_spec(s.dataset);
    const Ledger real = real_step(s.net, image, 3);
    const Ledger meta = meta_step_cost(s.net, image, 3).ledger;
    EXPECT_EQ(real.cost, meta.cost) << title(s);
    EXPECT_EQ(real.executed, meta.executed) << title(s);
    EXPECT_EQ(real.calls, meta.calls);
    EXPECT_EQ(real.joules, meta.joules);
    ASSERT_EQ(real.rows.size(), meta.rows.size());
    for (size_t i = 0; i < real.rows.size(); ++i) {
      EXPECT_EQ(real.rows[i].layer, meta.rows[i].layer);
      EXPECT_EQ(real.rows[i].cost, meta.rows[i].cost) << title(s) << " " << real.rows[i].layer;
      EXPECT_EQ(real.rows[i].joules, meta.rows[i].joules);
    }
  }
}

TEST(Step, TheImageGetsNoGradient) {
  for (const Size& s : published) {
    std::map<std::string, int64_t> forward, backward;
    std::string first;
    for (const LedgerRow& r : meta_step_cost(s.net, image_spec(s.dataset), 2).ledger.rows) {
      const int64_t flops = r.cost.flops_weighted();
      if (flops && first.empty()) first = r.layer;
      if (r.phase == Phase::forward) forward[r.layer] += flops;
      if (r.phase == Phase::backward) backward[r.layer] += flops;
    }
    EXPECT_EQ(first, s.net.net == "cnn" ? "conv1" : "linear1");
    for (const auto& [layer, flops] : forward)
      EXPECT_EQ(backward[layer], flops * (layer == first ? 1 : 2)) << title(s) << " " << layer;
  }
}

// ---- Conservation -------------------------------------------------------------------------------
TEST(Conservation, ScopesAddUpToTheTotalExactly) {
  for (const NetSpec& net :
       {NetSpec{"cnn", 3, 4}, NetSpec{"cnn", 7, 1, false}, NetSpec{"densepoly"}}) {
    const Ledger ledger = real_step(net, image_spec("fashion-mnist"), 7);
    Cost by_op, by_layer, executed;
    int64_t calls = 0, uj = 0;
    energy::int128 fj = 0;
    for (const Row& r : counters().rows()) {
      by_op += r.cost;
      fj += row_energy(r, energy::horowitz45()).fj;
    }
    for (const LedgerRow& r : ledger.rows) {
      by_layer += r.cost, executed += r.executed, calls += r.calls;
      EXPECT_TRUE(r.joules.available()) << r.layer;
      uj += r.joules.uj;
    }
    // The total row is kept apart: it is no sum of the others.
    const Row& total = counters().total();
    EXPECT_EQ(by_op, total.cost);
    EXPECT_EQ(by_layer, total.cost);
    EXPECT_EQ(executed, total.executed);
    EXPECT_EQ(calls, total.calls);
    EXPECT_EQ(uj, energy::microjoules(fj));
    EXPECT_EQ(uj, ledger.joules.uj);
    EXPECT_GT(uj, 0);
  }
}

}  // namespace
}  // namespace wattle::green
