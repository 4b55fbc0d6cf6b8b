// What the studies train, on a device as on the host (part of cuda_test).
#include <gtest/gtest.h>

#include "autograd/tape.h"
#include "core/rng.h"
#include "green/accuracy.h"
#include "green/lm_trainer.h"
#include "green/moe_study.h"
#include "green/snn_nets.h"
#include "ops/ops.h"
#include "snn/ops.h"
#include "tests/cuda_cases.h"
#include "tests/op_checks.h"

namespace wattle {
namespace {

// A step of text: the losses of some steps and of held-out text, and the load of every expert.
TEST(Cuda, LanguageModelsTrainThere) {
  NEEDS_DEVICE();
  const auto text = std::make_shared<green::TextStream>();
  for (int i = 0; i < 20000; ++i)
    (i < 18000 ? text->train : text->validation).push_back(static_cast<uint8_t>(i * i % 97 + 20));
  for (const char* arm : {"dense2", "switch", "hash", "m4", "auxfree"}) {
    struct Result {
      std::vector<double> losses;
      std::vector<std::vector<int64_t>> load;
    };
    const auto train = [&](const char* device) {
      green::LmTrainOptions o;
      o.model = green::moe_arm(arm).model;
      o.steps = 4, o.batch = 2, o.length = 32, o.warmup = 2, o.device = device;
      green::LmTrainer t(o, text);
      Result r;
      while (const auto loss = t.step()) r.losses.push_back(*loss);
      const green::LmEvaluation e = green::evaluate_lm(t.model(), text->validation, 512);
      r.losses.push_back(e.loss);
      for (const moe::RouterStats& s : e.layers) r.load.push_back(s.load);
      if (!e.layers.empty())
        r.losses.push_back(green::probe_model(t.model(), text->validation, 128).back().loss);
      return r;
    };
    const Result here = train("cpu"), there = train("cuda");
    ASSERT_EQ(there.losses.size(), here.losses.size()) << arm;
    for (size_t i = 0; i < here.losses.size(); ++i)
      EXPECT_NEAR(there.losses[i], here.losses[i], 1e-3 * here.losses[i]) << arm << ", " << i;
    ASSERT_EQ(there.load.size(), here.load.size()) << arm;
    for (size_t l = 0; l < here.load.size(); ++l)
      for (size_t e = 0; e < here.load[l].size(); ++e)  // a tie may fall otherwise
        EXPECT_NEAR(there.load[l][e], here.load[l][e], 8) << arm << ", layer " << l;
  }
}

// A step of every arm of the study of spiking nets: its loss and gradients.
TEST(Cuda, SpikingNetsTrainThere) {
  NEEDS_DEVICE();
  manual_seed(2);
  const Tensor images = uniform({6, 1, 8, 8}, 0, 1);
  const Tensor labels = Tensor::from<int64_t>({0, 1, 2, 3, 1, 2}, {6});
  using A = green::SnnActivation;
  for (const A a : {A{}, A{A::quantized, 4, 3}, A{A::spikes, 3, 2}}) {
    const auto step = [&](Device d, Tensors* grads) {
      manual_seed(4);
      green::SnnNet net({4, 6, 16}, a, {"tiny", 1, 8, 4});
      net.hold_weights_in_int8(a.kind == A::quantized);
      net.to(d);
      Tape tape;
      const Tensor loss = cross_entropy(net(images.to(d)), labels.to(d));
      tape.backward(loss);
      for (const nn::Named& p : net.named_parameters()) grads->push_back(p.tensor.grad());
      return double{loss.item()};
    };
    Tensors here, there;
    const double loss = step(cpu, &here);
    EXPECT_NEAR(step(cuda::device(), &there), loss, 1e-5 * loss) << a.kind;
    ASSERT_EQ(there.size(), here.size());
    for (size_t i = 0; i < here.size(); ++i)
      EXPECT_LT(checks::relative_error(there[i].to(cpu), here[i]), 1e-3) << a.kind << ", " << i;
  }
}

// Spikes as bits: the host's bits, also where a row ends within a byte.
TEST(Cuda, PackedSpikesAreTheHosts) {
  NEEDS_DEVICE();
  manual_seed(6);
  for (const Shape& s : {Shape{5, 3, 21}, Shape{4, 2, 6, 3, 8}}) {
    const Tensor x = normal(s);
    NeuronAttr a;
    a.charge = "lif", a.tau = 2, a.reset = "soft", a.out = DType::spike;
    const Tensors here = neuron(x, {}, {}, a), there = neuron(x.to(cuda::device()), {}, {}, a);
    EXPECT_EQ(there[0].dtype(), DType::spike);
    EXPECT_EQ(cast(there[0].to(cpu), DType::f32).values<float>(),
              cast(here[0], DType::f32).values<float>());
    EXPECT_LT(checks::relative_error(there[1].to(cpu), here[1]), 1e-6);
  }
}

}  // namespace
}  // namespace wattle
