// Neurons: published vectors to the bit, the fused op against the step form, gradients, bits.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/tape.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "neuron_values.h"
#include "snn/layers.h"
#include "snn/neuron_rule.h"
#include "snn/spike.h"

namespace wattle {
namespace {

using snn::Neuron;
namespace preset = snn::preset;

const std::vector<float> kInput{1.5, 1.5, 1.5, .25, 3, 0, 2, 1};

struct Case {
  const char* what;
  NeuronAttr attr;
  const char* spikes;
  std::vector<float> h;
};

NeuronAttr lif(bool decay_input, std::optional<double> v_reset, bool detach = false) {
  NeuronAttr a = preset::spikingjelly_lif(2, decay_input, v_reset, detach);
  a.surrogate = "atan", a.slope = 2;
  return a;
}

TEST(Neuron, PotentialsAndSpikesOfThePublishedEquations) {
  const std::vector<float> leaky{.75, .75, .75, .25, 2.5, 0, 0, .5};
  const Case cases[] = {
      {"lif hard", lif(true, 0.0), "01001010", {.75, 1.125, .75, .5, 1.75, 0, 1.0, .5}},
      {"lif soft",
       lif(true, {}),
       "01001010",
       {.75, 1.125, .8125, .53125, 1.765625, .3828125, 1.19140625, .595703125}},
      {"plain hard", lif(false, 0.0), "11101011", {1.5, 1.5, 1.5, .25, 3.125, 0, 2, 1}},
      {"plain soft",
       lif(false, {}),
       "11101111",
       {1.5, 1.75, 1.875, .6875, 3.34375, 1.171875, 2.0859375, 1.54296875}},
      {"if hard", preset::spikingjelly_if(), "11101011", {1.5, 1.5, 1.5, .25, 3.25, 0, 2, 1}},
      {"subtract",
       preset::snntorch_leaky(.5),
       "01001000",
       {.75, 1.125, .3125, .40625, 2.703125, .3515625, .17578125, .587890625}},
      {"zero",
       preset::snntorch_leaky(.5, "zero"),
       "01001000",
       {.75, 1.125, .75, .625, 2.8125, 0, 0, .5}},
  };
  for (const Case& c : cases) {
    const bool is_leaky = c.attr.charge == "leaky";
    const Tensors out = neuron(column(is_leaky ? leaky : kInput), {}, {}, c.attr);
    EXPECT_EQ(spikes_of(out[0]), c.spikes) << c.what;
    EXPECT_EQ(out[2].values<float>(), c.h) << c.what;
  }
  const Tensors soft = neuron(column(kInput), {}, {}, preset::spikingjelly_if({}));
  EXPECT_EQ(spikes_of(soft[0]), "11111111");
  EXPECT_EQ(soft[1].values<float>()[0], 2.75f);
  const Tensors none = neuron(column(leaky), {}, {}, preset::snntorch_leaky(.5, "none"));
  EXPECT_EQ(spikes_of(none[0]), "01101100");
  // Reset in the same step: the state after a spike, not the potential that caused it.
  Neuron now(preset::snntorch_leaky(.5, "subtract", false));
  const std::vector<float> mem{.75, .125, .8125, .65625, 1.828125, .9140625, .45703125, .728515625};
  std::string spikes;
  for (size_t t = 0; t < leaky.size(); ++t) {
    spikes += spikes_of(now(Tensor::from<float>({leaky[t]}, {1, 1})));
    EXPECT_EQ(now.state().values<float>()[0], mem[t]);
  }
  EXPECT_EQ(spikes, "01001000");
}

TEST(Neuron, EqualityFiresUnlessStrict) {
  const Tensor one = Tensor::ones({1, 1});
  EXPECT_EQ(spikes_of(neuron(one, {}, {}, preset::spikingjelly_if())[0]), "1");
  EXPECT_EQ(spikes_of(neuron(one, {}, {}, preset::snntorch_leaky(.5))[0]), "0");
}

TEST(Neuron, SoftResetCountsItsInput) {
  const std::pair<float, int> rates[] = {{.1f, 3}, {.25f, 8},  {.3f, 9}, {.7f, 22},
                                         {1, 32},  {1.3f, 32}, {0, 0},   {-.5f, 0}};
  for (const auto& [a, spikes] : rates) {
    const Tensor x = Tensor::full({32, 1}, a, DType::f64);
    EXPECT_EQ(sum(neuron(x, {}, {}, preset::spikingjelly_if({}))[0]).item(), spikes) << a;
  }
}

TEST(Neuron, GradientsOfThePublishedVector) {
  struct Grad {
    NeuronAttr attr;
    std::vector<double> gx;
  };
  const Grad all[] = {
      {lif(true, 0.0),
       {.30802745, -.00453536, .00930625, .03471606, .08113126, -.03605005, -.07210011, .14420022}},
      {lif(true, 0.0, true), {.30924323, 0, .01907916, .03815831, .07631662, 0, 0, .14420022}},
      {lif(true, {}),
       {.30928702, .00022956, .00343634, .02667993, .07796537, .01003382, .02540543, .19133295}},
      {lif(true, {}, true),
       {.31534351, .01220056, .02440111, .04880222, .09760445, .04783324, .09566647, .19133295}}};
  for (const Grad& g : all) {
    Tape tape;
    const Tensor x = column(kInput);
    tape.watch(x);
    const Tensor s = neuron(x, {}, {}, g.attr)[0];
    const Tensor loss = sum(mul(s, column({1, 0, 0, 0, 1, 0, 0, 1})));
    const std::vector<float> gx = tape.gradient(loss, {x})[0].values<float>();
    for (size_t t = 0; t < gx.size(); ++t) EXPECT_NEAR(gx[t], g.gx[t], 1e-6) << t;
  }
}

// A loss on the potentials: the gradient of every h by the step form, which adds it up by itself.
TEST(Neuron, PotentialsTakeGradients) {
  manual_seed(6);
  const Tensor x = uniform({5, 1, 11}, -1, 3), weight = normal({5, 11});
  const Neuron layer(preset::snntorch_leaky(.8));  // v is h
  const auto loss_of = [&](const Tensor& h) { return sum(mul(mul(h, h), weight)); };
  Tape slow;
  slow.watch(x);
  Tensor v;
  Tensors potentials;
  for (int64_t t = 0; t < 5; ++t) {
    v = layer.step(reshape(slice(x, 0, t, t + 1), {11}), v).second;
    potentials.push_back(v);
  }
  const std::vector<float> expected =
      slow.gradient(loss_of(stack(potentials, 0)), {x})[0].values<float>();
  Tape fast;
  fast.watch(x);
  const Tensor h = reshape(neuron(x, {}, {}, layer.attr())[2], {5, 11});
  const std::vector<float> got = fast.gradient(loss_of(h), {x})[0].values<float>();
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 1e-5 * (1 + std::fabs(expected[i])));
}

// The same current in every step is one plane, and its gradient a sum over the steps.
TEST(Neuron, AConstantCurrentIsReadOnce) {
  manual_seed(5);
  const Tensor x = uniform({1, 3, 700}, -1, 3), up = normal({6, 3, 700});
  const auto run = [&](bool once) {
    NeuronAttr a = preset::spikingjelly_lif(1.6);
    if (once) a.steps = 6;
    Tape tape;
    tape.watch(x);
    const Tensor in = once ? x : contiguous(expand(x, {6, 3, 700}));
    const Tensors out = neuron(in, {}, {}, a);
    const Tensor gx = tape.gradient(sum(mul(out[0], up)), {x})[0];
    return std::pair(out[2].values<float>(), gx.values<float>());
  };
  const auto [h, gx] = run(true);
  const auto [h_all, gx_all] = run(false);
  EXPECT_EQ(h, h_all);
  EXPECT_LE(worst(gx, gx_all), 1e-6);
  EXPECT_THROW(neuron(Tensor::ones({2, 3}), {}, {}, {.steps = 4}), shape_error);
}

// ---- the fused op against the step form ----

struct Result {
  std::vector<float> spikes, v;
  std::vector<std::vector<float>> grads;
};

// What a run gives, with the gradients of a loss on its spikes and its last state.
Result result(Tape& tape, const Neuron& n, const Tensor& x, const Tensor& v0, const Tensor& weight,
              const Tensor& s, const Tensor& v) {
  const Tensor loss = add(sum(mul(s, weight)), sum(v));
  Result r{s.values<float>(), v.values<float>(), {}};
  Tensors of{x, v0};
  if (n.decay) of.push_back(n.decay);
  for (const Tensor& g : tape.gradient(loss, of)) r.grads.push_back(g.values<float>());
  return r;
}

Result by_steps(const Neuron& n, const Tensor& x, const Tensor& v0, const Tensor& weight) {
  Tape tape;
  tape.watch(x), tape.watch(v0);
  if (n.decay) tape.watch(n.decay);
  Tensor v = v0;
  Tensors spikes;
  for (int64_t t = 0; t < x.size(0); ++t) {
    auto [s, next] = n.step(reshape(slice(x, 0, t, t + 1), v0.shape()), v);
    spikes.push_back(s);
    v = next;
  }
  const Tensor s = stack(spikes, 0);
  return result(tape, n, x, v0, weight, s, v);
}

Result fused(Neuron& n, const Tensor& x, const Tensor& v0, const Tensor& weight) {
  Tape tape;
  tape.watch(x), tape.watch(v0);
  if (n.decay) tape.watch(n.decay);
  n.set_state(v0);
  const Tensor s = n(x), v = n.state();
  return result(tape, n, x, v0, weight, s, v);
}

void compare(const NeuronAttr& a, bool learned, int64_t steps, int64_t n, const std::string& what) {
  Neuron layer(a, learned);
  const Tensor x = uniform({steps, n}, -1, 3), v0 = uniform({n}, -.5, 1.5);
  const Tensor weight = normal({steps, n});
  const Result slow = by_steps(layer, x, v0, weight), fast = fused(layer, x, v0, weight);
  EXPECT_EQ(fast.spikes, slow.spikes) << what;
  EXPECT_EQ(fast.v, slow.v) << what;
  for (size_t i = 0; i < slow.grads.size(); ++i)
    EXPECT_LE(worst(fast.grads[i], slow.grads[i]), 1e-5) << what << " gradient " << i;
}

TEST(Neuron, FusedEqualsItsSteps) {
  manual_seed(7);
  for (const char* charge : {"integrate", "lif", "leaky"})
    for (const char* reset : {"hard", "soft", "none", "clear"})
      for (const unsigned bits : {0u, 1u, 2u, 4u, 8u, 9u, 18u, 22u, 31u}) {
        NeuronAttr a;
        a.charge = charge, a.reset = reset, a.tau = 1.7;
        a.delayed = bits & 1, a.detach_reset = bits & 2, a.strict = bits & 4;
        a.decay_input = !(bits & 8), a.v_reset = bits & 16 ? .2 : 0;
        if (a.reset == "clear") a.delayed = a.detach_reset = true;
        for (const bool learned : {false, true}) {
          if (learned && a.charge == "integrate") continue;
          for (const int64_t steps : {1, 2, 7, 33})
            compare(a, learned, steps, 37,
                    str(charge, " ", reset, " ", static_cast<int64_t>(bits),
                        learned ? " learned" : "", " T=", steps));
        }
      }
}

// The exponential of the sigmoid surrogate, at every level this machine has.
TEST(Surrogate, ExponentialBelowZero) {
  std::vector<float> x = {0, -0.0f, -1e-30f, -86.9f, -87.5f, -104, -1e30f, -INFINITY, NAN};
  for (int i = 0; i < 40000; ++i) x.push_back(-87.0f * static_cast<float>(i) / 40000);
  x.resize((x.size() + 15) / 16 * 16, -3.0f);
  const auto check = [&]<class Isa>() {
    if (!simd::machine_has(Isa::level)) return;
    std::vector<float> y(x.size());
    Isa::call([&]<int N>() WATTLE_INLINE_BODY {
      for (size_t i = 0; i < x.size(); i += N)
        simd::store<N>(y.data() + i, snn::exp_below_zero<N>(simd::load<N>(x.data() + i)));
    });
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) ASSERT_TRUE(std::isnan(y[i]));
      else if (x[i] < -87) ASSERT_EQ(y[i], 0) << x[i];
      else ASSERT_NEAR(y[i] / std::exp(double{x[i]}), 1, 2.4e-7) << x[i];
    }
  };
  check.template operator()<simd::Portable>();
