// wattle bench snn: the fused neuron op against a loop over its steps, and products with spikes by
// events against dense ones.
#include <sstream>

#include "autograd/tape.h"
#include "core/rng.h"
#include "snn/event.h"
#include "snn/layers.h"
#include "snn/spike.h"
#include "tools/paired_bench.h"

namespace wattle::cli {
namespace {

using snn::Exec;
using snn::ExecScope;

// Forward and backward of a layer of neurons, all steps at once or one after the other.
void fused(const snn::Neuron& layer, const Tensor& x) {
  Tape tape;
  tape.watch(x);
  const Tensor s = neuron(x, {}, {}, layer.attr())[0];
  tape.gradient(s, {x}, Tensor::ones(x.shape()));
}
void by_steps(const snn::Neuron& layer, const Tensor& x) {
  Tape tape;
  tape.watch(x);
  const Shape state{x.size(1)};
  Tensor v;
  Tensors spikes;
  for (int64_t t = 0; t < x.size(0); ++t) {
    auto [s, next] = layer.step(reshape(slice(x, 0, t, t + 1), state), v);
    spikes.push_back(s);
    v = next;
  }
  tape.gradient(stack(spikes, 0), {x}, Tensor::ones(x.shape()));
}

void neurons(Bench& b) {
  const int64_t n = 1 << 16;
  for (const auto& [steps, wanted] : {std::pair<int64_t, double>{8, 3}, {32, 6}}) {
    const Tensor x = uniform({steps, n}, -1, 3);
    const snn::Neuron layer(snn::preset::spikingjelly_lif());
    b.compare(
        str("lif forward+backward T=", steps), [&] { fused(layer, x); }, "step by step",
        [&] { by_steps(layer, x); }, wanted, false);
  }
}

Tensor spikes(const Shape& shape, double rate) {
  const Tensor s = Tensor::zeros(shape, DType::spike);
  snn::scatter_spikes(s, rate);
  return s;
}

// Dense: the fastest way that there is for numbers, on the same spikes as floats.
void linears(Bench& b) {
  const Tensor w = normal({1024, 1024}), transposed = contiguous(transpose(w, 0, 1));
  for (const auto& [rate, wanted] : {std::pair<double, double>{.05, 8}, {.2, 3}}) {
    const Tensor s = spikes({1, 1024}, rate), x = cast(s, DType::f32);
    b.compare(
        str("linear 1024x1024, ", rate * 100, " % spikes"),
        [&] {
          const ExecScope way(Exec::event);
          matmul(s, transposed);
        },
        "dense", [&] { linear(x, w, {}); }, wanted, false);
  }
}

// Steps together against one after the other: weights that do not fit a cache are read once.
void steps_together(Bench& b) {
  const Tensor w = normal({6272, 2048});
  for (const double rate : {.05, .2}) {
    const Tensor s = spikes({4, 6272}, rate);
    Tensors apart;
    for (int64_t t = 0; t < 4; ++t) apart.push_back(slice(s, 0, t, t + 1));
    b.compare(
        str("linear 6272x2048, T=4, ", rate * 100, " % spikes"),
        [&] {
          const ExecScope way(Exec::event);
          matmul(s, w);
        },
        "step by step",
        [&] {
          const ExecScope way(Exec::event);
          for (const Tensor& one : apart) matmul(one, w);
        },
        1 / 1.05, false);
  }
}

void convolutions(Bench& b) {
  const Tensor w = normal({128, 128, 3, 3});
  const Tensor s = spikes({1, 128, 14, 14}, .1), x = cast(s, DType::f32);
  b.compare(
      "conv 128->128 3x3, 10 % spikes",
      [&] {
        const ExecScope way(Exec::event);
        conv2d(s, w, {}, 1, 1);
      },
      "dense", [&] { conv2d(x, w, {}, 1, 1); }, 3, false);
}

// auto against the better of both ways.
void choices(Bench& b) {
  const Tensor w = normal({784, 1000});
  for (const int64_t rows : {1, 64})
    for (const double rate : {.01, .05, .1, .2, .3, .5, 1.}) {
      const Tensor s = spikes({rows, 784}, rate);
      const auto run = [&](Exec way) {
        const ExecScope scope(way);
        matmul(s, w);
      };
      run(Exec::automatic);  // measures
      const double event = seconds([&] { run(Exec::event); });
      const double dense = seconds([&] { run(Exec::dense); });
      const Exec better = event < dense ? Exec::event : Exec::dense;
      b.compare(
          str("auto ", rows, " x 784 x 1000, ", rate * 100, " %"), [&] { run(Exec::automatic); },
          better == Exec::event ? "event" : "dense", [&] { run(better); }, 1.1, true);
    }
}

}  // namespace

// One side of bench/snn_against_peers.py.
void bench_snn_worker() {
  manual_seed(1);
  serve_orders("neuron lif|leaky|linear|conv T N steps S", [](std::istringstream& words) -> Timed {
    std::string order, kind, steps_word;
    int64_t steps = 0, n = 0;
    int runs = 0;
    words >> order >> kind >> steps >> n >> steps_word >> runs;
    if (!words || order != "neuron") return {};
    // What products by events are measured against: T rows of N numbers, 128 channels of N x N.
    if (kind == "linear") {
      const Tensor x = normal({steps, n}), w = normal({n, n});
      return {runs, [=] { linear(x, w, {}); }};
    }
    if (kind == "conv") {
      const Tensor x = normal({steps, 128, n, n}), w = normal({128, 128, 3, 3});
      return {runs, [=] { conv2d(x, w, {}, 1, 1); }};
    }
    if (kind != "lif" && kind != "leaky") return {};
    const auto layer = std::make_shared<snn::Neuron>(
        kind == "lif" ? snn::preset::spikingjelly_lif() : snn::preset::snntorch_leaky(.5));
    const Tensor x = uniform({steps, n}, -1, 3);
    return {runs, [=] { fused(*layer, x); }};
  });
}

void bench_snn(int repeats, bool as_json) {
  manual_seed(1);
  Bench b(repeats);
  neurons(b);
  linears(b);
  steps_together(b);
  convolutions(b);
  choices(b);
  b.print(as_json);
  if (!as_json) std::printf("%s", snn::crossovers().c_str());
}

}  // namespace wattle::cli
