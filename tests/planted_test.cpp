// A check that cannot fail checks nothing: here every generic check meets an op with the fault that
// it is there to find, and a sound op that it has to pass.
#include <gtest/gtest.h>

#include <atomic>

#include "core/parallel.h"
#include "ops/rules.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

// square: y = x * x, sound in everything; each test breaks one part of it.
template <class T>
void square(Ins in, Outs out) {
  for (int64_t i = 0; i < in[0].numel(); ++i)
    out[0].data<T>()[i] = in[0].data<T>()[i] * in[0].data<T>()[i];
}
void square_ref(Ins in, Outs out, const NoAttr&) {
  dispatch_floating("square", in[0].dtype(), [&]<class T>() { square<T>(in, out); });
}

Rules<NoAttr> sound() {
  return {
      .name = "square",
      .doc = "Square",
      .equation = "y = x * x",
      .shape = [](Ins in, const NoAttr&) { return Metas{in[0].meta()}; },
      .cost = [](Ins in, std::span<const Meta>,
                 const NoAttr&) { return Cost{.mul = in[0].numel()}; },
      .kernels = {{"ref", square_ref}},
      .saves_in = {0},
      .backward = [](const Saved<NoAttr>& s,
                     Ins gy) { return Tensors{mul(gy[0], scale(s.in(0), 2))}; },
      .samples = {{{{{3, 5}}}}, {{{{1}, 0.5, 1}}}, {{{{2, 37}}}}},
  };
}

using Check = std::string (*)(const OpBase&, int);
std::string ask(Check check, const Rules<NoAttr>& rules) {
  const Op<NoAttr> op(rules, false);
  try {
    return check(op, 0);
  } catch (const std::exception& e) { return e.what(); }
}

TEST(Planted, SoundOpPassesEverything) {
  for (Check c : {checks::meta_equals_real, checks::cost_equals_counted, checks::kernels_agree,
                  checks::gradients_agree, checks::strided_agrees, checks::same_bits})
    EXPECT_EQ(ask(c, sound()), "");
  const Op<NoAttr> op(sound(), false);
  EXPECT_TRUE(checks::has_nonzero_gradient(op, 0));
}

TEST(Planted, CostThatIsOneTooHigh) {
  auto r = sound();
  r.cost = [](Ins in, std::span<const Meta>, const NoAttr&) {
    return Cost{.mul = in[0].numel() + 1};
  };
  EXPECT_NE(ask(checks::cost_equals_counted, r), "");
}

TEST(Planted, CostInTheWrongColumn) {
  auto r = sound();
  r.cost = [](Ins in, std::span<const Meta>, const NoAttr&) { return Cost{.add = in[0].numel()}; };
  EXPECT_NE(ask(checks::cost_equals_counted, r), "");
}

TEST(Planted, BytesThatAreNotTouched) {
  auto r = sound();
  r.bytes = [](Ins in, std::span<const Meta> out, const NoAttr&) {
    Bytes b = default_bytes(in, out, {});
    b.read /= 2;
    return b;
  };
  EXPECT_NE(ask(checks::cost_equals_counted, r), "");
}

TEST(Planted, ReferenceThatLeavesAnElementUnwritten) {
  auto r = sound();
  r.kernels = {{"ref", [](Ins in, Outs out, const NoAttr&) {
                  dispatch_floating("square", in[0].dtype(), [&]<class T>() {
                    for (int64_t i = 1; i < in[0].numel(); ++i)
                      out[0].data<T>()[i] = in[0].data<T>()[i] * in[0].data<T>()[i];
                  });
                }}};
  EXPECT_NE(ask(checks::cost_equals_counted, r), "");
}

TEST(Planted, BoundBelowWhatRan) {
  auto r = sound();
  r.data_dependent = true;
  r.cost = [](Ins in, std::span<const Meta>, const NoAttr&) {
    return Cost{.mul = in[0].numel() - 1};
  };
  r.kernels = {{"ref", [](Ins in, Outs out, const NoAttr&) {
                  square_ref(in, out, {});
                  Cost c{.mul = in[0].numel()};
                  c.read = c.written = in[0].nbytes();
                  report_executed(c);
                }}};
  EXPECT_NE(ask(checks::cost_equals_counted, r).find("upper bound"), std::string::npos);
}

TEST(Planted, GradientOnePercentOff) {
  auto r = sound();
  r.backward = [](const Saved<NoAttr>& s, Ins gy) {
    return Tensors{mul(gy[0], scale(s.in(0), 2.02))};
  };
  EXPECT_NE(ask(checks::gradients_agree, r), "");
}