#if defined(__x86_64__)
  check.template operator()<simd::Avx2>();
  check.template operator()<simd::Avx512>();
#endif
}

TEST(Neuron, EveryLevelAndThreadCountAgrees) {
  manual_seed(8);
  const Tensor x = uniform({5, 3, 1111}, -1, 3);
  NeuronAttr a;
  a.tau = 3;
  const std::vector<float> expected = neuron(x, {}, {}, a)[0].values<float>();
  const simd::Level before = simd::level();
  const int threads = num_threads();
  for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512})
    for (int n : {1, 2}) {
      if (!simd::machine_has(l)) continue;
      simd::set_level(l), set_num_threads(n);
      EXPECT_EQ(neuron(x, {}, {}, a)[0].values<float>(), expected);
    }
  simd::set_level(before), set_num_threads(threads);
}

TEST(Neuron, BitsAreTheSpikes) {
  manual_seed(9);
  const simd::Level before = simd::level();
  for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512}) {
    if (!simd::machine_has(l)) continue;
    simd::set_level(l);
    for (const Shape& shape : {Shape{3, 1}, Shape{2, 3, 5}, Shape{4, 13}, Shape{2, 2, 16},
                               Shape{2, 3, 17}, Shape{1, 700}, Shape{2, 3, 1030}}) {
      NeuronAttr a;
      const Tensor x = uniform(shape, -1, 4);
      const Tensor s = neuron(x, {}, {}, a)[0];
      a.out = DType::spike;
      const Tensor bits = neuron(x, {}, {}, a)[0];
      EXPECT_EQ(bits.dtype(), DType::spike);
      EXPECT_EQ(bits.nbytes(), shape.numel(0, shape.rank() - 1) * ((shape.back() + 7) / 8));
      EXPECT_EQ(cast(bits, DType::f32).values<float>(), s.values<float>()) << str(shape);
      EXPECT_EQ(static_cast<double>(snn::count_spikes(bits)), sum(s).item());
    }
  }
  simd::set_level(before);
}

