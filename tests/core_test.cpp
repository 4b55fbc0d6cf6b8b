// The core by itself: random numbers, memory, shapes, views, loops, dispatch and counting.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "core/counters.h"
#include "core/parallel.h"
#include "core/recorder.h"
#include "core/rng.h"
#include "ops/ops.h"
#include "tests/data_files.h"

namespace wattle {
namespace {

using testing::expect_error;

// ---- Random numbers -----------------------------------------------------------------------------
using Block = std::array<uint32_t, 4>;

// Known answers: Salmon et al., Random123 distribution, tests/kat_vectors, lines "philox4x32 10".
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, NumbersStayInTheirRangeAndFillIt) {
  double sum = 0, squares = 0;
  std::set<uint64_t> below;
  for (uint64_t i = 0; i < 20000; ++i) {
    const double u = uniform_at(3, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    const auto n = normal_pair_at(3, i);
    sum += n[0] + n[1], squares += n[0] * n[0] + n[1] * n[1];
    below.insert(below_at(3, i, 7));
  }
  EXPECT_NEAR(sum / 40000, 0, 5 / std::sqrt(40000.0));
  EXPECT_NEAR(squares / 40000, 1, 5 * std::sqrt(2 / 40000.0));
  EXPECT_EQ(below, (std::set<uint64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_LT(to_unit(~0u), 1.0f);
}

TEST(Rng, GeneratorReservesWholeBlocksAndIsPerThread) {
  manual_seed(9);
  EXPECT_EQ(default_generator().reserve(5), 0u);
  EXPECT_EQ(default_generator().reserve(1), 8u);
  std::thread([] { EXPECT_EQ(default_generator(), Generator()); }).join();
  manual_seed(9);
  const auto a = uniform({1000}, -2, 3).values<float>();
  const int saved = num_threads();
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    manual_seed(9);
    EXPECT_EQ(a, (uniform({1000}, -2, 3).values<float>()));
  }
  set_num_threads(saved);
  EXPECT_NE(a, uniform({1000}, -2, 3).values<float>());
}

// ---- Memory -------------------------------------------------------------------------------------
TEST(Memory, LiveAndPeakBytes) {
  const int64_t before = memory_stats().live;
  reset_peak();
  {
    const Tensor a = Tensor::empty({1000});
    EXPECT_EQ(memory_stats().live, before + 4000);
    const Tensor view = slice(a, 0, 10, 20), same = a;
    EXPECT_EQ(memory_stats().live, before + 4000) << "a view takes no memory";
    { const Tensor b = Tensor::empty({500}, DType::f64); }
    EXPECT_EQ(memory_stats().live, before + 4000);
    EXPECT_EQ(memory_stats().peak, before + 8000);
  }
  EXPECT_EQ(memory_stats().live, before);
  EXPECT_EQ(memory_stats().peak, before + 8000);
  reset_peak();
  EXPECT_EQ(memory_stats().peak, before);
}

TEST(Memory, BlocksAreAlignedDistinctAndReused) {
  std::vector<Tensor> held;
  std::set<uintptr_t> seen;
  for (int64_t n : {0, 1, 3, 16, 17, 100, 1000, 4097, 100000})
    for (int k = 0; k < 3; ++k) {
      held.push_back(Tensor::empty({n}));
      const auto at = reinterpret_cast<uintptr_t>(held.back().raw());
      EXPECT_EQ(at % 64, 0u) << n;
      EXPECT_TRUE(seen.insert(at).second) << n;
    }
  held.clear();
  EXPECT_GT(memory_stats().cached, 0);
  const Tensor again = Tensor::empty({100000});
  EXPECT_TRUE(seen.count(reinterpret_cast<uintptr_t>(again.raw())));
  release_cached_memory();
  EXPECT_EQ(memory_stats().cached, 0);
}

TEST(Memory, MetaTakesNone) {
  const MemoryStats before = memory_stats();
  const Tensor huge = Tensor::empty({1 << 20, 1 << 20}, DType::f32, meta);
  EXPECT_EQ(add(huge, huge).shape(), huge.shape());
  EXPECT_EQ(memory_stats().allocations, before.allocations);
  EXPECT_EQ(huge.nbytes(), int64_t{1} << 42);
  expect_error<device_error>([&] { huge.data<float>(); }, {"meta", "host memory"});
  expect_error<device_error>([&] { add(huge, Tensor::ones({1})); }, {"add", "meta", "cpu"});
}

TEST(Memory, DeviceWithoutAnAllocator) {
  expect_error<device_error>(
      [] {
        Tensor::empty({2}, DType::f32, {DeviceKind::cuda, 99});
      },
      {"cuda:99"});
}

// ---- Element types ------------------------------------------------------------------------------
TEST(DTypes, BytesByTheRowsOfTheTable) {
  // rows * ceil(last / block) * bytes per block, for any block
  const Shape shapes[] = {{}, {0}, {1}, {7}, {3, 5}, {2, 0, 4}, {2, 3, 65}};
  for (DType t : {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean}) {
    const DTypeInfo& d = info(t);
    EXPECT_EQ(d.id, t);
    for (const Shape& s : shapes) {
      const int64_t last = s.empty() ? 1 : s.back();
      const int64_t rows = s.empty() ? 1 : s.numel(0, s.rank() - 1);
      EXPECT_EQ(storage_bytes(s, t), rows * ((last + d.block - 1) / d.block) * d.bytes) << d.name;
      EXPECT_EQ(Tensor::empty(s, t).nbytes(), storage_bytes(s, t));
    }
  }
}

TEST(DTypes, NamesAndTheirErrors) {
  EXPECT_EQ(dtype_from_name("float32"), DType::f32);
  EXPECT_EQ(dtype_from_name("bool"), DType::boolean);
  EXPECT_TRUE(is_floating(DType::f64) && is_integer(DType::u8) && !is_integer(DType::boolean));
  expect_error<dtype_error>([] { dtype_from_name("f17"); }, {"'f17'", "f32", "u8"});
  expect_error<dtype_error>([] { Tensor::ones({2}).data<double>(); }, {"f32 [2]", "f64"});
}

// ---- Shapes -------------------------------------------------------------------------------------
TEST(Shapes, BroadcastingAndItsErrors) {
  EXPECT_EQ(broadcast_shapes("add", {3, 1, 5}, {4, 1}), (Shape{3, 4, 5}));
  EXPECT_EQ(broadcast_shapes("add", {}, {2, 0}), (Shape{2, 0}));
  expect_error<shape_error>(
      [] {
        add(Tensor::ones({2, 3}), Tensor::ones({2, 4}));
      },
      {"add", "[2, 3]", "[2, 4]", "3 and 4", "dimension 1"});
}

TEST(Shapes, AxesAndSizesAreChecked) {
  EXPECT_EQ(normalize_axis("sum", -1, 3), 2);
  EXPECT_EQ(normalize_axis("sum", -1, 0), 0);
  expect_error<shape_error>([] { normalize_axis("sum", 3, 3); }, {"sum", "dim 3", "[-3, 2]"});
  expect_error<shape_error>([] { softmax(Tensor::ones({2}), 1); }, {"softmax", "dim 1", "[-1, 0]"});
  expect_error<shape_error>([] { Shape(std::vector<int64_t>(9, 1)); }, {"9 dimensions", "8"});
  expect_error<shape_error>([] { Shape::filled(8, 1).push_back(1); }, {"8 dimensions"});
  expect_error<shape_error>([] { Tensor::empty({2, -3}); }, {"negative", "[2, -3]"});
  expect_error<shape_error>(
      [] {
        Tensor::empty({int64_t{1} << 40, int64_t{1} << 40});
      },
      {"64 bits"});
  expect_error<shape_error>([] { Tensor::from<float>({1, 2}, {3}); }, {"2 values", "needs 3"});
  EXPECT_EQ((Shape{2, 3, 4}.str()), "[2, 3, 4]");
}

// ---- Views --------------------------------------------------------------------------------------
Tensor counted_up(const Shape& shape) {
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = static_cast<float>(i);
  return t;
}

TEST(Views, ShareStorageAndReadRight) {
  const Tensor x = counted_up({3, 4});
  const Tensor t = transpose(x, 0, 1), r = reshape(x, {2, -1}), s = slice(x, 1, 1, 4, 2);
  const Tensor e = expand(slice(x, 0, 0, 1), {5, 4});
  for (const Tensor& v : {t, r, s, e}) EXPECT_EQ(&v.storage(), &x.storage());
  EXPECT_EQ(t.values<float>(), (std::vector<float>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
  EXPECT_EQ(s.values<float>(), (std::vector<float>{1, 3, 5, 7, 9, 11}));
  EXPECT_EQ(e.values<int>()[19], 3);
  EXPECT_FALSE(t.is_contiguous() || s.is_contiguous() || e.is_contiguous());
  EXPECT_TRUE(r.is_contiguous() && contiguous(t).is_contiguous());
  x.data<float>()[1] = 70;
  EXPECT_EQ(t.values<int>()[3], 70);
  EXPECT_EQ(reshape(t, {12}).values<int>()[3], 70) << "a reshape that needs a copy makes one";
}

TEST(Views, DetachIsANewIdentityOfTheSameData) {
  const Tensor x = counted_up({2}).set_requires_grad();
  const Tensor d = x.detach();
  EXPECT_EQ(d.raw(), x.raw());
  EXPECT_NE(d.uid(), x.uid());
  EXPECT_FALSE(d.requires_grad());
  expect_error<shape_error>([&] { x.item(); }, {"f32 [2]", "single element"});
  EXPECT_EQ(Tensor().str(), "undefined");
}

// ---- Loops --------------------------------------------------------------------------------------
TEST(Parallel, EveryPieceOnceForAnyNumberOfThreads) {
  const int saved = num_threads();
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    std::vector<std::atomic<int>> seen(1003);
    parallel_for(1003, 10, [&](int64_t b, int64_t e) {
      EXPECT_TRUE(b % 10 == 0 && e - b <= 10);
      for (int64_t i = b; i < e; ++i) ++seen[static_cast<size_t>(i)];
    });
    for (const auto& s : seen) ASSERT_EQ(s, 1);
    std::atomic<int> inner{0};
    parallel_chunks(4, [&](int64_t) { parallel_chunks(3, [&](int64_t) { ++inner; }); });
    EXPECT_EQ(inner, 12);
  }
  parallel_for(0, 1, [](int64_t, int64_t) { FAIL() << "nothing to do"; });
  set_num_threads(saved);
  expect_error<value_error>([] { set_num_threads(0); }, {"found 0", "at least 1"});
}

TEST(Parallel, ExceptionsComeOutAndLeaveNoTrace) {
  const int saved = num_threads();
  for (int threads : {1, 2, 4}) {
    set_num_threads(threads);
    expect_error<value_error>(
        [] {
          parallel_chunks(100, [](int64_t c) {
            if (c == 17) throw value_error("chunk 17");
          });
        },
        {"chunk 17"});
    std::atomic<int> n{0};
    parallel_chunks(100, [&](int64_t) { ++n; });
    EXPECT_EQ(n, 100);
  }
  set_num_threads(saved);
}

// Helpers serve one loop at a time; a loop that finds them busy or asleep is run all the same.
TEST(Parallel, LoopsOfSeveralThreadsAtOnce) {
  const int saved = num_threads();
  set_num_threads(3);
  std::atomic<int64_t> wrong{0};
  const auto body = [&](int64_t id) {
    std::vector<int64_t> out(1000);
    for (int64_t r = 0; r < 1000; ++r) {
      parallel_for(1000, 7 + (r + id) % 90, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) out[static_cast<size_t>(i)] = i * r;
      });
      int64_t sum = 0;
      for (const int64_t x : out) sum += x;
      wrong += sum != 499500 * r;
      if (r % 250 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  std::vector<std::thread> threads;
  for (int64_t id = 0; id < 3; ++id) threads.emplace_back(body, id);
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  set_num_threads(saved);
}

// ---- Dispatch -----------------------------------------------------------------------------------
std::string kernel_that_ran() { return counters().rows().back().key.kernel; }

TEST(Dispatch, SimdLevelCanBeLowered) {
  using simd::Level;
  const Level best = simd::level();
  const Tensor x = counted_up({37});
  for (Level l : {Level::portable, Level::avx2, Level::avx512}) {
    if (!simd::machine_has(l)) continue;
    simd::set_level(l);
    EXPECT_EQ(simd::level(), l);
    counters().clear();
    exp(x);
    EXPECT_EQ(kernel_that_ran(), simd::level_name(l));
  }
  simd::set_level(Level::avx512);
  EXPECT_TRUE(simd::machine_has(simd::level())) << "never above the machine";
  simd::set_level(best);
}

TEST(Dispatch, ForcedKernelRunsOrSaysWhyNot) {
  const Tensor x = counted_up({37}), wide = cast(x, DType::f64);
  counters().clear();
  {
    const ForceKernel force("exp", "ref");
    exp(x);
    EXPECT_EQ(kernel_that_ran(), "ref");
    const ForceKernel inner("exp", "portable");
    exp(x);
    EXPECT_EQ(kernel_that_ran(), "portable");
    expect_error<dtype_error>([&] { exp(wide); },
                              {"exp: kernel portable refuses this call: takes f32, found f64"});
    const ForceKernel wrong("exp", "fpga");
    expect_error<value_error>([&] { exp(x); }, {"exp: has no kernel called fpga"});
    EXPECT_NO_THROW(log(x));
  }
  {
    const ForceKernel all("*", "ref");
    log(x);
    EXPECT_EQ(kernel_that_ran(), "ref");
  }
  const simd::Level best = simd::set_level(simd::Level::portable);
  if (simd::machine_has(simd::Level::avx2)) {
    const ForceKernel off("exp", "avx2");
    expect_error<dtype_error>([&] { exp(x); }, {"avx2 is switched off (level portable)"});
  }
  simd::set_level(best);
}

// The environment is read once, so each setting needs a process of its own.
[[noreturn]] void run_relu_and_exit() {
  try {
    relu(counted_up({37}));
    std::fprintf(stderr, "ran %s", kernel_that_ran().c_str());
  } catch (const error& e) { std::fprintf(stderr, "%s", e.what()); }
  std::exit(3);
}

TEST(DispatchDeathTest, KernelAndLevelFromTheEnvironment) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto exits = ::testing::ExitedWithCode(3);
  setenv("WATTLE_KERNEL", "exp:avx2,relu:ref", 1);
  EXPECT_EXIT(run_relu_and_exit(), exits, "ran ref");
  setenv("WATTLE_KERNEL", "relu:abacus", 1);
  EXPECT_EXIT(run_relu_and_exit(), exits, "relu: has no kernel called abacus");
  unsetenv("WATTLE_KERNEL");
  setenv("WATTLE_ISA", "portable", 1);
  EXPECT_EXIT(run_relu_and_exit(), exits, "ran portable");
  setenv("WATTLE_ISA", "sse9", 1);
  EXPECT_EXIT(run_relu_and_exit(), exits, "WATTLE_ISA: found 'sse9', expected portable, avx2 or");
  unsetenv("WATTLE_ISA");
}

// ---- Counting -----------------------------------------------------------------------------------
Cost cost_of(const Tensor& a, const Tensor& b) {
  counters().clear();
  add(a, b);
  return counters().total().cost;
}

TEST(Counting, UniqueBytes) {
  const Tensor a = counted_up({6, 8}), b = counted_up({6, 8}), row = counted_up({8});
  const int64_t n = 6 * 8 * 4;
  EXPECT_EQ(cost_of(a, b), (Cost{.add = 48, .read = 2 * n, .written = n}));
  EXPECT_EQ(cost_of(a, a), (Cost{.add = 48, .read = n, .written = n}));
  EXPECT_EQ(cost_of(a, row).read, n + 32) << "a broadcast operand counts at its stored size";
  EXPECT_EQ(cost_of(a, expand(row, {6, 8})).read, n + 32);
  EXPECT_EQ(cost_of(a, reshape(a, {6, 8})).read, n) << "two handles of the same view";
}

TEST(Counting, IntegersAreNoFlops) {
  const Tensor i = Tensor::full({5}, 3, DType::i64);
  const Cost c = cost_of(i, i);
  EXPECT_EQ(c.flops(), 0);
  EXPECT_EQ(c.iop, 5);
  EXPECT_EQ(c.bytes(), 80);
}

TEST(Counting, FlopsByBothConventions) {
  const Cost c{.mac = 10, .add = 1, .mul = 2, .cmp = 4, .special = 3, .iop = 9};
  EXPECT_EQ(c.flops(), 26);
  EXPECT_EQ(c.flops_weighted(), 20);
  EXPECT_EQ(c * 3, c + c + c);
}

TEST(Counting, ScopesAndPhasesCredit) {
  counters() = Counters();
  const Tensor x = counted_up({4});
  {
    const Scope outer("block");
    const Scope inner("conv1");
    const PhaseScope phase(Phase::optimizer);
    add(x, x);
    add(x, x);
  }
  {
    const Scope again("block");
    add(x, x);
  }
  ASSERT_EQ(counters().rows().size(), 2u);
  const Row &first = counters().rows()[0], &second = counters().rows()[1];
  EXPECT_EQ(counters().path(first.key.scope), "block.conv1");
  EXPECT_EQ(first.key.phase, Phase::optimizer);
  EXPECT_EQ(first.calls, 2);
  EXPECT_EQ(counters().path(second.key.scope), "block");
  EXPECT_EQ(second.key.phase, Phase::forward);
  EXPECT_EQ(counters().total().calls, 3);
  EXPECT_EQ(counters().total().cost, first.cost + second.cost);
  EXPECT_EQ(counters().current, 0);
}

TEST(Counting, MergePutsTheRowsBelowTheCurrentScope) {
  counters() = Counters();
  Counters other;
  std::thread([&other] {
    const Scope loader("loader");
    const Tensor x = counted_up({4});
    add(x, x);
    other = counters();
  }).join();
  {
    const Scope data("data");
    counters().merge(other);
    counters().merge(other);
  }
  ASSERT_EQ(counters().rows().size(), 1u);
  EXPECT_EQ(counters().path(counters().rows()[0].key.scope), "data.loader");
  EXPECT_EQ(counters().rows()[0].cost, other.total().cost * 2);
  EXPECT_EQ(counters().total().calls, 2);
  counters().clear();
  EXPECT_TRUE(counters().rows().empty());
  EXPECT_EQ(counters().total().cost, Cost{});
}

}  // namespace
}  // namespace wattle