TEST(Planted, GradientThatIsZero) {
  auto r = sound();
  r.backward = [](const Saved<NoAttr>& s, Ins gy) {
    return Tensors{mul(gy[0], scale(s.in(0), 0))};
  };
  EXPECT_NE(ask(checks::gradients_agree, r), "");
  const Op<NoAttr> op(r, false);
  EXPECT_FALSE(checks::has_nonzero_gradient(op, 0));
}

TEST(Planted, GradientThatIgnoresTheUpstreamOne) {
  auto r = sound();
  r.backward = [](const Saved<NoAttr>& s, Ins) { return Tensors{scale(s.in(0), 2)}; };
  EXPECT_NE(ask(checks::gradients_agree, r), "");
}

TEST(Planted, BackwardThatReadsWhatItDidNotDeclare) {
  auto r = sound();
  r.saves_in = {};
  EXPECT_NE(ask(checks::gradients_agree, r).find("does not declare"), std::string::npos);
}

TEST(Planted, GradientOfTheWrongShape) {
  auto r = sound();
  r.backward = [](const Saved<NoAttr>& s, Ins gy) {
    return Tensors{sum(mul(gy[0], s.in(0)), {0}, true)};
  };
  EXPECT_NE(ask(checks::gradients_agree, r), "");
}

TEST(Planted, KernelThatIsSlightlyWrong) {
  auto r = sound();
  r.kernels.insert(r.kernels.begin(), {"fast",
                                       [](Ins in, Outs out, const NoAttr&) {
                                         for (int64_t i = 0; i < in[0].numel(); ++i)
                                           out[0].data<float>()[i] = in[0].data<float>()[i] *
                                                                     in[0].data<float>()[i] *
                                                                     1.0001f;
                                       },
                                       nullptr, nullptr, simd::Level::portable, true});
  EXPECT_NE(ask(checks::kernels_agree, r), "");
}

TEST(Planted, KernelHiddenBehindAFasterOne) {
  // The dispatched kernel is right, the one behind it is not: it has to be run too.
  auto r = sound();
  const Kernel<NoAttr> good{"first",
                            [](Ins in, Outs out, const NoAttr&) { square<float>(in, out); },
                            nullptr,
                            nullptr,
                            simd::Level::portable,
                            true};
  const Kernel<NoAttr> bad{"second",
                           [](Ins in, Outs out, const NoAttr&) {
                             square<float>(in, out);
                             out[0].data<float>()[in[0].numel() - 1] = 7;
                           },
                           nullptr,
                           nullptr,
                           simd::Level::portable,
                           true};
  r.kernels = {good, bad, {"ref", square_ref}};
  EXPECT_NE(ask(checks::kernels_agree, r), "");
}

TEST(Planted, KernelThatForgetsTheStrides) {
  auto r = sound();
  r.layout = Layout::strided;  // claims to take any strides, and walks as if they were row-major
  EXPECT_NE(ask(checks::strided_agrees, r), "");
}

TEST(Planted, CostThatDependsOnTheDevice) {
  auto r = sound();
  r.cost = [](Ins in, std::span<const Meta>, const NoAttr&) {
    return Cost{.mul = in[0].is_meta() ? 0 : in[0].numel()};
  };
  EXPECT_NE(ask(checks::meta_equals_real, r), "");
}

TEST(Planted, BitsThatDependOnTheThreads) {
  auto r = sound();
  r.kernels = {{"ref", [](Ins in, Outs out, const NoAttr&) {
                  square_ref(in, out, {});
                  if (in[0].dtype() == DType::f32)
                    out[0].data<float>()[0] += 1e-6f * static_cast<float>(num_threads());
                }}};
  EXPECT_NE(ask(checks::same_bits, r), "");
}

TEST(Planted, IncompleteRulesAreRefused) {
  auto no_ref = sound();
  no_ref.kernels = {{"fast", square_ref}};
  EXPECT_THROW(Op<NoAttr>(no_ref, false), value_error);
  auto two_samples = sound();
  two_samples.samples.pop_back();
  EXPECT_THROW(Op<NoAttr>(two_samples, false), value_error);
  // An op without a cost rule does not even compile: Required has no default.
  static_assert(!std::is_default_constructible_v<decltype(Rules<NoAttr>::cost)>);
  static_assert(!std::is_default_constructible_v<decltype(Rules<NoAttr>::shape)>);
}

}  // namespace
}  // namespace wattle
