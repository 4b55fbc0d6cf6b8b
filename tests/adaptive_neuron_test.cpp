// Neurons with a second state or a gain: vectors worked out by hand, the fused op against the step
// form over the grid of its switches, pieces of a sequence, every level and number of threads.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/tape.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "neuron_values.h"
#include "snn/layers.h"

namespace wattle {
namespace {

using snn::AdaptiveNeuron;
namespace preset = snn::preset;

// Exact in binary fractions: decay 1/2, rho 1/2, beta 1.
TEST(AdaptiveNeuron, EverySpikeLiftsTheThreshold) {
  AdaptiveAttr a;
  a.decay = .5, a.rho = .5, a.beta = 1;
  const Tensors out = adaptive_neuron(column({1, 1, 1, 2, 0, 3}), {}, {}, {}, a);
  // v 1 | .5 + 1 - 1 = .5 | .25 + 1 = 1.25 | .625 + 2 = 2.625 | 1.3125 - 1 = .3125 | .15625 + 3
  // w 0 | 1 | .5 | .25 | .125 + 1 = 1.125 | .5625
  EXPECT_EQ(out[3].values<float>(),
            (std::vector<float>{1, -.5, .75, 2.375, .3125f - 1.125f, 3.15625f - .5625f}));
  EXPECT_EQ(spikes_of(out[0]), "100101");
  EXPECT_EQ(out[1].values<float>()[0], 3.15625f);
  EXPECT_EQ(out[2].values<float>()[0], .5625f);
}

// tau 2, v_rest 0, v_c 1, a0 1: h = v + (x + v (v - 1) - w) / 2; w += (a h - w) / 2 + b s.
TEST(AdaptiveNeuron, IzhikevichByHand) {
  AdaptiveAttr a = preset::spikingjelly_izhikevich(2, .5, .25);
  a.v_rest = 0, a.v_c = 1;
  const Tensors out = adaptive_neuron(column({1, 3, 1}), {}, {}, {}, a);
  // h .5, w .125 | h .5 + (3 - .25 - .125) / 2 = 1.8125 fires, w .125 + (.90625 - .125) / 2 + .25
  const float w = .125f + .390625f + .25f, h = (1 - w) / 2;
  EXPECT_EQ(out[3].values<float>(), (std::vector<float>{.5, 1.8125, h}));
  EXPECT_EQ(spikes_of(out[0]), "010");
  EXPECT_EQ(out[2].values<float>()[0], w + (h / 2 - w) / 2);
}

TEST(AdaptiveNeuron, TheGainScalesThePotential) {
  const AdaptiveAttr plain = preset::spikingjelly_klif(2, true, false, {});
  const Tensor gain = Tensor::full({1}, 2);
  const Tensors out = adaptive_neuron(column({.5, 2, -1}), {}, {}, gain, plain);
  // c .25, h .5 | c .5 + .75 = 1.25, h 2.5 fires, v 1.5 | c .25, h .5
  EXPECT_EQ(out[3].values<float>(), (std::vector<float>{.5, 2.5, .5}));
  EXPECT_EQ(spikes_of(out[0]), "010");
  AdaptiveAttr scaled = plain;
  scaled.scale_reset = true;
  // c .25, h .5, v .25 | c 1.125, h 2.25 fires, v .625 | c -.1875, h 0
  const Tensors s = adaptive_neuron(column({.5, 2, -1}), {}, {}, gain, scaled);
  EXPECT_EQ(s[3].values<float>(), (std::vector<float>{.5, 2.25, 0}));
  EXPECT_EQ(s[2].numel(), 0);
  // A gain of 1 is the plain LIF while nothing is negative.
  const Tensor x = uniform({9, 33}, 0, 3);
  EXPECT_EQ(adaptive_neuron(x, {}, {}, {}, preset::spikingjelly_klif(1.7))[0].values<float>(),
            neuron(x, {}, {}, preset::spikingjelly_lif(1.7))[0].values<float>());
}

// ---- the fused op against the step form ----

using State = AdaptiveNeuron::State;

struct Result {
  std::vector<std::vector<float>> values, grads;
};

// A loss on spikes and last states, with the gradients of everything that goes in.
Result result(Tape& tape, const AdaptiveNeuron& n, const Tensor& x, const State& first,
              const Tensor& weight, const Tensor& s, const State& last) {
  Tensor loss = add(sum(mul(s, weight)), sum(mul(last.v, last.v)));
  Tensors of{x, first.v};
  Result r;
  r.values = {s.values<float>(), last.v.values<float>()};
  if (last.w) {
    loss = add(loss, sum(mul(last.w, last.w)));
    of.push_back(first.w);
    r.values.push_back(last.w.values<float>());
  }
  if (n.gain) of.push_back(n.gain);
  for (const Tensor& g : tape.gradient(loss, of)) r.grads.push_back(g.values<float>());
  return r;
}

void watch(Tape& tape, const AdaptiveNeuron& n, const Tensor& x, const State& s) {
  tape.watch(x), tape.watch(s.v);
  if (s.w) tape.watch(s.w);
  if (n.gain) tape.watch(n.gain);
}

void compare(const AdaptiveAttr& a, int64_t steps, int64_t n, const std::string& what) {
  AdaptiveNeuron layer(a);
  if (layer.gain) layer.gain.data<float>()[0] = 1.3f;
  // Weights of one sign: the gain's gradient is a sum over all neurons, and should not cancel.
  const Tensor x = uniform({steps, n}, -1, 3), weight = uniform({steps, n}, 0, 2);
  State first{uniform({n}, -.5, 1.5), {}};
  if (!layer.gain) first.w = uniform({n}, -.2, .6);
  Result slow, fast;
  {
    Tape tape;
    watch(tape, layer, x, first);
    State s = first;
    Tensors spikes;
    for (int64_t t = 0; t < steps; ++t) {
      auto [spike, next] = layer.step(reshape(slice(x, 0, t, t + 1), {n}), s);
      spikes.push_back(spike);
      s = next;
    }
    slow = result(tape, layer, x, first, weight, stack(spikes, 0), s);
  }
  {
    Tape tape;
    watch(tape, layer, x, first);
    layer.set_state(first);
    const Tensor s = layer(x);
    fast = result(tape, layer, x, first, weight, s, layer.state());
  }
  EXPECT_EQ(fast.values, slow.values) << what;
  for (size_t i = 0; i < slow.grads.size(); ++i)
    EXPECT_LE(worst(fast.grads[i], slow.grads[i]), 1e-5) << what << " gradient " << i;
}

TEST(AdaptiveNeuron, FusedEqualsItsSteps) {
  manual_seed(17);
  for (const char* kind : {"klif", "alif", "izhikevich"})
    for (const char* reset : {"hard", "soft"})
      for (unsigned bits = 0; bits < 16; ++bits) {
        AdaptiveAttr a;
        a.kind = kind, a.reset = reset, a.tau = 1.7, a.tau_w = 3, a.a = .4, a.b = .3;
        a.detach_reset = bits & 1, a.strict = bits & 2;
        a.v_reset = bits & 4 ? .2 : 0, a.decay_input = !(bits & 4);
        a.scale_reset = bits & 8, a.rho = .8;
        if (a.reset == "soft") a.a0 = .1;  // subtracting does not hold back a square
        if (a.kind == "alif" && a.reset == "hard") continue;
        if (a.scale_reset && a.kind != "klif") continue;
        for (const int64_t steps : {1, 2, 7, 33})
          compare(a, steps, 37,
                  str(kind, " ", reset, " ", static_cast<int64_t>(bits), " T=", steps));
      }
}

// h takes gradients of its own: those of spikes whose surrogate is 1.
TEST(AdaptiveNeuron, PotentialsTakeGradients) {
  manual_seed(18);
  const Tensor x = uniform({6, 21}, -1, 3), up = normal({6, 21});
  for (const char* kind : {"klif", "alif", "izhikevich"}) {
    AdaptiveAttr a;
    a.kind = kind, a.surrogate = "straight_through", a.a = .4, a.b = .3;
    std::vector<float> by[2];
    for (const int i : {0, 1}) {
      Tape tape;
      tape.watch(x);
      const Tensors out = adaptive_neuron(x, {}, {}, {}, a);
      by[i] = tape.gradient(sum(mul(out[i == 0 ? 0 : 3], up)), {x})[0].values<float>();
    }
    EXPECT_LE(worst(by[0], by[1]), 1e-6) << kind;
  }
}

TEST(AdaptiveNeuron, PiecesOfASequenceAreTheWhole) {
  manual_seed(19);
  const Tensor x = uniform({8, 50}, -1, 3);
  for (const AdaptiveAttr& a : {preset::bellec_alif(5, 9), preset::spikingjelly_klif(),
                                preset::spikingjelly_izhikevich(2, .3, .2)}) {
    AdaptiveNeuron whole(a), parts(a);
    const std::vector<float> all = whole(x).values<float>();
    std::vector<float> got;
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 3}, {3, 8}})
      for (float s : parts(slice(x, 0, begin, end)).values<float>()) got.push_back(s);
    EXPECT_EQ(got, all);
    EXPECT_EQ(parts.state().v.values<float>(), whole.state().v.values<float>());
  }
}