// i = alpha i + x, v = beta v + i, by a loop of its own; gradients by those of the step form.
TEST(Neuron, ASynapticCurrentDrivesIt) {
  manual_seed(11);
  const int64_t steps = 9, n = 33;
  const Tensor x = uniform({steps, n}, -.5, 1.5), up = normal({steps, n});
  const float alpha = .8f, beta = .7f;
  for (const std::string kind : {"subtract", "zero", "cuba"}) {
    const bool cuba = kind == "cuba";
    const preset::Synaptic attr =
        cuba ? preset::spikingjelly_cuba(.8, .7) : preset::snntorch_synaptic(.8, .7, kind);
    snn::SynapticNeuron layer(attr);
    Tape tape;
    tape.watch(x);
    const Tensor s = layer(x);
    const std::vector<float> gx = tape.gradient(sum(mul(s, up)), {x})[0].values<float>();
    std::vector<float> expected;
    std::vector<float> i(static_cast<size_t>(n)), v(static_cast<size_t>(n));
    for (int64_t t = 0; t < steps; ++t)
      for (int64_t j = 0; j < n; ++j) {
        float &ij = i[static_cast<size_t>(j)], &vj = v[static_cast<size_t>(j)];
        const bool before = !cuba && vj > 1;
        ij = ij * alpha;
        ij += x.data<float>()[t * n + j];
        vj = vj * beta;
        vj += ij;
        if (before) vj = kind == "zero" ? 0 : vj - 1;
        const bool fires = cuba ? vj >= 1 : vj > 1;
        expected.push_back(fires);
        if (cuba && fires) vj = 0;
      }
    EXPECT_EQ(s.values<float>(), expected);
    EXPECT_EQ(layer.state().values<float>(), v);
    EXPECT_EQ(layer.current().values<float>(), i);
    Tape slow;
    slow.watch(x);
    const Neuron current(attr.current), membrane(attr.membrane);
    Tensor ci, cv;
    Tensors spikes;
    for (int64_t t = 0; t < steps; ++t) {
      ci = current.step(reshape(slice(x, 0, t, t + 1), {n}), ci).second;
      auto [one, next] = membrane.step(ci, cv);
      spikes.push_back(one), cv = next;
    }
    EXPECT_LE(worst(gx, slow.gradient(sum(mul(stack(spikes, 0), up)), {x})[0].values<float>()),
              1e-5);
  }
  NeuronAttr early;
  early.reset = "clear";
  EXPECT_THROW(snn::neuron_rule(early, false), value_error);
}

