#include "green/snn_account.h"

#include <algorithm>
#include <cmath>

#include "core/counters.h"
#include "core/recorder.h"
#include "snn/event.h"
#include "snn/spike.h"

namespace wattle::green {
namespace {

// 1 where x > 0, as spikes; what a net feeds its layers is never below 0.
Tensor not_zero(const Tensor& x) {
  if (x.dtype() == DType::spike) return x;
  return cast(fire(x, {.strict = true}), DType::spike);
}

// Additions of a layer with these inputs: one for each weight that meets a spike.
int64_t additions(const nn::Module& layer, const Tensor& spikes) {
  const snn::ExecScope events(snn::Exec::event);
  const int64_t before = counters().total().executed.add;
  if (const auto* c = dynamic_cast<const nn::Conv2d*>(&layer)) {
    Conv2dAttr a;
    a.padding = c->options().padding;
    conv2d(spikes, c->weight, {}, a);
  } else {
    // A row of weights for each input, as events read them.
    const Tensor& w = dynamic_cast<const nn::Linear&>(layer).weight;
    matmul(spikes, contiguous(transpose(w, 0, 1)));
  }
  return counters().total().executed.add - before;
}

// Operations of the activation's op in a layer's scope, from the counters.
void add_activation(SnnLayer& l, double images) {
  for (const Row& r : counters().rows()) {
    const std::string_view op = r.key.op->name;
    if (!counters().path(r.key.scope).ends_with(l.name)) continue;
    if (op != "relu" && op != "neuron" && op != "fake_quantize_affine") continue;
    const Cost& c = r.cost;
    l.neuron_add += static_cast<double>(c.add + c.mac) / images;
    l.neuron_mul += static_cast<double>(c.mul + c.mac) / images;
    l.neuron_cmp += static_cast<double>(c.cmp) / images;
  }
}

// Inputs with any spike in the steps; x [T,N,...].
double share_with_any(const Tensor& x) {
  const Tensor numbers = cast(x, DType::f32);
  const Tensor most = fire(sum(numbers, {0}), {.strict = true});
  return mean(most).item();
}

double silent_share(const Tensor& out, bool steps) {
  Tensor x = cast(out, DType::f32);
  x = sum(x, {0});
  if (steps) x = sum(x, {0});
  return 1 - mean(fire(x, {.strict = true})).item();
}

}  // namespace

double sram_access_pj(double bytes) {
  constexpr double size[] = {0, 8192, 32768, 1048576}, pj[] = {0, 10, 20, 100};
  for (int i = 1; i < 4; ++i)
    if (bytes <= size[i])
      return pj[i - 1] + (pj[i] - pj[i - 1]) * (bytes - size[i - 1]) / (size[i] - size[i - 1]);
  return pj[3];
}

std::vector<SnnLayer> snn_layers(SnnNet& net, const Tensor& images) {
  const NoRecord off;
  const bool training = net.training();
  const Counters saved = counters();
  net.eval();
  std::vector<SnnTrace> trace;
  net.trace = &trace;
  counters().clear();
  net(images);
  net.trace = nullptr;
  const std::vector<nn::Module*> modules = net.weighted();
  const char* const names[] = {"conv1", "conv2", "fc1", "fc2"};
  const double n = static_cast<double>(images.size(0));
  std::vector<SnnLayer> out;
  for (size_t i = 0; i < modules.size(); ++i) {
    SnnLayer l;
    l.name = names[i];
    l.is_conv = i < 2;
    const Tensor& x = trace[i].in;
    const bool spikes = net.activation().kind == SnnActivation::spikes;
    l.of_spikes = spikes && i > 0;
    l.steps = l.of_spikes ? x.size(0) : 1;
    l.inputs = x.numel() / l.steps / images.size(0);
    l.weights = modules[i]->named_parameters()[0].tensor.numel();
    add_activation(l, n);
    if (trace[i].out) {
      l.fires = spikes;
      l.neuron_steps = spikes ? trace[i].out.size(0) : 1;
      l.neurons = trace[i].out.numel() / l.neuron_steps / images.size(0);
      l.silent = silent_share(trace[i].out, spikes);
    }
    out.push_back(l);
  }
  // Counted apart from the pass above, whose rows have been read.
  for (size_t i = 0; i < modules.size(); ++i) {
    SnnLayer& l = out[i];
    const Tensor& x = trace[i].in;
    const int64_t rows = l.steps * images.size(0);
    Tensor in = cast(x, DType::f32);
    in = l.is_conv ? reshape(in, {rows, x.size(-3), x.size(-2), x.size(-1)})
                   : reshape(in, {rows, l.inputs});
    const Tensor on = not_zero(in);
    l.ops = static_cast<double>(additions(*modules[i], on)) / n;
    Shape one = in.shape();
    one[0] = 1;
    l.dense_ops =
        static_cast<double>(additions(*modules[i], cast(Tensor::full(one, 1), DType::spike)));
    l.rate = static_cast<double>(snn::count_spikes(on)) / static_cast<double>(in.numel());
    l.any = l.of_spikes ? share_with_any(x) : l.rate;
    l.outputs =
        i + 1 < modules.size() ? out[i].neurons : modules[i]->named_parameters()[1].tensor.numel();
  }
  counters() = saved;
  net.train(training);
  return out;
}

const char* name(SnnTier t) {
  switch (t) {
    case SnnTier::compute: return "E0, compute only";
    case SnnTier::buffers: return "E1, buffers";
    default: return "E1, weights from DRAM";
  }
}

SnnBytes snn_bytes(const SnnLayer& l, const SnnWidths& w, int64_t batch) {
  SnnBytes b;
  const double n = static_cast<double>(batch), weight = w.weight_bits / 8.0;
  const double held = static_cast<double>(l.weights) * weight;
  // A row of weights is fetched once for a batch, if any of its inputs is on in any step; a
  // convolution needs all of its few.
  const double rows = l.is_conv ? 1 : 1 - std::pow(1 - l.any, n);
  b.weights = held * rows / n;
  const double in = l.of_spikes ? static_cast<double>(l.steps) / 8
                                : (l.name == "conv1" ? 8 : w.activation_bits) / 8.0;
  b.in = static_cast<double>(l.inputs) * in;
  const double out = l.neurons == 0 ? 4
                     : l.fires      ? static_cast<double>(l.neuron_steps) / 8
                                    : w.activation_bits / 8.0;
  b.out = static_cast<double>(l.outputs) * out;
  // A potential is read and written in every step. Spikes are bit maps: no indices.
  if (l.fires) b.state = 2 * 4 * static_cast<double>(l.neuron_steps * l.neurons);
  return b;
}

double snn_layer_pj(const SnnLayer& l, const SnnWidths& w, SnnTier tier, int64_t batch,
                    const SnnFactors& f) {
  const energy::Table& t = energy::horowitz45();
  const energy::TableRow& wide = *t.find(w.integers() ? "i32" : "f32");
  const double add = static_cast<double>(wide.add_fj) * 1e-3;
  const double product = static_cast<double>((w.integers() ? *t.find("i8") : wide).mul_fj) * 1e-3;
  double pj = l.ops * (l.of_spikes ? f.ac * add : f.mac * (add + product));
  pj += f.ac * (l.neuron_add * add + l.neuron_cmp * static_cast<double>(wide.cmp_fj) * 1e-3);
  pj += f.mac * l.neuron_mul * static_cast<double>(wide.mul_fj) * 1e-3;
  if (tier == SnnTier::compute) return pj;
  const SnnBytes b = snn_bytes(l, w, batch);
  const auto priced = [](double moved, double held) { return moved * sram_access_pj(held) / 8; };
  const double held = static_cast<double>(l.weights) * w.weight_bits / 8;
  const double dram = static_cast<double>(t.dram64_lo_fj + t.dram64_hi_fj) / 2 * 1e-3 / 8;
  double moved = tier == SnnTier::dram ? b.weights * dram : priced(b.weights, held);
  moved += priced(b.in, b.in) + priced(b.out, b.out);
  moved += priced(b.state, 4 * static_cast<double>(l.neurons));
  return pj + f.bytes * moved;
}

double snn_pj(const std::vector<SnnLayer>& net, const SnnWidths& w, SnnTier tier, int64_t batch,
              const SnnFactors& f) {
  double pj = 0;
  for (const SnnLayer& l : net) pj += snn_layer_pj(l, w, tier, batch, f);
  return pj;
}

double snn_bit_budget(const std::vector<SnnLayer>& net, const SnnWidths& w) {
  double bits = 0;
  for (const SnnLayer& l : net)
    bits += l.ops * w.weight_bits * (l.of_spikes ? 1 : l.name == "conv1" ? 8 : w.activation_bits);
  return bits;
}

std::optional<double> break_even_rate(const SnnLayer& spikes, const SnnWidths& ws,
                                      const SnnLayer& numbers, const SnnWidths& wn, SnnTier tier,
                                      int64_t batch) {
  if (spikes.rate <= 0) return {};
  const double goal = snn_layer_pj(numbers, wn, tier, batch);
  const auto at = [&](double rate) {
    SnnLayer l = spikes;
    const double factor = rate / spikes.rate;
    l.rate = rate, l.ops *= factor, l.any = std::min(1.0, l.any * factor);
    return snn_layer_pj(l, ws, tier, batch);
  };
  if (at(0) >= goal) return {};
  double low = 0, high = 2;
  if (at(high) < goal) return high;
  for (int i = 0; i < 60; ++i) {
    const double mid = (low + high) / 2;
    (at(mid) < goal ? low : high) = mid;
  }
  return low;
}

}  // namespace wattle::green