TEST(AdaptiveNeuron, EveryLevelAndThreadCountAgrees) {
  manual_seed(20);
  const Tensor x = uniform({5, 3, 1111}, -1, 3);
  const AdaptiveAttr a = preset::spikingjelly_izhikevich(3, .3, .2);
  const std::vector<float> expected = adaptive_neuron(x, {}, {}, {}, a)[0].values<float>();
  const simd::Level before = simd::level();
  const int threads = num_threads();
  for (const simd::Level l : {simd::Level::portable, simd::Level::avx2, simd::Level::avx512})
    for (int n : {1, 2}) {
      if (!simd::machine_has(l)) continue;
      simd::set_level(l), set_num_threads(n);
      EXPECT_EQ(adaptive_neuron(x, {}, {}, {}, a)[0].values<float>(), expected);
    }
  simd::set_level(before), set_num_threads(threads);
}

TEST(AdaptiveNeuron, SaysWhatIsWrong) {
  const Tensor x = Tensor::ones({2, 3});
  EXPECT_THROW(adaptive_neuron(x, {}, {}, {}, {.kind = "lif"}), value_error);
  EXPECT_THROW(adaptive_neuron(x, {}, {}, {}, {.reset = "hard"}), value_error);  // alif subtracts
  EXPECT_THROW(adaptive_neuron(x, {}, {}, {}, {.kind = "klif", .tau = 1}), value_error);
  EXPECT_THROW(adaptive_neuron(x, {}, {}, {}, {.scale_reset = true}), value_error);
  EXPECT_THROW(adaptive_neuron(x, {}, {}, Tensor::ones({1}), {}), value_error);
  EXPECT_THROW(adaptive_neuron(x, {}, Tensor::ones({3}), {}, {.kind = "klif"}), shape_error);
  EXPECT_THROW(adaptive_neuron(x, Tensor::ones({2}), {}, {}, {}), shape_error);
}

}  // namespace
}  // namespace wattle