TEST(Neuron, StateIsKeptUntilItIsForgotten) {
  manual_seed(10);
  const Tensor x = uniform({6, 2, 9}, -1, 3);
  Neuron n(preset::spikingjelly_lif());
  const std::vector<float> whole = n(x).values<float>();
  n.reset();
  std::vector<float> parts = n(slice(x, 0, 0, 2)).values<float>();
  for (float v : n(slice(x, 0, 2, 6)).values<float>()) parts.push_back(v);
  EXPECT_EQ(parts, whole);
  EXPECT_NE(n(x).values<float>(), whole);  // left as it was, the state shows
  n.reset();
  EXPECT_EQ(n(x).values<float>(), whole);
}

TEST(Neuron, WrongSwitchesSayWhatIsWrong) {
  const auto refused = [](NeuronAttr a, const char* text) {
    try {
      neuron(Tensor::ones({2, 3}), {}, {}, a);
      ADD_FAILURE() << text;
    } catch (const value_error& e) {
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
    }
  };
  refused({.charge = "lof"}, "charge: found 'lof', expected integrate, lif or leaky");
  refused({.tau = 1}, "tau");
  refused({.reset = "zero"}, "reset: found 'zero', expected hard, soft, none or clear");
  refused({.surrogate = "atn"}, "expected one of atan, sigmoid");
  EXPECT_THROW(neuron(Tensor::ones({2, 3}), Tensor::ones({2}), {}, {}), shape_error);
  EXPECT_THROW(neuron(Tensor::ones({2}), {}, {}, {.out = DType::spike}), shape_error);
  EXPECT_THROW(neuron(Tensor::ones({2, 3}), {}, Tensor::ones({1}), {.charge = "integrate"}),
               value_error);
  EXPECT_EQ(neuron(Tensor::ones({0, 3}), {}, {}, {})[1].numel(), 3);
}

// Norse's step, written out: the current jumps, moves the potential, and decays.
TEST(SynapticNeuron, NorseStepByStep) {
  manual_seed(9);
  constexpr int64_t steps = 40, n = 37;
  const Tensor x = uniform({steps, n}, -.5, 1.5);
  snn::SynapticNeuron layer(snn::preset::norse_lif());
  const std::vector<float> spikes = layer(x).values<float>(), in = x.values<float>();
  const float ds = .001F * 200.F, dm = .001F * 100.F;
  std::vector<float> v(n), i(n);
  int fired = 0;
  for (size_t t = 0; t < steps; ++t)
    for (size_t k = 0; k < n; ++k) {
      const float jump = i[k] + in[t * n + k];
      const float dv = dm * ((0.F - v[k]) + jump);
      const float h = v[k] + dv, di = -ds * jump;
      i[k] = jump + di;
      const float z = h - 1.F > 0.F ? 1.F : 0.F;
      v[k] = (1.F - z) * h;
      ASSERT_EQ(spikes[t * n + k], z) << t << " " << k;
      fired += z > 0;
    }
  EXPECT_GT(fired, 20);
}

}  // namespace
}  // namespace wattle
